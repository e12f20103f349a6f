/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/archive_extract.h"

#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/path.h"

#define MEMBER_MODE 0600

/* The members of an archive beside its images. */
static const struct member {
    const char *name;
    size_t found; /* a bool of struct archive_contents */
    bool bulk;
} members[] = {
    {ARCHIVE_CONFIG, offsetof(struct archive_contents, has_config), false},
    {ARCHIVE_SPEC, offsetof(struct archive_contents, has_spec), false},
    {ARCHIVE_ROOTFS_DIFF, offsetof(struct archive_contents, has_rootfs_diff), true},
    {ARCHIVE_DELETED, offsetof(struct archive_contents, has_deleted), false},
    {ARCHIVE_STATS, offsetof(struct archive_contents, has_stats), false},
    {ARCHIVE_LOG, offsetof(struct archive_contents, has_log), false},
};

struct extraction {
    struct archive_tar *tar;
    int dirfd, images_fd;
    bool inspect;
    bool nested; /* images came below checkpoint/ */
    bool inventory;
    unsigned n_skipped;
    struct archive_contents *c;
};

void archive_contents_clear(struct archive_contents *c) {
    strv_clear(&c->notes);
    *c = (struct archive_contents){0};
}

static bool ends_with(const char *s, const char *end) {
    size_t len = strlen(s), n = strlen(end);
    return len >= n && strcmp(s + len - n, end) == 0;
}

static int entry_name(const struct extraction *x, struct archive_entry *e, char name[ARCHIVE_NAME_MAX + 1],
                      struct err *err) {
    const char *s = archive_entry_pathname(e);
    if (s && !utf8_valid(s, strlen(s)))
        return archive_tar_error(x->tar, EINVAL, err, "its name is not UTF-8");
    return archive_tar_path(x->tar, s, name, ARCHIVE_NAME_MAX + 1, err);
}

static int check_type(const struct extraction *x, struct archive_entry *e, struct err *err) {
    if (archive_entry_hardlink(e))
        return archive_tar_error(x->tar, EINVAL, err, "a hard link is not allowed");
    switch (archive_entry_filetype(e)) {
    case AE_IFREG:
    case AE_IFDIR:
        return 0;
    case AE_IFLNK:
        return archive_tar_error(x->tar, EINVAL, err, "a symbolic link is not allowed");
    case AE_IFIFO:
        return archive_tar_error(x->tar, EINVAL, err, "a FIFO is not allowed");
    default:
        return archive_tar_error(x->tar, EINVAL, err, "a device is not allowed");
    }
}

static int save(const struct extraction *x, int dirfd, const char *name, bool bulk, struct archive_entry *e,
                struct err *err) {
    cleanup_fd int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, MEMBER_MODE);
    if (fd < 0 && errno == EEXIST)
        return archive_tar_error(x->tar, EINVAL, err, "it comes twice");
    if (fd < 0)
        return archive_tar_error(x->tar, errno, err, "cannot create it: %s", strerror(errno));
    if (!x->inspect || !bulk)
        return archive_tar_save(x->tar, fd, err);
    if (ftruncate(fd, archive_entry_size(e)) < 0)
        return archive_tar_error(x->tar, errno, err, "cannot write it: %s", strerror(errno));
    return 0;
}

static int save_image(struct extraction *x, const char *name, bool nested, struct archive_entry *e, struct err *err) {
    if (archive_entry_filetype(e) != AE_IFREG || !archive_image_name_valid(name))
        return archive_tar_error(x->tar, EINVAL, err, "CRIU does not name its files so");
    if (x->c->n_images && x->nested != nested)
        return archive_tar_error(x->tar, EINVAL, err, "images both at the top and in " ARCHIVE_CHECKPOINT "/");
    bool pages = strncmp(name, "pages-", strlen("pages-")) == 0;
    int r = save(x, x->images_fd, name, pages, e, err);
    if (r < 0)
        return r;
    uint64_t size = (uint64_t)archive_entry_size(e);
    x->nested = nested;
    x->c->n_images++;
    x->c->images_bytes += size;
    if (pages)
        x->c->pages_bytes += size;
    if (strcmp(name, ARCHIVE_INVENTORY) == 0)
        x->inventory = true;
    return 0;
}

static int save_member(struct extraction *x, const struct member *m, struct archive_entry *e, struct err *err) {
    if (archive_entry_filetype(e) != AE_IFREG)
        return archive_tar_error(x->tar, EINVAL, err, "it must be a regular file");
    int r = save(x, x->dirfd, m->name, m->bulk, e, err);
    if (r < 0)
        return r;
    *(bool *)((char *)x->c + m->found) = true;
    if (m->bulk)
        x->c->rootfs_diff_bytes = (uint64_t)archive_entry_size(e);
    return 0;
}

static int skip(struct extraction *x, const char *name, struct archive_entry *e, struct err *err) {
    int r = 0;
    if (archive_entry_filetype(e) == AE_IFDIR)
        return 0;
    x->n_skipped++;
    if (x->n_skipped < ARCHIVE_NOTES_MAX)
        r = strv_addf(&x->c->notes, "%s: not used (%lld bytes)", name, (long long)archive_entry_size(e));
    else if (x->n_skipped == ARCHIVE_NOTES_MAX)
        r = strv_add(&x->c->notes, "more files are not used");
    return r < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

/* At the top of a containerd's checkpoint stand CRIU's files, and runc's or crun's list of standard descriptors. */
static bool is_top_image(const char *name) {
    return ends_with(name, ".img") || strcmp(name, "descriptors.json") == 0;
}

static int extract_entry(struct extraction *x, struct archive_entry *e, struct err *err) {
    static const char below[] = ARCHIVE_CHECKPOINT "/";
    char name[ARCHIVE_NAME_MAX + 1] = "";
    int r;
    if ((r = entry_name(x, e, name, err)) < 0 || (r = check_type(x, e, err)) < 0)
        return r;
    bool dir = archive_entry_filetype(e) == AE_IFDIR;
    if (!*name || strcmp(name, ARCHIVE_CHECKPOINT) == 0)
        return dir ? 0 : archive_tar_error(x->tar, EINVAL, err, "it must be a directory");
    if (strncmp(name, below, strlen(below)) == 0)
        return save_image(x, name + strlen(below), true, e, err);
    for (size_t i = 0; i < ARRAY_SIZE(members); i++)
        if (strcmp(name, members[i].name) == 0)
            return save_member(x, &members[i], e, err);
    if (!strchr(name, '/') && is_top_image(name))
        return save_image(x, name, false, e, err);
    return skip(x, name, e, err);
}

static int extract(struct extraction *x, const char *path, struct err *err) {
    struct archive_entry *e;
    int r;
    if (mkdirat(x->dirfd, ARCHIVE_CHECKPOINT, 0700) < 0)
        return err_errno(err, errno, "cannot unpack %s", path);
    x->images_fd = path_open_beneath(x->dirfd, ARCHIVE_CHECKPOINT, O_PATH | O_DIRECTORY, 0, err);
    if (x->images_fd < 0)
        return x->images_fd;
    while ((r = archive_tar_next(x->tar, &e, err)) > 0)
        if ((r = extract_entry(x, e, err)) < 0)
            return r;
    if (r < 0)
        return r;
    if (!x->inventory)
        return err_set(err, EINVAL, "%s is no checkpoint: it has no " ARCHIVE_CHECKPOINT "/" ARCHIVE_INVENTORY, path);
    x->c->flat = !x->nested;
    x->c->compression = archive_tar_compression(x->tar);
    return 0;
}

static int check_empty(int dirfd, struct err *err) {
    cleanup_fd int fd = path_open_beneath(dirfd, ".", O_RDONLY | O_DIRECTORY, 0, err);
    if (fd < 0)
        return fd;
    cleanup_dir DIR *dir = fdopendir(fd);
    if (!dir)
        return err_errno(err, errno, "cannot read the directory to unpack into");
    (void)TAKE_FD(fd); /* owned by dir now */
    for (const struct dirent *e; (e = readdir(dir));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            return err_set(err, ENOTEMPTY, "the directory to unpack into is not empty");
    return 0;
}

/* All that extract() may have made. What fails here is reported as what failed before. */
static void remove_all(int dirfd) {
    for (size_t i = 0; i < ARRAY_SIZE(members); i++)
        (void)unlinkat(dirfd, members[i].name, 0);
    (void)path_remove_tree(dirfd, ARCHIVE_CHECKPOINT, NULL);
}

int archive_extract(const char *path, int dirfd, const struct archive_extract_options *options,
                    struct archive_contents *ret, struct err *err) {
    cleanup_archive_tar struct archive_tar *tar = NULL;
    cleanup_archive_contents struct archive_contents c = {0};
    const struct archive_limits limits = {.bytes_max = options->bytes_max ? options->bytes_max : ARCHIVE_BYTES_MAX,
                                          .entries_max = ARCHIVE_ENTRIES_MAX,
                                          .stop = options->stop};
    /* Not blocking: a FIFO of that name must not hold us. */
    cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    int r;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(err, errno, "cannot open %s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "cannot unpack %s: it is not a regular file", path);
    if ((r = check_empty(dirfd, err)) < 0 || (r = archive_tar_open(fd, path, true, &limits, &tar, err)) < 0)
        return r;
    struct extraction x = {.tar = tar, .dirfd = dirfd, .images_fd = -1, .inspect = options->inspect, .c = &c};
    r = extract(&x, path, err);
    fd_close(x.images_fd);
    if (r < 0) {
        remove_all(dirfd);
        return r;
    }
    *ret = c;
    c = (struct archive_contents){0};
    return 0;
}
