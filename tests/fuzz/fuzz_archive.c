/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Archives: unpacked as a checkpoint, and applied to a root file system. Bytes alone would rarely pass a tar's
 * checksums, so the input is mostly a list of entries to build a tar from (and then bytes to spoil in it); if its first
 * byte is 0xff, the rest is the archive itself. Whatever it is: nothing outside the directories changes.
 */
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/path.h"
#include "oci/archive_extract.h"
#include "oci/rootfs_diff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ENTRIES_MAX 16
#define SENTINEL "untouched"
#define BYTES_MAX ((uint64_t)16 << 20)

static const char *const names[] = {
    "checkpoint/inventory.img",
    "inventory.img",
    "config.dump",
    "rootfs-diff.tar",
    "checkpoint",
    "checkpoint/",
    "./",
    "checkpoint/pages-1.img",
    "checkpoint/sub/x.img",
    "..",
    "../outside/file",
    "/etc/x",
    "volumes/v",
    "out",
    "out/file",
    "out/.wh.file",
    "dir",
    "dir/file",
    "dir/.wh..wh..opq",
    "dir/.wh.file",
    "link",
    "link/file",
    ".wh..wh..opq",
    ".wh...",
    "a/b/c/d",
    "a",
    "a/b",
    "deleted.files",
    "dir/../x",
    "\xff\xfe",
    "\xc3\xa9.img",
    "stats-dump",
};
static const unsigned types[] = {AE_IFREG, AE_IFREG, AE_IFREG, AE_IFDIR, AE_IFLNK, AE_IFIFO, AE_IFCHR, AE_IFBLK};

struct input {
    const uint8_t *data;
    size_t size;
};

static void require(bool good) {
    if (!good)
        abort();
}

static unsigned take(struct input *in) {
    if (in->size == 0)
        return 0;
    in->size--;
    return *in->data++;
}

static const char *take_name(struct input *in) {
    return names[take(in) % ARRAY_SIZE(names)];
}

static void add_entry(struct archive *a, struct input *in) {
    struct archive_entry *e = archive_entry_new();
    unsigned type = types[take(in) % ARRAY_SIZE(types)], how = take(in);
    size_t len = type == AE_IFREG ? MIN((size_t)take(in) * 8, in->size) : 0;
    archive_entry_copy_pathname(e, take_name(in));
    archive_entry_set_filetype(e, type);
    archive_entry_set_perm(e, take(in) * 16);
    archive_entry_set_uid(e, how & 1 ? 0 : 1000);
    archive_entry_set_mtime(e, take(in), 0);
    archive_entry_set_rdevmajor(e, how >> 6);
    len = MIN(len, in->size);
    archive_entry_set_size(e, (la_int64_t)len);
    if (type == AE_IFREG && how % 8 == 1)
        archive_entry_copy_hardlink(e, take_name(in));
    if (type == AE_IFLNK)
        archive_entry_copy_symlink(e, how & 2 ? take_name(in) : "../outside");
    if (type == AE_IFREG && how % 8 == 3) {
        archive_entry_set_size(e, (la_int64_t)1 << (take(in) % 63));
        archive_entry_sparse_add_entry(e, take(in), take(in));
    }
    if (how % 8 == 5)
        archive_entry_xattr_add_entry(e, how & 16 ? "user.x" : "security.capability", in->data, MIN(in->size, 20UL));
    len = MIN(len, in->size); /* what is missing becomes zeros */
    if (archive_write_header(a, e) >= ARCHIVE_WARN && len) {
        archive_write_data(a, in->data, len);
        in->data += len;
        in->size -= len;
    }
    archive_entry_free(e);
}

static la_ssize_t on_bytes(struct archive *a, void *userdata, const void *data, size_t len) {
    (void)a;
    require(fd_write_all(*(int *)userdata, data, len) == 0);
    return (la_ssize_t)len;
}

/* Returns a memfd with the archive. */
static int build(struct input *in) {
    int fd = memfd_create("archive", MFD_CLOEXEC);
    unsigned form = take(in);
    require(fd >= 0);
    if (form == 0xff) {
        require(fd_write_all(fd, in->data, in->size) == 0);
        return fd;
    }
    struct archive *a = archive_write_new();
    archive_write_add_filter(a, form % 8 == 0   ? ARCHIVE_FILTER_GZIP
                                : form % 8 == 1 ? ARCHIVE_FILTER_ZSTD
                                                : ARCHIVE_FILTER_NONE);
    archive_write_set_format_pax_restricted(a);
    archive_write_set_bytes_in_last_block(a, 1);
    require(archive_write_open(a, &fd, NULL, on_bytes, NULL) == ARCHIVE_OK);
    for (unsigned n = 1 + take(in) % ENTRIES_MAX; n && in->size; n--)
        add_entry(a, in);
    archive_write_close(a);
    archive_write_free(a);
    for (unsigned n = form >> 6; n; n--) {
        uint8_t b = (uint8_t)take(in);
        off_t size = lseek(fd, 0, SEEK_END);
        require(pwrite(fd, &b, 1, (off_t)(take(in) << 8 | take(in)) % size) == 1);
    }
    return fd;
}

struct dirs {
    int top, outside, root, out;
};

static void make(int at, const char *name, int *ret) {
    require(mkdirat(at, name, 0755) == 0);
    *ret = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    require(*ret >= 0);
}

static void make_file(int at, const char *name, const char *text) {
    cleanup_fd int fd = openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    require(fd >= 0 && fd_write_all(fd, text, strlen(text)) == 0);
}

static struct dirs *work_dirs(void) {
    static struct dirs d = {.top = -1};
    if (d.top < 0) {
        char path[] = "/dev/shm/stasis-fuzz-XXXXXX"; /* memory is faster */
        require(mkdtemp(path) != NULL);
        d.top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        require(d.top >= 0);
        make(d.top, "outside", &d.outside);
        make_file(d.outside, "file", SENTINEL);
    }
    make(d.top, "root", &d.root);
    make(d.top, "out", &d.out);
    int dir;
    make(d.root, "dir", &dir);
    make_file(dir, "file", "x");
    close(dir);
    require(symlinkat("../outside", d.root, "out") == 0);
    return &d;
}

static unsigned count(int at) {
    int fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    require(fd >= 0);
    cleanup_dir DIR *dir = fdopendir(fd);
    unsigned n = 0;
    for (const struct dirent *e; (e = readdir(dir));)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    return n;
}

static void check_outside(const struct dirs *d) {
    char text[32] = "";
    struct stat st;
    cleanup_fd int fd = openat(d->outside, "file", O_RDONLY | O_CLOEXEC);
    require(fd >= 0 && fstat(fd, &st) == 0 && st.st_nlink == 1 && (st.st_mode & 07777) == 0600);
    require(read(fd, text, sizeof(text)) == (ssize_t)strlen(SENTINEL) && strcmp(text, SENTINEL) == 0);
    require(count(d->outside) == 1 && count(d->top) == 3);
}

/* Only regular files of mode 0600, and as many as it says. */
static void check_unpacked(const struct dirs *d, const struct archive_contents *c) {
    cleanup_fd int fd = openat(d->out, ARCHIVE_CHECKPOINT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    require(fd >= 0 && count(fd) == c->n_images && faccessat(fd, ARCHIVE_INVENTORY, F_OK, 0) == 0);
    require(count(d->out) ==
            1U + c->has_config + c->has_spec + c->has_rootfs_diff + c->has_deleted + c->has_stats + c->has_log);
    cleanup_dir DIR *dir = fdopendir(dup(fd));
    struct stat st;
    for (const struct dirent *e; (e = readdir(dir));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            require(fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_mode == (S_IFREG | 0600));
}

/* Whatever it does to the root, and where it fails, can be taken back. */
static void change_and_take_back(const struct dirs *d, int fd, const struct input *in) {
    struct rootfs_undo *u = NULL;
    struct stat st;
    cleanup_free char *privileged = NULL;
    int checked = rootfs_diff_check(fd, &privileged, NULL);
    require(lseek(fd, 0, SEEK_SET) == 0);
    require(rootfs_undo_begin(d->out, d->root, &u, NULL) == 0);
    int r = rootfs_diff_apply(fd, d->root, u, NULL, NULL);
    require(checked == 0 || r < 0); /* what the check refuses is never applied */
    (void)rootfs_diff_delete((const char *)in->data, in->size, d->root, u, NULL);
    check_outside(d);
    require(rootfs_undo_back(u, NULL) == 0);
    rootfs_undo_free(u);
    require(count(d->root) == 2 && fstatat(d->root, "dir/file", &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size == 1 &&
            S_ISREG(st.st_mode) && st.st_nlink == 1);
    require(fstatat(d->root, "dir", &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & 07777) == 0755 && st.st_nlink == 2);
    require(fstatat(d->root, "out", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode));
    check_outside(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    struct dirs *d = work_dirs();
    char path[64];
    cleanup_archive_contents struct archive_contents c = {0};
    cleanup_strv struct strv notes = {0};
    const struct archive_extract_options o = {.bytes_max = BYTES_MAX, .inspect = size % 2};
    cleanup_fd int fd = build(&in);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (archive_extract(path, d->out, &o, &c, NULL) == 0)
        check_unpacked(d, &c);
    else
        require(count(d->out) == 0);
    check_outside(d);
    require(lseek(fd, 0, SEEK_SET) == 0);
    change_and_take_back(d, fd, &in);
    require(lseek(fd, 0, SEEK_SET) == 0);
    (void)rootfs_diff_apply(fd, d->root, NULL, &notes, NULL);
    (void)rootfs_diff_delete((const char *)in.data, in.size, d->root, NULL, NULL);
    check_outside(d);
    close(d->root);
    close(d->out);
    require(path_remove_tree(d->top, "root", NULL) == 0 && path_remove_tree(d->top, "out", NULL) == 0);
    return 0;
}
