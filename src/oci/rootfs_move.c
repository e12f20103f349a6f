/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/rootfs_move.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/util.h"

#define LIST_MAX ((size_t)64 << 10)  /* bytes of the names of a directory's attributes */
#define VALUE_MAX ((size_t)64 << 10) /* bytes of one */
#define PASSES_MAX 4                 /* readings of a directory that is being emptied */

static int move(int from, const char *name, int to, const char *to_name, bool back, unsigned depth, struct err *err);

static bool is_dir(int dirfd, const char *name) {
    struct stat st;
    return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static int open_dir(int dirfd, const char *name, struct err *err) {
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "cannot open the directory %s", name) : fd;
}

/* One reading. Returns how many there were. */
static int move_children_once(int from, int to, bool back, unsigned depth, struct err *err) {
    int fd = open_dir(from, ".", err), n = 0;
    if (fd < 0)
        return fd;
    cleanup_dir DIR *dir = fdopendir(fd);
    if (!dir) {
        int code = errno;
        close(fd);
        return err_errno(err, code, "cannot read a directory");
    }
    for (;;) {
        errno = 0;
        const struct dirent *d = readdir(dir);
        if (!d)
            return errno ? err_errno(err, errno, "cannot read a directory") : n;
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        int r = move(from, d->d_name, to, d->d_name, back, depth + 1, err);
        if (r < 0)
            return r;
        n = 1;
    }
}

/* A directory may be read incompletely while it is emptied. */
static int move_children(int from, int to, bool back, unsigned depth, struct err *err) {
    int r = 1;
    for (unsigned i = 0; r > 0 && i < PASSES_MAX; i++)
        r = move_children_once(from, to, back, depth, err);
    return r < 0 ? r : 0;
}

static int copy_xattrs(int from, int to, struct err *err) {
    cleanup_free char *list = malloc(LIST_MAX), *value = malloc(VALUE_MAX);
    if (!list || !value)
        return err_set(err, ENOMEM, "out of memory");
    ssize_t len = flistxattr(from, list, LIST_MAX);
    if (len < 0)
        return errno == EOPNOTSUPP ? 0 : err_errno(err, errno, "cannot read a directory's attributes");
    for (const char *name = list; name < list + len; name += strlen(name) + 1) {
        ssize_t n = fgetxattr(from, name, value, VALUE_MAX);
        if (n < 0 || fsetxattr(to, name, value, (size_t)n, 0) < 0)
            return err_errno(err, errno, "cannot copy a directory's attribute %s", name);
    }
    return 0;
}

/* The owner first: it may take setgid away. */
static int copy_attributes(int from, int to, struct err *err) {
    struct stat st;
    int r = copy_xattrs(from, to, err);
    if (r < 0)
        return r;
    if (fstat(from, &st) < 0 || fchown(to, st.st_uid, st.st_gid) < 0 || fchmod(to, st.st_mode & 07777) < 0)
        return err_errno(err, errno, "cannot copy a directory's owner and mode");
    return 0;
}

/* Where it cannot be renamed as a whole: a new directory with the same in it. */
static int move_dir(int from, const char *name, int to, const char *to_name, bool back, unsigned depth,
                    struct err *err) {
    struct stat st;
    cleanup_fd int old = open_dir(from, name, err);
    if (old < 0)
        return old;
    if (fstat(old, &st) < 0)
        return err_errno(err, errno, "cannot look at %s", name);
    bool made = mkdirat(to, to_name, 0700) == 0;
    if (!made && !(back && errno == EEXIST))
        return err_errno(err, errno, "cannot make a directory");
    cleanup_fd int new = open_dir(to, to_name, err);
    if (new < 0)
        return new;
    int r = made ? copy_attributes(old, new, err) : 0;
    if (r == 0)
        r = move_children(old, new, back, depth, err);
    if (r < 0)
        return r;
    const struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, st.st_mtim};
    if (made && futimens(new, times) < 0)
        return err_errno(err, errno, "cannot set a directory's time");
    return unlinkat(from, name, AT_REMOVEDIR) < 0 ? err_errno(err, errno, "cannot remove the directory %s", name) : 0;
}

static int move(int from, const char *name, int to, const char *to_name, bool back, unsigned depth, struct err *err) {
    if (depth > ROOTFS_MOVE_DEPTH_MAX)
        return err_set(err, ELOOP, "%s: more than %d directories deep", name, ROOTFS_MOVE_DEPTH_MAX);
    if (renameat(from, name, to, to_name) == 0)
        return 0;
    int code = errno;
    bool dirs = is_dir(from, name), there = is_dir(to, to_name);
    if (dirs && (code == EXDEV || (back && there && (code == ENOTEMPTY || code == EEXIST))))
        return move_dir(from, name, to, to_name, back, depth, err);
    if (!back || (code != EISDIR && code != ENOTDIR && code != ENOTEMPTY && code != EEXIST))
        return err_errno(err, code, "cannot move %s", name);
    int r = path_remove_tree(to, to_name, err);
    if (r < 0)
        return r;
    return renameat(from, name, to, to_name) < 0 ? err_errno(err, errno, "cannot move %s", name) : 0;
}

int rootfs_move(int from, const char *name, int to, const char *to_name, struct err *err) {
    return move(from, name, to, to_name, false, 0, err);
}

int rootfs_move_back(int from, const char *name, int to, const char *to_name, struct err *err) {
    return move(from, name, to, to_name, true, 0, err);
}
