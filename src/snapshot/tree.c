/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/tree.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "base/path.h"
#include "snapshot/tree_impl.h"
#include "snapshot/tree_socket.h"

#define BUFFER_SIZE ((size_t)256 << 10)
#define PIECE_MAX ((size_t)1 << 30) /* of one call to copy in the kernel */

/* First names of inodes with several are also kept here, under their number, until the end: a path to one may be longer
 * than the kernel takes, and an fd of each may be more than there are. */
struct copy {
    struct tree_walk walk;
    int top; /* of the target; borrowed */
    int links;
    char links_name[32];
    struct tree_sockets sockets; /* made in `links` */
    size_t lost_sockets;
    char *buffer;
};

static int set_xattr(struct tree_walk *w, const char *name, const void *value, size_t len, void *userdata,
                     struct err *err) {
    const char *to = userdata;
    if (setxattr(to, name, value, len, 0) < 0) {
        int code = errno;
        return err_errno(err, code, "cannot set the extended attribute %s of the copy of %s", name, w->path);
    }
    return 0;
}

/* Owner, extended attributes, mode, times, in the order in which none undoes another. `from` and `to` may be O_PATH. */
static int copy_attributes(struct copy *c, int from, const struct stat *st, int to, struct err *err) {
    struct tree_fd_path p = tree_fd_path(to);
    struct timespec times[2] = {st->st_atim, st->st_mtim};
    if (fchownat(to, "", st->st_uid, st->st_gid, AT_EMPTY_PATH) < 0)
        return tree_fail(&c->walk, errno, "set the owner of the copy of", err);
    int r = tree_xattrs(&c->walk, from, set_xattr, p.text, err);
    if (r < 0)
        return r;
    if (!S_ISLNK(st->st_mode) && chmod(p.text, st->st_mode & 07777) < 0)
        return tree_fail(&c->walk, errno, "set the mode of the copy of", err);
    if (utimensat(to, "", times, AT_EMPTY_PATH) < 0)
        return tree_fail(&c->walk, errno, "set the times of the copy of", err);
    return 0;
}

/* Returns bytes copied, 0 when the source ends before. */
static ssize_t copy_piece(struct copy *c, int from, int to, off_t at, size_t len, bool *in_kernel) {
    ssize_t n;
    if (*in_kernel) {
        off_t in = at, out = at;
        n = copy_file_range(from, &in, to, &out, MIN(len, PIECE_MAX), 0);
        /* 0 also where a file system does not know how: read() tells an end. */
        if (n > 0 || (n < 0 && errno != EXDEV && errno != EINVAL && errno != EOPNOTSUPP && errno != ENOSYS))
            return n;
        *in_kernel = false;
    }
    n = pread(from, c->buffer, MIN(len, BUFFER_SIZE), at);
    for (ssize_t done = 0; done < n;) {
        ssize_t k = pwrite(to, c->buffer + done, (size_t)(n - done), at + done);
        if (k < 0 && errno != EINTR)
            return -1;
        done += MAX(k, 0);
    }
    return n;
}

static int copy_data(struct copy *c, int from, int to, off_t size, struct err *err) {
    bool in_kernel = true;
    /* Contents that cannot be shared are copied, whatever the reason. */
    if (size == 0 || ioctl(to, FICLONE, from) == 0)
        return 0;
    if (ftruncate(to, size) < 0)
        return tree_fail(&c->walk, errno, "size the copy of", err);
    for (off_t at = 0; at < size;) {
        off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        off_t end = data < 0 ? -1 : lseek(from, data, SEEK_HOLE);
        if (end < 0)
            return tree_fail(&c->walk, errno, "find the data of", err);
        /* A hole that was made between the two calls. */
        end = MIN(MAX(end, data + 1), size);
        for (at = data; at < end;) {
            ssize_t n = copy_piece(c, from, to, at, (size_t)(end - at), &in_kernel);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                return tree_fail(&c->walk, errno, "copy", err);
            if (n == 0)
                return 0; /* it was made shorter meanwhile */
            at += n;
        }
    }
    return 0;
}

static int copy_file(struct copy *c, int from, const struct stat *st, int dst, const char *name, struct err *err) {
    cleanup_fd int in = tree_reopen(&c->walk, from, O_RDONLY | O_NOATIME, err);
    if (in < 0)
        return in;
    cleanup_fd int out = openat(dst, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (out < 0)
        return tree_fail(&c->walk, errno, "create the copy of", err);
    int r = copy_data(c, in, out, st->st_size, err);
    return r < 0 ? r : copy_attributes(c, from, st, out, err);
}

static int make_links_dir(struct copy *c, struct err *err);

static int make_socket(struct copy *c, const struct stat *like, int dst, const char *name, struct err *err) {
    bool fits = false;
    int r = make_links_dir(c, err);
    if (r == 0)
        r = tree_sockets_make(&c->sockets, tree_socket_number(like->st_ino), dst, name, &fits, err);
    if (r < 0)
        return err_wrap(err, "%s", c->walk.path);
    c->lost_sockets += !fits;
    return 0;
}

/* Symbolic links, devices, FIFOs, sockets: made, never opened. */
static int copy_special(struct copy *c, int from, const struct stat *st, int dst, const char *name, struct err *err) {
    if (S_ISLNK(st->st_mode)) {
        char target[PATH_MAX];
        ssize_t n = readlinkat(from, "", target, sizeof(target) - 1);
        if (n < 0)
            return tree_fail(&c->walk, errno, "read the link", err);
        target[n] = '\0';
        if (symlinkat(target, dst, name) < 0)
            return tree_fail(&c->walk, errno, "create the copy of", err);
    } else if (S_ISSOCK(st->st_mode)) {
        int r = make_socket(c, st, dst, name, err);
        if (r < 0)
            return r;
    } else if (mknodat(dst, name, (st->st_mode & S_IFMT) | 0600, st->st_rdev) < 0)
        return tree_fail(&c->walk, errno, "create the copy of", err);
    cleanup_fd int to = openat(dst, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (to < 0)
        return tree_fail(&c->walk, errno, "open the copy of", err);
    return copy_attributes(c, from, st, to, err);
}

static int make_links_dir(struct copy *c, struct err *err) {
    uint64_t random;
    if (c->links >= 0)
        return 0;
    /* A name that nobody who makes the source can guess. */
    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return err_errno(err, errno, "getrandom");
    snprintf(c->links_name, sizeof(c->links_name), ".links-%016llx", (unsigned long long)random);
    if (mkdirat(c->top, c->links_name, 0700) < 0 ||
        (c->links = openat(c->top, c->links_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
        return err_errno(err, errno, "cannot create %s in the copy", c->links_name);
    return tree_sockets_begin(&c->sockets, c->links, err);
}

static int copy_dir(struct copy *c, int src, int dst, struct err *err);

static int copy_subdir(struct copy *c, int from, const struct stat *st, int dst, const char *name, struct err *err) {
    cleanup_fd int in = tree_reopen(&c->walk, from, O_RDONLY | O_DIRECTORY | O_NOATIME, err);
    if (in < 0)
        return in;
    if (mkdirat(dst, name, 0700) < 0)
        return tree_fail(&c->walk, errno, "create the copy of", err);
    cleanup_fd int out = openat(dst, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (out < 0)
        return tree_fail(&c->walk, errno, "open the copy of", err);
    int r = copy_dir(c, in, out, err);
    return r < 0 ? r : copy_attributes(c, in, st, out, err);
}

static int copy_entry(struct copy *c, int src, int dst, const char *name, struct err *err) {
    struct stat st;
    cleanup_fd int from = tree_open(&c->walk, src, name, &st, err);
    if (from == -ENOENT && err)
        *err = (struct err)ERR_INIT;
    if (from < 0)
        return from == -ENOENT ? 0 : from;
    if (S_ISDIR(st.st_mode))
        return copy_subdir(c, from, &st, dst, name, err);
    uint64_t number = 0;
    char text[24];
    bool first = true;
    int r = 0;
    if (st.st_nlink > 1 && ((r = tree_link_number(&c->walk, &st, c->walk.links_n + 1, &number, &first, err)) < 0 ||
                            (r = make_links_dir(c, err)) < 0))
        return r;
    snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
    if (!first)
        return linkat(c->links, text, dst, name, 0) < 0 ? tree_fail(&c->walk, errno, "link the copy of", err) : 0;
    r = S_ISREG(st.st_mode) ? copy_file(c, from, &st, dst, name, err) : copy_special(c, from, &st, dst, name, err);
    if (r == 0 && number && linkat(dst, name, c->links, text, 0) < 0)
        return tree_fail(&c->walk, errno, "link the copy of", err);
    return r;
}

static int copy_dir(struct copy *c, int src, int dst, struct err *err) {
    struct tree_names names;
    int r = tree_list(&c->walk, src, &names, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < names.n && r == 0; i++) {
        size_t len = tree_enter(&c->walk, tree_name(&names, i));
        r = copy_entry(c, src, dst, tree_name(&names, i), err);
        tree_leave(&c->walk, len);
    }
    tree_unlist(&c->walk, &names);
    return r;
}

static int copy_top(struct copy *c, int src, int dst, struct err *err) {
    struct stat st;
    if (fstat(src, &st) < 0)
        return tree_fail(&c->walk, errno, "stat", err);
    int r = copy_dir(c, src, dst, err);
    if (c->links >= 0) {
        c->links = fd_close(c->links);
        int removed = path_remove_tree(dst, c->links_name, r < 0 ? NULL : err);
        r = r < 0 ? r : removed;
    }
    return r < 0 ? r : copy_attributes(c, src, &st, dst, err);
}

int tree_copy(int src_fd, int dst_fd, size_t *ret_lost_sockets, struct tree_totals *ret, struct err *err) {
    struct copy c = {.top = dst_fd, .links = -1, .buffer = malloc(BUFFER_SIZE)};
    int r = c.buffer ? tree_walk_init(&c.walk, err) : err_set(err, ENOMEM, "out of memory");
    if (r == 0) {
        r = copy_top(&c, src_fd, dst_fd, err);
        tree_walk_clear(&c.walk);
    }
    if (ret_lost_sockets)
        *ret_lost_sockets = c.lost_sockets;
    free(c.buffer);
    return r < 0 || !ret ? r : tree_digest(dst_fd, ret, err);
}
