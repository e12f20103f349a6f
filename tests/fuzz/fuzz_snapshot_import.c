/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Importing a snapshot. The input is a list of entries for the tar; a manifest that is in order comes first unless the
 * first byte is odd. If it is 0xff, the rest is the archive itself. Whatever it is: nothing outside of the directory
 * that is unpacked to changes. If the first byte is 2 modulo 4, the manifest has a root that stands on the host's /etc,
 * and the import fails.
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
#include "base/log.h"
#include "base/path.h"
#include "cli/snapshot_archive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ENTRIES_MAX 24
#define SENTINEL "untouched"

static const char *const names[] = {
    "manifest.json", "device",     "memory",        "roots",          "roots/0",      "roots/1",       "roots/2",
    "roots/0/a",     "roots/0/d",  "roots/0/d/a",   "roots/0/d/b",    "roots/0/l",    "roots/0/l/x",   "roots/0/../x",
    "../outside/x",  "/x",         "imported",      "roots/00",       "roots/1/d",    "roots/1/d/e/f", "roots/0/d/",
    "./roots/0/a",   "roots//0/a", "roots/0/d/b/c", "roots/0/\xff\n", "roots/0/d/..",
};
static const unsigned types[] = {AE_IFREG, AE_IFDIR, AE_IFDIR, AE_IFREG, AE_IFLNK, AE_IFIFO, AE_IFCHR, AE_IFBLK};
static const char *const xattrs[] = {"user.x", "trusted.overlay.redirect", "system.posix_acl_default",
                                     "security.capability"};

struct input {
    const uint8_t *data;
    size_t size;
};

static struct {
    int top;
    struct {
        char *text;
        size_t len;
    } manifests[2]; /* one in order, one with a lower directory */
} work = {.top = -1};

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

static la_ssize_t on_bytes(struct archive *a, void *userdata, const void *data, size_t len) {
    (void)a;
    require(fd_write_all(*(int *)userdata, data, len) == 0);
    return (la_ssize_t)len;
}

static void make_manifests(void) {
    struct manifest m = {
        .name = strdup("s"), .sandbox_id = strdup("s"), .stasis_version = strdup("1"), .device_size = 4};
    m.machine = (struct manifest_machine){.vmm = strdup("v"),
                                          .guest = strdup("g"),
                                          .type = strdup("q35"),
                                          .accel = strdup("tcg"),
                                          .cpu = strdup("max"),
                                          .kernel_params = strdup(""),
                                          .memory = 4096,
                                          .cpus = 1};
    require(memory_image_new(4096, &m.memory, NULL) == 0);
    m.containers = calloc(2, sizeof(*m.containers));
    for (; m.n_containers < 2; m.n_containers++)
        m.containers[m.n_containers] = (struct manifest_container){.id = strdup(m.n_containers ? "t" : "s"),
                                                                   .guest_id = strdup(m.n_containers ? "t" : "s"),
                                                                   .spec = json_object(),
                                                                   .state = json_object()};
    for (size_t i = 0; i < ARRAY_SIZE(work.manifests); i++) {
        require(i == 0 || strv_add(&m.containers[1].root.lowers, "/etc") == 0);
        require(manifest_write(work.top, &m, NULL) == 0);
        require(file_read_at(work.top, MANIFEST_FILE, MANIFEST_MAX, &work.manifests[i].text, &work.manifests[i].len,
                             NULL) == 0);
        require(unlinkat(work.top, MANIFEST_FILE, 0) == 0);
    }
    manifest_clear(&m);
}

static void begin(void) {
    char path[] = "/dev/shm/stasis-fuzz-XXXXXX"; /* memory is faster */
    log_set_level(LOG_LEVEL_ERROR);
    require(mkdtemp(path) != NULL);
    work.top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    require(work.top >= 0 && mkdirat(work.top, "outside", 0700) == 0);
    cleanup_fd int fd = openat(work.top, "outside/x", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    require(fd >= 0 && fd_write_all(fd, SENTINEL, strlen(SENTINEL)) == 0);
    make_manifests();
}

static void put(struct archive *a, struct archive_entry *e, const void *data, size_t len) {
    archive_entry_set_size(e, (la_int64_t)len);
    if (archive_write_header(a, e) >= ARCHIVE_WARN && len)
        archive_write_data(a, data, len);
    archive_entry_free(e);
}

static void add_entry(struct archive *a, struct input *in) {
    struct archive_entry *e = archive_entry_new();
    unsigned type = types[take(in) % ARRAY_SIZE(types)], how = take(in);
    archive_entry_copy_pathname(e, names[take(in) % ARRAY_SIZE(names)]);
    archive_entry_set_filetype(e, type);
    archive_entry_set_perm(e, take(in) * 16);
    archive_entry_set_rdevmajor(e, how >> 6);
    if (how % 8 == 1)
        archive_entry_copy_hardlink(e, names[take(in) % ARRAY_SIZE(names)]);
    if (type == AE_IFLNK)
        archive_entry_copy_symlink(e, how & 2 ? names[take(in) % ARRAY_SIZE(names)] : "../../../outside");
    if (how % 8 == 3)
        archive_entry_xattr_add_entry(e, xattrs[take(in) % ARRAY_SIZE(xattrs)], in->data, MIN(in->size, 8UL));
    size_t len = take(in) % 32;
    len = type == AE_IFREG && how % 8 != 1 ? MIN(len, in->size) : 0;
    const uint8_t *data = in->data;
    in->data += len;
    in->size -= len;
    put(a, e, data, len);
}

static int build(struct input *in) {
    int fd = memfd_create("archive", MFD_CLOEXEC);
    unsigned form = take(in);
    require(fd >= 0);
    if (form == 0xff) {
        require(fd_write_all(fd, in->data, in->size) == 0);
        return fd;
    }
    struct archive *a = archive_write_new();
    archive_write_set_format_pax_restricted(a);
    archive_write_set_bytes_in_last_block(a, 1);
    require(archive_write_open(a, &fd, NULL, on_bytes, NULL) == ARCHIVE_OK);
    if (form % 2 == 0) {
        struct archive_entry *e = archive_entry_new();
        archive_entry_copy_pathname(e, MANIFEST_FILE);
        archive_entry_set_filetype(e, AE_IFREG);
        put(a, e, work.manifests[form % 4 / 2].text, work.manifests[form % 4 / 2].len);
    }
    for (unsigned n = 1 + take(in) % ENTRIES_MAX; n && in->size; n--)
        add_entry(a, in);
    archive_write_close(a);
    archive_write_free(a);
    return fd;
}

static unsigned count(int at) {
    cleanup_dir DIR *dir = fdopendir(openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    unsigned n = 0;
    require(dir != NULL);
    for (const struct dirent *e; (e = readdir(dir));)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    return n;
}

static void check_outside(void) {
    char text[32] = "";
    struct stat st;
    cleanup_fd int fd = openat(work.top, "outside/x", O_RDONLY | O_CLOEXEC);
    require(fd >= 0 && fstat(fd, &st) == 0 && st.st_nlink == 1 && (st.st_mode & 07777) == 0600);
    require(read(fd, text, sizeof(text)) == (ssize_t)strlen(SENTINEL) && strcmp(text, SENTINEL) == 0);
    cleanup_fd int outside = openat(work.top, "outside", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    require(count(outside) == 1 && count(work.top) == 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    const struct snapshot_import o = {.bytes_max = 16 << 20, .entries_max = 1000};
    cleanup_free char *name = NULL;
    if (work.top < 0)
        begin();
    cleanup_fd int fd = build(&in);
    require(lseek(fd, 0, SEEK_SET) == 0 && mkdirat(work.top, "out", 0700) == 0);
    cleanup_fd int out = openat(work.top, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    require(out >= 0);
    int r = snapshot_import(fd, "archive", out, &o, 1, &name, NULL);
    require(r < 0 || size == 0 || data[0] % 4 != 2);
    check_outside();
    require(path_remove_tree(work.top, "out", NULL) == 0);
    return 0;
}
