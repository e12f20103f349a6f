/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/archive_create.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/path.h"

#define MEMBER_MODE 0600

struct archive_writer {
    char *path;
    const char *base; /* in path: the name in its directory */
    char *tmp;        /* the name until it is finished; NULL: it has none yet (O_TMPFILE) */
    int dirfd, fd;
    struct archive_put *put;
    time_t mtime; /* of all members */
};

struct archive_writer *archive_writer_free(struct archive_writer *w) {
    if (!w)
        return NULL;
    archive_put_free(w->put);
    if (w->tmp)
        (void)unlinkat(w->dirfd, w->tmp, 0); /* nothing that anybody else has */
    fd_close(w->fd);
    fd_close(w->dirfd);
    free(w->tmp);
    free(w->path);
    free(w);
    return NULL;
}

bool archive_image_name_valid(const char *name) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t len = strlen(name);
    return len && len <= NAME_MAX && strspn(name, allowed) == len && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

int archive_compression_of(const char *path, enum archive_compression *ret, struct err *err) {
    static const struct {
        const char *end;
        enum archive_compression compression;
    } ends[] = {{".tar", ARCHIVE_PLAIN}, {".tar.gz", ARCHIVE_GZIP}, {".tgz", ARCHIVE_GZIP}, {".tar.zst", ARCHIVE_ZSTD}};
    size_t len = strlen(path);
    for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
        size_t n = strlen(ends[i].end);
        if (len > n && strcmp(path + len - n, ends[i].end) == 0) {
            *ret = ends[i].compression;
            return 0;
        }
    }
    return err_set(err, EINVAL, "%s: the name of an archive ends in .tar, .tar.gz, .tgz or .tar.zst", path);
}

static int on_bytes(void *userdata, const void *data, size_t len, struct err *err) {
    const struct archive_writer *w = userdata;
    int r = fd_write_all(w->fd, data, len);
    return r < 0 ? err_errno(err, -r, "cannot write %s", w->path) : 0;
}

static int open_dir(struct archive_writer *w, struct err *err) {
    cleanup_free char *dir = strdup(w->path);
    if (!dir)
        return err_set(err, ENOMEM, "out of memory");
    char *slash = strrchr(dir, '/');
    w->base = slash ? w->path + (slash - dir) + 1 : w->path;
    if (slash)
        slash[slash == dir ? 1 : 0] = '\0';
    w->dirfd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->dirfd < 0)
        return err_errno(err, errno, "cannot create %s", w->path);
    struct stat st;
    if (!*w->base || (fstatat(w->dirfd, w->base, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode)))
        return err_set(err, EEXIST, "cannot create %s: it is there and is no regular file", w->path);
    return 0;
}

/* Without a name, so that nothing is left even if we are killed; where the file system cannot do that, with a temporary
 * one. */
static int open_file(struct archive_writer *w, struct err *err) {
    w->fd = openat(w->dirfd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, MEMBER_MODE);
    if (w->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {
        w->tmp = str_printf("%s.tmp.%d", w->base, (int)getpid());
        if (!w->tmp)
            return err_set(err, ENOMEM, "out of memory");
        (void)unlinkat(w->dirfd, w->tmp, 0); /* of an earlier process with our pid */
        w->fd = openat(w->dirfd, w->tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, MEMBER_MODE);
    }
    if (w->fd < 0)
        return err_errno(err, errno, "cannot create %s", w->path);
    return 0;
}

void archive_remove_unfinished(const char *path, pid_t pid) {
    cleanup_free char *tmp = str_printf("%s.tmp.%d", path, (int)pid);
    if (tmp)
        (void)unlink(tmp); /* normally there is none */
}

static int writer_new(const char *path, struct archive_writer **ret, struct err *err) {
    cleanup_archive_writer struct archive_writer *w = calloc(1, sizeof(*w));
    if (!w)
        return err_set(err, ENOMEM, "out of memory");
    w->dirfd = w->fd = -1;
    w->mtime = (time_t)(now_wall_usec() / USEC_PER_SEC);
    w->path = strdup(path);
    if (!w->path)
        return err_set(err, ENOMEM, "out of memory");
    *ret = TAKE_PTR(w);
    return 0;
}

static const int filters[] = {
    [ARCHIVE_PLAIN] = ARCHIVE_FILTER_NONE, [ARCHIVE_GZIP] = ARCHIVE_FILTER_GZIP, [ARCHIVE_ZSTD] = ARCHIVE_FILTER_ZSTD};

int archive_create(const char *path, enum archive_compression compression, struct archive_writer **ret,
                   struct err *err) {
    cleanup_archive_writer struct archive_writer *w = NULL;
    int r;
    if ((r = writer_new(path, &w, err)) < 0 || (r = open_dir(w, err)) < 0 || (r = open_file(w, err)) < 0 ||
        (r = archive_put_new(on_bytes, w, filters[compression], false, w->path, &w->put, err)) < 0)
        return r;
    *ret = TAKE_PTR(w);
    return 0;
}

int archive_create_exact(int fd, const char *path, enum archive_compression compression, struct archive_writer **ret,
                         struct err *err) {
    cleanup_archive_writer struct archive_writer *w = NULL;
    int r = writer_new(path, &w, err);
    if (r == 0 && fd < 0 && (r = open_dir(w, err)) == 0)
        r = open_file(w, err);
    else if (r == 0 && fd >= 0 && (w->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3)) < 0)
        r = err_errno(err, errno, "cannot write %s", path);
    if (r < 0 || (r = archive_put_new_exact(on_bytes, w, filters[compression], w->path, &w->put, err)) < 0)
        return r;
    *ret = TAKE_PTR(w);
    return 0;
}

struct archive_put *archive_writer_put(struct archive_writer *w) {
    return w->put;
}

/* The header that every member has: nobody else's business who wrote the file, or when. */
static struct archive_entry *member_new(const struct archive_writer *w, const char *name, struct err *err) {
    struct archive_entry *e = archive_entry_new();
    if (!e) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    archive_entry_set_pathname(e, name);
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_perm(e, MEMBER_MODE);
    archive_entry_set_mtime(e, w->mtime, 0);
    return e;
}

int archive_add_text(struct archive_writer *w, const char *name, const void *data, size_t len, struct err *err) {
    cleanup_entry struct archive_entry *e = member_new(w, name, err);
    return e ? archive_put_entry(w->put, e, data, len, err) : -ENOMEM;
}

int archive_add_file(struct archive_writer *w, const char *name, int dirfd, const char *file, struct err *err) {
    /* Not blocking: a FIFO of that name must not hold us. */
    cleanup_fd int fd = path_open_beneath(dirfd, file, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, err);
    if (fd < 0)
        return fd;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(err, errno, "cannot read %s", file);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "cannot put %s into %s: it is not a regular file", file, w->path);
    cleanup_entry struct archive_entry *e = member_new(w, name, err);
    return e ? archive_put_file(w->put, e, fd, err) : -ENOMEM;
}

static int add_image(struct archive_writer *w, int dirfd, const char *name, struct err *err) {
    cleanup_free char *member = NULL;
    if (strcmp(name, "parent") == 0)
        return err_set(err, EINVAL,
                       "cannot put the checkpoint into %s: it stands on a parent checkpoint, an archive "
                       "must be complete",
                       w->path);
    if (!archive_image_name_valid(name))
        return err_set(err, EINVAL, "cannot put \"%s\" into %s: CRIU does not name its files so", name, w->path);
    member = path_join(ARCHIVE_CHECKPOINT, name);
    return member ? archive_add_file(w, member, dirfd, name, err) : err_set(err, ENOMEM, "out of memory");
}

static int add_directory(struct archive_writer *w, struct err *err) {
    cleanup_entry struct archive_entry *e = member_new(w, ARCHIVE_CHECKPOINT "/", err);
    if (!e)
        return -ENOMEM;
    archive_entry_set_filetype(e, AE_IFDIR);
    archive_entry_set_perm(e, 0700);
    return archive_put_entry(w->put, e, NULL, 0, err);
}

int archive_add_checkpoint(struct archive_writer *w, int dirfd, struct err *err) {
    cleanup_fd int fd = path_open_beneath(dirfd, ".", O_RDONLY | O_DIRECTORY, 0, err);
    if (fd < 0)
        return fd;
    cleanup_dir DIR *dir = fdopendir(fd);
    if (!dir)
        return err_errno(err, errno, "cannot read the checkpoint");
    (void)TAKE_FD(fd); /* owned by dir now */
    if (faccessat(dirfd, ARCHIVE_INVENTORY, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
        return err_set(err, ENOENT, "cannot put the checkpoint into %s: it has no " ARCHIVE_INVENTORY, w->path);
    int r = add_directory(w, err);
    for (unsigned n = 0; r == 0;) {
        errno = 0;
        const struct dirent *e = readdir(dir);
        if (!e)
            return errno ? err_errno(err, errno, "cannot read the checkpoint") : 0;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (n++ == ARCHIVE_IMAGES_MAX)
            return err_set(err, EFBIG, "the checkpoint has more than %d files", ARCHIVE_IMAGES_MAX);
        r = add_image(w, dirfd, e->d_name, err);
    }
    return r;
}

static int on_count(void *userdata, const void *data, size_t len, struct err *err) {
    (void)data;
    (void)err;
    *(uint64_t *)userdata += len;
    return 0;
}

static int on_diff(void *userdata, const void *data, size_t len, struct err *err) {
    struct archive_writer *w = userdata;
    return archive_put_data(w->put, data, len, err);
}

int archive_add_rootfs_diff(struct archive_writer *w, const struct rootfs_diff_source *src, struct strv *notes,
                            struct err *err) {
    cleanup_strv struct strv deleted = {0};
    cleanup_free char *json = NULL;
    uint64_t size = 0;
    int r = rootfs_diff_write(src, true, on_count, &size, &deleted, notes, err);
    if (r < 0)
        return r;
    cleanup_entry struct archive_entry *e = member_new(w, ARCHIVE_ROOTFS_DIFF, err);
    if (!e)
        return -ENOMEM;
    /* Too many bytes are refused by archive_put_data(), too few by the next member. */
    r = archive_put_begin(w->put, e, size, err);
    if (r == 0)
        r = rootfs_diff_write(src, false, on_diff, w, NULL, NULL, err);
    if (r < 0)
        return err_wrap(err, "%s", ARCHIVE_ROOTFS_DIFF);
    if ((r = rootfs_diff_deleted_json(&deleted, &json, err)) < 0)
        return r;
    return archive_add_text(w, ARCHIVE_DELETED, json, strlen(json), err);
}

/* A name for the file that has none. Like open_file's, it is beside the target and ours alone. */
static int give_tmp_name(struct archive_writer *w, struct err *err) {
    char self[64];
    cleanup_free char *tmp = str_printf("%s.tmp.%d", w->base, (int)getpid());
    if (!tmp)
        return err_set(err, ENOMEM, "out of memory");
    snprintf(self, sizeof(self), "/proc/self/fd/%d", w->fd);
    (void)unlinkat(w->dirfd, tmp, 0);
    if (linkat(AT_FDCWD, self, w->dirfd, tmp, AT_SYMLINK_FOLLOW) < 0)
        return err_errno(err, errno, "cannot write %s", w->path);
    w->tmp = TAKE_PTR(tmp);
    return 0;
}

/* 1: exchanged with the file that had the name, 0: nothing had it. */
static int rename_into_place(const struct archive_writer *w) {
    struct stat st = {0};
    if (fstatat(w->dirfd, w->base, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
        return renameat2(w->dirfd, w->tmp, w->dirfd, w->base, RENAME_NOREPLACE) < 0 ? -errno : 0;
    if (S_ISDIR(st.st_mode))
        return -EISDIR;
    return renameat2(w->dirfd, w->tmp, w->dirfd, w->base, RENAME_EXCHANGE) < 0 ? -errno : 1;
}

/* The name for good, or nothing of it: an archive that had it has it again. */
static int put_in_place(struct archive_writer *w, struct err *err) {
    int exchanged = rename_into_place(w);
    /* There are file systems that cannot; then what was there is gone. */
    bool plain = exchanged == -EINVAL || exchanged == -ENOSYS || exchanged == -EOPNOTSUPP;
    if (plain && renameat(w->dirfd, w->tmp, w->dirfd, w->base) < 0)
        exchanged = -errno;
    else if (plain)
        exchanged = 0;
    if (exchanged < 0)
        return err_errno(err, -exchanged, "cannot write %s", w->path);
    if (fsync(w->dirfd) < 0) {
        err_errno(err, errno, "cannot sync the directory of %s", w->path);
        unsigned flag = exchanged ? RENAME_EXCHANGE : RENAME_NOREPLACE;
        if (!plain && renameat2(w->dirfd, w->base, w->dirfd, w->tmp, flag) == 0)
            return -EIO;
        /* Nothing is removed of which nobody knows where it is. */
        err_append(err, "; it may be there nevertheless%s%s", exchanged ? ", and what was there before, as " : "",
                   exchanged ? w->tmp : "");
        free(w->tmp);
        w->tmp = NULL;
        return -EIO;
    }
    if (exchanged && unlinkat(w->dirfd, w->tmp, 0) < 0)
        return err_errno(err, errno, "%s is there, but what it replaces cannot be removed: %s", w->path, w->tmp);
    free(w->tmp);
    w->tmp = NULL;
    return 0;
}

int archive_finish(struct archive_writer *w, struct err *err) {
    int r = archive_put_finish(w->put, err);
    if (r < 0 || w->dirfd < 0) /* a pipe has no name to be given */
        return r;
    if (fchmod(w->fd, MEMBER_MODE) < 0 || fsync(w->fd) < 0)
        return err_errno(err, errno, "cannot write %s", w->path);
    if (!w->tmp && (r = give_tmp_name(w, err)) < 0)
        return r;
    return put_in_place(w, err);
}
