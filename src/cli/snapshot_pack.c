/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/snapshot_pack.h"

#include <fcntl.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/util.h"
#include "oci/archive_links.h"
#include "snapshot/tree_socket.h"

#define LIST_MAX ((size_t)64 << 10) /* bytes of the names of one file's attributes */

struct pack {
    struct archive_put *put;
    struct archive_links links;
    char *list, *value;
};

static int pack_dir(struct pack *p, int fd, const char *path, unsigned depth, struct err *err);

static int out_of_memory(struct err *err) {
    return err_set(err, ENOMEM, "out of memory");
}

/* Those hold for one file system only (snapshot/tree.h). */
static bool is_local(const char *name) {
    static const char *const local[] = {"origin", "impure", "uuid", "nlink"};
    static const char prefix[] = "trusted.overlay.";
    if (strncmp(name, prefix, strlen(prefix)) != 0)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(local); i++)
        if (strcmp(name + strlen(prefix), local[i]) == 0)
            return true;
    return false;
}

/* `at` is the file's path by way of /proc/self/fd: symbolic links have attributes as well, and no fd to ask. */
static int add_xattrs(struct pack *p, struct archive_entry *e, const char *at, const char *path, struct err *err) {
    ssize_t len = llistxattr(at, p->list, LIST_MAX);
    unsigned n = 0;
    if (len < 0)
        return errno == EOPNOTSUPP ? 0 : err_errno(err, errno, "cannot read the attributes of %s", path);
    for (const char *name = p->list; name < p->list + len; name += strlen(name) + 1) {
        if (is_local(name))
            continue;
        ssize_t size = lgetxattr(at, name, p->value, SNAPSHOT_XATTR_MAX);
        if (size < 0)
            return err_errno(err, errno, "cannot read the attribute %s of %s", name, path);
        if (n++ == SNAPSHOT_XATTRS_MAX)
            return err_set(err, EFBIG, "%s has more than %d extended attributes", path, SNAPSHOT_XATTRS_MAX);
        archive_entry_xattr_add_entry(e, name, p->value, (size_t)size);
    }
    return 0;
}

static int put_regular(struct pack *p, int parent, const char *name, const char *path, struct archive_entry *e,
                       struct err *err) {
    struct stat st;
    /* Not blocking: what was a file may be a FIFO by now. */
    cleanup_fd int fd = path_open_beneath(parent, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, err);
    if (fd < 0)
        return err_wrap(err, "%s", path);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(err, EIO, "%s changed while it was read", path);
    return archive_put_file(p->put, e, fd, err);
}

static void mark_socket(struct archive_entry *e, const struct stat *st) {
    char number[8];
    int len = snprintf(number, sizeof(number), "%u", tree_socket_number(st->st_ino));
    archive_entry_set_filetype(e, AE_IFIFO);
    archive_entry_xattr_add_entry(e, SNAPSHOT_SOCKET, number, (size_t)len);
}

static int put_child(struct pack *p, int parent, const char *name, const char *path, unsigned depth, struct err *err) {
    struct stat st;
    char at[PATH_MAX], target[PATH_MAX];
    if (strlen(path) > SNAPSHOT_PATH_MAX || depth > TREE_DEPTH_MAX)
        return err_set(err, EFBIG, "%.256s…: too deep, or its path is longer than %d bytes", path, SNAPSHOT_PATH_MAX);
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "cannot read %s", path);
    cleanup_entry struct archive_entry *e = archive_put_header(path, &st);
    if (!e)
        return out_of_memory(err);
    int r = archive_links_find(&p->links, e, path, &st, err);
    if (r != 0)
        return r < 0 ? r : archive_put_entry(p->put, e, NULL, 0, err);
    snprintf(at, sizeof(at), "/proc/self/fd/%d/%s", parent, name);
    if ((r = add_xattrs(p, e, at, path, err)) < 0)
        return r;
    if (S_ISSOCK(st.st_mode))
        mark_socket(e, &st);
    if (S_ISREG(st.st_mode))
        return put_regular(p, parent, name, path, e, err);
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlinkat(parent, name, target, sizeof(target) - 1);
        if (n < 0)
            return err_errno(err, errno, "cannot read %s", path);
        target[n] = '\0';
        archive_entry_copy_symlink(e, target);
    }
    if ((r = archive_put_entry(p->put, e, NULL, 0, err)) < 0 || !S_ISDIR(st.st_mode))
        return r;
    cleanup_fd int fd = path_open_beneath(parent, name, O_RDONLY | O_DIRECTORY, 0, err);
    return fd < 0 ? err_wrap(err, "%s", path) : pack_dir(p, fd, path, depth + 1, err);
}

static int pack_dir(struct pack *p, int fd, const char *path, unsigned depth, struct err *err) {
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_dir DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir) {
        int code = errno;
        fd_close(copy);
        return err_errno(err, code, "cannot read %s", path);
    }
    for (;;) {
        errno = 0;
        const struct dirent *d = readdir(dir);
        if (!d)
            return errno ? err_errno(err, errno, "cannot read %s", path) : 0;
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        cleanup_free char *child = str_printf("%s/%s", path, d->d_name);
        int r = child ? put_child(p, fd, d->d_name, child, depth, err) : out_of_memory(err);
        if (r < 0)
            return r;
    }
}

int snapshot_pack_tree(struct archive_put *put, int dirfd, const char *name, struct err *err) {
    struct stat st;
    char at[64];
    cleanup_free char *list = malloc(LIST_MAX), *value = malloc(SNAPSHOT_XATTR_MAX);
    struct pack p = {.put = put, .links = {.max = SNAPSHOT_LINKS_MAX}, .list = list, .value = value};
    if (fstat(dirfd, &st) < 0)
        return err_errno(err, errno, "cannot read %s", name);
    cleanup_entry struct archive_entry *e = archive_put_header(name, &st);
    if (!list || !value || !e)
        return out_of_memory(err);
    snprintf(at, sizeof(at), "/proc/self/fd/%d/.", dirfd);
    int r = add_xattrs(&p, e, at, name, err);
    if (r == 0)
        r = archive_put_entry(put, e, NULL, 0, err);
    if (r == 0)
        r = pack_dir(&p, dirfd, name, 0, err);
    archive_links_clear(&p.links);
    return r;
}
