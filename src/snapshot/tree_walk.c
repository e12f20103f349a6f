/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "snapshot/tree_impl.h"

#define LINKS_FIRST 1024

int tree_walk_init(struct tree_walk *w, struct err *err) {
    *w = (struct tree_walk){
        .path = malloc(TREE_PATH_MAX), .list = malloc(TREE_XATTR_MAX), .value = malloc(TREE_XATTR_MAX), .path_len = 1};
    if (!w->path || !w->list || !w->value) {
        tree_walk_clear(w);
        return err_set(err, ENOMEM, "out of memory");
    }
    memcpy(w->path, ".", 2);
    return 0;
}

void tree_walk_clear(struct tree_walk *w) {
    free(w->path);
    free(w->list);
    free(w->value);
    free(w->links);
    *w = (struct tree_walk){0};
}

int tree_fail(const struct tree_walk *w, int code, const char *what, struct err *err) {
    return err_errno(err, code, "cannot %s %s", what, w->path);
}

size_t tree_enter(struct tree_walk *w, const char *name) {
    size_t before = w->path_len, len = strlen(name);
    if (before + 1 + len < TREE_PATH_MAX) {
        w->path[before] = '/';
        memcpy(w->path + before + 1, name, len + 1);
        w->path_len = before + 1 + len;
    }
    return before;
}

void tree_leave(struct tree_walk *w, size_t path_len) {
    w->path_len = path_len;
    w->path[path_len] = '\0';
}

const char *tree_name(const struct tree_names *names, size_t i) {
    return names->bytes + names->at[i];
}

static int add_name(struct tree_names *names, const char *name) {
    size_t len = strlen(name) + 1;
    if (names->used + len > names->room) {
        size_t room = MAX(names->room * 2, 4096);
        char *bytes = realloc(names->bytes, room);
        if (!bytes)
            return -ENOMEM;
        names->bytes = bytes;
        names->room = room;
    }
    if (names->n == names->n_room) {
        size_t room = MAX(names->n_room * 2, 64);
        size_t *at = realloc(names->at, room * sizeof(*at));
        if (!at)
            return -ENOMEM;
        names->at = at;
        names->n_room = room;
    }
    memcpy(names->bytes + names->used, name, len);
    names->at[names->n++] = names->used;
    names->used += len;
    return 0;
}

static int by_bytes(const void *a, const void *b, void *bytes) {
    const char *base = bytes;
    return strcmp(base + *(const size_t *)a, base + *(const size_t *)b);
}

static int read_names(struct tree_walk *w, int fd, struct tree_names *names, struct err *err) {
    /* An open file of its own: the offset of fd is the caller's. */
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_dir DIR *d = own < 0 ? NULL : fdopendir(own);
    struct dirent *e;
    if (!d) {
        fd_close(own);
        return tree_fail(w, errno, "read directory", err);
    }
    while (errno = 0, (e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (add_name(names, e->d_name) < 0)
            return err_set(err, ENOMEM, "out of memory");
        if (w->entries + names->n > TREE_ENTRIES_MAX)
            return err_set(err, E2BIG, "%s: more than %d entries", w->path, TREE_ENTRIES_MAX);
        if (w->names_bytes + names->used > TREE_NAMES_MAX)
            return err_set(err, E2BIG, "%s: names of more than %zu bytes", w->path, TREE_NAMES_MAX);
    }
    return errno ? tree_fail(w, errno, "read directory", err) : 0;
}

int tree_list(struct tree_walk *w, int fd, struct tree_names *ret, struct err *err) {
    struct tree_names names = {0};
    if (w->depth >= TREE_DEPTH_MAX)
        return err_set(err, ELOOP, "%s: more than %d directories deep", w->path, TREE_DEPTH_MAX);
    int r = read_names(w, fd, &names, err);
    if (r < 0) {
        free(names.bytes);
        free(names.at);
        return r;
    }
    if (names.n)
        qsort_r(names.at, names.n, sizeof(*names.at), by_bytes, names.bytes);
    w->depth++;
    w->entries += names.n;
    w->names_bytes += names.used;
    *ret = names;
    return 0;
}

void tree_unlist(struct tree_walk *w, struct tree_names *names) {
    w->depth--;
    w->names_bytes -= names->used;
    free(names->bytes);
    free(names->at);
    *names = (struct tree_names){0};
}

int tree_open(struct tree_walk *w, int dirfd, const char *name, struct stat *ret_st, struct err *err) {
    struct open_how how = {
        .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    long r;
    do
        r = syscall(SYS_openat2, dirfd, name, &how, sizeof(how));
    while (r < 0 && (errno == EINTR || errno == EAGAIN));
    cleanup_fd int fd = (int)r;
    if (fd < 0 && errno == EXDEV)
        return err_set(err, EXDEV, "%s: something is mounted there", w->path);
    if (fd < 0 || fstat(fd, ret_st) < 0)
        return tree_fail(w, errno, "open", err);
    return TAKE_FD(fd);
}

struct tree_fd_path tree_fd_path(int fd) {
    struct tree_fd_path p;
    snprintf(p.text, sizeof(p.text), "/proc/self/fd/%d", fd);
    return p;
}

int tree_reopen(struct tree_walk *w, int fd, int flags, struct err *err) {
    struct tree_fd_path p = tree_fd_path(fd);
    int opened = open(p.text, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return opened < 0 ? tree_fail(w, errno, "open", err) : opened;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int tree_xattrs(struct tree_walk *w, int fd, tree_xattr_fn fn, void *userdata, struct err *err) {
    struct tree_fd_path p = tree_fd_path(fd);
    ssize_t len = listxattr(p.text, w->list, TREE_XATTR_MAX);
    if (len < 0 && errno == ENOTSUP)
        return 0;
    if (len < 0)
        return tree_fail(w, errno, "list the extended attributes of", err);
    size_t n = 0, i = 0;
    for (ssize_t at = 0; at < len; at += (ssize_t)strlen(w->list + at) + 1)
        n++;
    if (n == 0)
        return 0;
    cleanup_free const char **names = calloc(n, sizeof(*names));
    if (!names)
        return err_set(err, ENOMEM, "out of memory");
    for (ssize_t at = 0; at < len; at += (ssize_t)strlen(w->list + at) + 1)
        names[i++] = w->list + at;
    qsort(names, n, sizeof(*names), by_text);
    for (i = 0; i < n; i++) {
        ssize_t size = getxattr(p.text, names[i], w->value, TREE_XATTR_MAX);
        if (size < 0 && errno == ENODATA)
            continue; /* removed meanwhile */
        if (size < 0)
            return tree_fail(w, errno, "read an extended attribute of", err);
        int r = fn(w, names[i], w->value, (size_t)size, userdata, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static struct tree_link *find_slot(struct tree_link *links, size_t room, uint64_t dev, uint64_t ino) {
    size_t i = (size_t)((ino ^ dev << 7) * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (room - 1);
    while (links[i].number && (links[i].dev != dev || links[i].ino != ino))
        i = (i + 1) & (room - 1);
    return &links[i];
}

static int grow_links(struct tree_walk *w) {
    size_t room = MAX(w->links_room * 2, LINKS_FIRST);
    struct tree_link *links = calloc(room, sizeof(*links));
    if (!links)
        return -ENOMEM;
    for (size_t i = 0; i < w->links_room; i++)
        if (w->links[i].number)
            *find_slot(links, room, w->links[i].dev, w->links[i].ino) = w->links[i];
    free(w->links);
    w->links = links;
    w->links_room = room;
    return 0;
}

int tree_link_number(struct tree_walk *w, const struct stat *st, uint64_t number, uint64_t *ret, bool *ret_new,
                     struct err *err) {
    if (w->links_n * 2 >= w->links_room && grow_links(w) < 0)
        return err_set(err, ENOMEM, "out of memory");
    struct tree_link *l = find_slot(w->links, w->links_room, st->st_dev, st->st_ino);
    *ret_new = l->number == 0;
    if (*ret_new) {
        if (w->links_n >= TREE_LINKS_MAX)
            return err_set(err, E2BIG, "%s: more than %d files with several names", w->path, TREE_LINKS_MAX);
        *l = (struct tree_link){.dev = st->st_dev, .ino = st->st_ino, .number = number};
        w->links_n++;
    }
    *ret = l->number;
    return 0;
}
