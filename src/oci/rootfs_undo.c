/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/rootfs_undo.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "base/path.h"
#include "oci/rootfs_diff.h"
#include "oci/rootfs_move.h"

#define MAGIC 0x6f646e55U /* "Undo" */
#define PAYLOAD_MAX (2 * ROOTFS_DIFF_PATH_MAX + ROOTFS_DIFF_XATTR_MAX)
#define ASIDE_LEN (sizeof(ROOTFS_UNDO_ASIDE) - 1 + 16)

enum kind {
    BEGUN = 1,  /* payload: name of the directory at the top; the times are the root's */
    CREATED,    /* path */
    MOVED,      /* path, to the file `number` of that directory */
    CHANGED,    /* path: a directory's owner, mode, time */
    ATTRIBUTE,  /* path, NUL, name, NUL, value: it was this */
    ATTRIBUTE_0 /* path, NUL, name: there was none */
};

/* Ends a record; its payload is before it. */
struct record {
    uint32_t magic, kind, len, mode, uid, gid;
    uint64_t number;
    int64_t sec, nsec; /* mtime */
};

struct rootfs_undo {
    int dirfd, root; /* borrowed */
    int journal, aside;
    char name[ASIDE_LEN + 1];
    uint64_t size; /* of the journal */
    uint64_t n_moved;
    struct err homeless;                   /* the first thing that has no place to go back to; code 0: none */
    char parent[ROOTFS_DIFF_PATH_MAX + 1]; /* whose times were noted last */
    bool noted;                            /* parent is one */
};

struct rootfs_undo *rootfs_undo_free(struct rootfs_undo *u) {
    if (!u)
        return NULL;
    fd_close(u->journal);
    fd_close(u->aside);
    free(u);
    return NULL;
}

static int append(struct rootfs_undo *u, struct record *rec, const char *path, const void *more, size_t more_len,
                  struct err *err) {
    size_t len = strlen(path) + more_len;
    rec->magic = MAGIC;
    rec->len = (uint32_t)len;
    const struct iovec parts[] = {{.iov_base = (void *)(uintptr_t)path, .iov_len = len - more_len},
                                  {.iov_base = (void *)(uintptr_t)more, .iov_len = more_len},
                                  {.iov_base = rec, .iov_len = sizeof(*rec)}};
    ssize_t n = pwritev(u->journal, parts, ARRAY_SIZE(parts), (off_t)u->size);
    if (n != (ssize_t)(len + sizeof(*rec))) {
        int r = err_errno(err, n < 0 ? errno : ENOSPC,
                          "cannot note how to take a change of /%s back (in " ROOTFS_UNDO_JOURNAL ")", path);
        return ftruncate(u->journal, (off_t)u->size) < 0 ? err_append(err, "; and it is damaged now") : r;
    }
    u->size += (uint64_t)n;
    return 0;
}

static struct record record_of(enum kind kind, const struct stat *st) {
    return (struct record){.kind = kind,
                           .mode = st->st_mode & 07777,
                           .uid = st->st_uid,
                           .gid = st->st_gid,
                           .sec = st->st_mtim.tv_sec,
                           .nsec = st->st_mtim.tv_nsec};
}

int rootfs_undo_changing(struct rootfs_undo *u, const char *path, int fd, struct err *err) {
    struct stat st;
    if (!u)
        return 0;
    if (fstat(fd, &st) < 0)
        return err_errno(err, errno, "cannot look at /%s", path);
    struct record rec = record_of(CHANGED, &st);
    return append(u, &rec, path, NULL, 0, err);
}

/* The directory that path is in gets its time back as well. */
static int note_parent(struct rootfs_undo *u, const char *path, int parent, struct err *err) {
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    if (u->noted && strncmp(u->parent, path, len) == 0 && u->parent[len] == '\0')
        return 0;
    if (len >= sizeof(u->parent))
        return err_set(err, ENAMETOOLONG, "/%.256s…: too long", path);
    memcpy(u->parent, path, len);
    u->parent[len] = '\0';
    u->noted = true;
    return rootfs_undo_changing(u, u->parent, parent, err);
}

int rootfs_undo_creating(struct rootfs_undo *u, const char *path, int parent, struct err *err) {
    struct record rec = {.kind = CREATED};
    int r = u ? note_parent(u, path, parent, err) : 0;
    return !u || r < 0 ? r : append(u, &rec, path, NULL, 0, err);
}

int rootfs_undo_setting(struct rootfs_undo *u, const char *path, int fd, const char *attribute, struct err *err) {
    if (!u)
        return 0;
    struct record rec = {.kind = ATTRIBUTE};
    size_t name_len = strlen(attribute) + 1;
    cleanup_free char *more = malloc(1 + name_len + ROOTFS_DIFF_XATTR_MAX);
    if (!more)
        return err_set(err, ENOMEM, "out of memory");
    more[0] = '\0';
    memcpy(more + 1, attribute, name_len);
    ssize_t n = fgetxattr(fd, attribute, more + 1 + name_len, ROOTFS_DIFF_XATTR_MAX);
    if (n < 0 && errno != ENODATA && errno != EOPNOTSUPP)
        return err_errno(err, errno, "cannot read the attribute %s of /%s", attribute, path);
    rec.kind = n < 0 ? ATTRIBUTE_0 : ATTRIBUTE;
    return append(u, &rec, path, more, 1 + name_len + (n < 0 ? 0 : (size_t)n), err);
}

int rootfs_undo_remove(struct rootfs_undo *u, const char *path, int parent, struct err *err) {
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    struct record rec = {.kind = MOVED};
    struct stat st;
    char to[24];
    if (fstatat(parent, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "cannot look at /%s", path);
    if (!u)
        return path_remove_tree(parent, base, err);
    rec.number = u->n_moved;
    int r = note_parent(u, path, parent, err);
    if (r == 0)
        r = append(u, &rec, path, NULL, 0, err);
    if (r < 0)
        return r;
    u->n_moved++;
    snprintf(to, sizeof(to), "%llu", (unsigned long long)rec.number);
    r = rootfs_move(parent, base, u->aside, to, err);
    return r < 0 ? err_wrap(err, "cannot set /%s aside", path) : 0;
}

/* Taking back. */

/* Opens the directory that path is in. -ENOENT: it is gone, or something else by now. */
static int open_parent(const struct rootfs_undo *u, const char *path, const char **ret_base, struct err *err) {
    const char *slash = strrchr(path, '/');
    cleanup_free char *dir = slash ? str_printf("%.*s", (int)(slash - path), path) : strdup(".");
    if (!dir)
        return err_set(err, ENOMEM, "out of memory");
    *ret_base = slash ? slash + 1 : path;
    int fd = path_open_beneath(u->root, dir, O_RDONLY | O_DIRECTORY, 0, err);
    return fd == -ENOTDIR || fd == -ELOOP || fd == -EXDEV ? -ENOENT : fd;
}

static int remove_created(const struct rootfs_undo *u, const char *path, struct err *err) {
    const char *base = "";
    struct err e = ERR_INIT;
    cleanup_fd int parent = open_parent(u, path, &base, &e);
    if (parent == -ENOENT)
        return 0; /* a container that ran has removed it */
    return parent < 0 ? err_copy(err, &e) : path_remove_tree(parent, base, err);
}

static int move_back(struct rootfs_undo *u, const struct record *rec, const char *path, struct err *err) {
    const char *base = "";
    struct stat st;
    char name[24];
    struct err e = ERR_INIT;
    snprintf(name, sizeof(name), "%llu", (unsigned long long)rec->number);
    if (u->aside < 0 || (fstatat(u->aside, name, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT))
        return 0; /* it was not moved, or is back already */
    cleanup_fd int parent = open_parent(u, path, &base, &e);
    if (parent == -ENOENT) { /* a container that ran has removed its directory */
        if (!u->homeless.code)
            err_set(&u->homeless, ENOENT, "/%s cannot go back, its directory is gone: it is in /%s", path, u->name);
        return 0;
    }
    if (parent < 0)
        return err_copy(err, &e);
    int r = rootfs_move_back(u->aside, name, parent, base, err);
    return r < 0 ? err_wrap(err, "cannot bring /%s back", path) : 0;
}

/* Opens the directory at path, "" for the root. -ENOENT as open_parent(). */
static int open_changed(const struct rootfs_undo *u, const char *path, struct err *err) {
    int fd = path_open_beneath(u->root, *path ? path : ".", O_RDONLY | O_DIRECTORY, 0, err);
    return fd == -ENOTDIR || fd == -ELOOP || fd == -EXDEV ? -ENOENT : fd;
}

static int set_back(const struct rootfs_undo *u, const struct record *rec, const char *path, struct err *err) {
    struct stat st;
    struct err e = ERR_INIT;
    cleanup_fd int fd = open_changed(u, path, &e);
    if (fd == -ENOENT)
        return 0;
    if (fd < 0)
        return err_copy(err, &e);
    bool owner = fstat(fd, &st) < 0 || st.st_uid != rec->uid || st.st_gid != rec->gid;
    const struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = rec->sec, .tv_nsec = rec->nsec}};
    if ((owner && fchown(fd, rec->uid, rec->gid) < 0) ||
        ((owner || (st.st_mode & 07777) != rec->mode) && fchmod(fd, rec->mode & 07777) < 0) || futimens(fd, times) < 0)
        return err_errno(err, errno, "cannot give /%s its owner, mode and time back", path);
    return 0;
}

static int set_attribute_back(const struct rootfs_undo *u, const struct record *rec, const char *payload,
                              struct err *err) {
    struct err e = ERR_INIT;
    const char *name = memchr(payload, '\0', rec->len);
    name = name ? name + 1 : payload;
    size_t left = rec->len - (size_t)(name - payload), name_len = strnlen(name, left);
    if (name == payload || name_len == left || strncmp(name, "user.", 5) != 0)
        return err_set(err, EINVAL, ROOTFS_UNDO_JOURNAL " is damaged");
    cleanup_fd int fd = open_changed(u, payload, &e);
    if (fd == -ENOENT)
        return 0;
    if (fd < 0)
        return err_copy(err, &e);
    int r = rec->kind == ATTRIBUTE ? fsetxattr(fd, name, name + name_len + 1, left - name_len - 1, 0)
                                   : fremovexattr(fd, name);
    return r < 0 && errno != ENODATA && errno != EOPNOTSUPP
               ? err_errno(err, errno, "cannot give /%s its attribute %s back", payload, name)
               : 0;
}

/* Reads the record that ends at `end`, with a NUL behind its payload. */
static int read_record(const struct rootfs_undo *u, uint64_t end, struct record *rec, char **ret, struct err *err) {
    if (end < sizeof(*rec) || pread(u->journal, rec, sizeof(*rec), (off_t)(end - sizeof(*rec))) != sizeof(*rec) ||
        rec->magic != MAGIC || rec->len > PAYLOAD_MAX || rec->len > end - sizeof(*rec))
        return err_set(err, EINVAL, ROOTFS_UNDO_JOURNAL " is damaged");
    cleanup_free char *payload = calloc(1, (size_t)rec->len + 1);
    if (!payload)
        return err_set(err, ENOMEM, "out of memory");
    if (pread(u->journal, payload, rec->len, (off_t)(end - sizeof(*rec) - rec->len)) != (ssize_t)rec->len)
        return err_set(err, EINVAL, ROOTFS_UNDO_JOURNAL " is damaged");
    *ret = TAKE_PTR(payload);
    return 0;
}

static int take_back(struct rootfs_undo *u, const struct record *rec, const char *payload, struct err *err) {
    switch ((enum kind)rec->kind) {
    case CREATED:
        return remove_created(u, payload, err);
    case MOVED:
        return move_back(u, rec, payload, err);
    case CHANGED:
        return set_back(u, rec, payload, err);
    case ATTRIBUTE:
    case ATTRIBUTE_0:
        return set_attribute_back(u, rec, payload, err);
    case BEGUN:
        break;
    }
    return err_set(err, EINVAL, ROOTFS_UNDO_JOURNAL " is damaged");
}

/* The directory goes, and last the journal; the root has the time that it had. */
static int finish(struct rootfs_undo *u, const struct record *begun, struct err *err) {
    int r = u->homeless.code ? 0 : path_remove_tree(u->root, u->name, err);
    u->aside = fd_close(u->aside);
    if (r < 0)
        return r;
    if (begun) /* without the directory another attempt would not know this root: the journal goes in any case */
        r = set_back(u, begun, "", err);
    if (unlinkat(u->dirfd, ROOTFS_UNDO_JOURNAL, 0) < 0 && r == 0)
        r = err_errno(err, errno, "cannot remove " ROOTFS_UNDO_JOURNAL);
    return r == 0 && u->homeless.code ? err_copy(err, &u->homeless) : r;
}

/* The first record alone: all that is left to be done is to remove the directory. */
static uint64_t first_end(const struct rootfs_undo *u) {
    return sizeof(struct record) + strlen(u->name);
}

int rootfs_undo_keep(struct rootfs_undo *u, struct err *err) {
    /* From here on it is kept, whatever becomes of this process: there is nothing to take back. The root's time is the
     * new one. */
    struct record rec = {.kind = BEGUN, .magic = MAGIC, .len = (uint32_t)strlen(u->name), .number = 1};
    if (ftruncate(u->journal, (off_t)first_end(u)) < 0 ||
        pwrite(u->journal, &rec, sizeof(rec), (off_t)strlen(u->name)) != sizeof(rec))
        return err_errno(err, errno, "cannot write " ROOTFS_UNDO_JOURNAL);
    u->size = first_end(u);
    return finish(u, NULL, err);
}

int rootfs_undo_back(struct rootfs_undo *u, struct err *err) {
    for (;;) {
        cleanup_free char *payload = NULL;
        struct record rec;
        int r = read_record(u, u->size, &rec, &payload, err);
        if (r < 0)
            return r;
        if (u->size == first_end(u))
            return finish(u, rec.number ? NULL : &rec, err);
        if ((r = take_back(u, &rec, payload, err)) < 0)
            return r;
        u->size -= sizeof(rec) + rec.len;
        if (ftruncate(u->journal, (off_t)u->size) < 0)
            return err_errno(err, errno, "cannot write " ROOTFS_UNDO_JOURNAL);
    }
}

static int new_undo(int dirfd, int root_fd, struct rootfs_undo **ret, struct err *err) {
    struct rootfs_undo *u = calloc(1, sizeof(*u));
    if (!u)
        return err_set(err, ENOMEM, "out of memory");
    u->dirfd = dirfd;
    u->root = root_fd;
    u->journal = u->aside = -1;
    *ret = u;
    return 0;
}

static int lock(const struct rootfs_undo *u, struct err *err) {
    if (flock(u->journal, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK
                   ? err_set(err, EBUSY, "another restore is at work on its root (it has " ROOTFS_UNDO_JOURNAL ")")
                   : err_errno(err, errno, "cannot lock " ROOTFS_UNDO_JOURNAL);
    return 0;
}

static int make_aside(struct rootfs_undo *u, struct err *err) {
    uint64_t random;
    struct stat st;
    if (getrandom(&random, sizeof(random), 0) != sizeof(random) || fstat(u->root, &st) < 0)
        return err_errno(err, errno, "cannot choose a name");
    snprintf(u->name, sizeof(u->name), ROOTFS_UNDO_ASIDE "%016llx", (unsigned long long)random);
    struct record rec = record_of(BEGUN, &st);
    int r = append(u, &rec, u->name, NULL, 0, err);
    if (r < 0)
        return r;
    if (mkdirat(u->root, u->name, 0700) < 0)
        return err_errno(err, errno, "cannot make a directory in it");
    u->aside = path_open_beneath(u->root, u->name, O_RDONLY | O_DIRECTORY, 0, err);
    if (u->aside < 0) {
        const struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, st.st_mtim};
        (void)unlinkat(u->root, u->name, AT_REMOVEDIR);
        (void)futimens(u->root, times);
    }
    return u->aside < 0 ? u->aside : 0;
}

int rootfs_undo_begin(int dirfd, int root_fd, struct rootfs_undo **ret, struct err *err) {
    cleanup_rootfs_undo struct rootfs_undo *u = NULL;
    int r = new_undo(dirfd, root_fd, &u, err);
    if (r < 0)
        return r;
    u->journal = openat(dirfd, ROOTFS_UNDO_JOURNAL, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (u->journal < 0)
        return err_errno(err, errno, "cannot make " ROOTFS_UNDO_JOURNAL);
    r = lock(u, err);
    if (r == 0 && (r = make_aside(u, err)) < 0)
        (void)unlinkat(dirfd, ROOTFS_UNDO_JOURNAL, 0);
    if (r == 0)
        *ret = TAKE_PTR(u);
    return r;
}

/* 1: there is a journal, and it is locked. */
static int open_journal(struct rootfs_undo *u, struct err *err) {
    struct stat st;
    u->journal = openat(u->dirfd, ROOTFS_UNDO_JOURNAL, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (u->journal < 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "cannot open " ROOTFS_UNDO_JOURNAL);
    if (fstat(u->journal, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) ||
        st.st_nlink > 1)
        return err_set(err, EINVAL, ROOTFS_UNDO_JOURNAL " is not a file of ours alone");
    int r = lock(u, err);
    if (r < 0)
        return r;
    /* Its owner may have ended, with it, before we had the lock. */
    if (fstat(u->journal, &st) < 0 || st.st_nlink == 0)
        return 0;
    u->size = (uint64_t)st.st_size;
    return 1;
}

/* The name that the first record has. */
static int read_name(struct rootfs_undo *u, struct err *err) {
    cleanup_free char *payload = NULL;
    struct record rec;
    char text[ASIDE_LEN + 1] = "";
    if (pread(u->journal, text, ASIDE_LEN, 0) != ASIDE_LEN)
        return err_set(err, EINVAL, ROOTFS_UNDO_JOURNAL " is damaged");
    memcpy(u->name, text, sizeof(text));
    int r = strlen(text) == ASIDE_LEN ? read_record(u, first_end(u), &rec, &payload, err) : -EINVAL;
    if (r < 0 || rec.kind != BEGUN || strncmp(text, ROOTFS_UNDO_ASIDE, strlen(ROOTFS_UNDO_ASIDE)) != 0 ||
        strspn(text + strlen(ROOTFS_UNDO_ASIDE), "0123456789abcdef") != 16)
        return err_set(err, EINVAL, ROOTFS_UNDO_JOURNAL " is damaged");
    return 0;
}

int rootfs_undo_recover(int dirfd, int root_fd, struct err *err) {
    cleanup_rootfs_undo struct rootfs_undo *u = NULL;
    struct err e = ERR_INIT;
    int r = new_undo(dirfd, root_fd, &u, err);
    if (r == 0)
        r = open_journal(u, err);
    if (r <= 0)
        return r;
    bool changes = u->size > 0;
    if (changes) {
        if ((r = read_name(u, err)) < 0)
            return r;
        u->aside = path_open_beneath(root_fd, u->name, O_RDONLY | O_DIRECTORY, 0, &e);
        if (u->aside >= 0) {
            r = rootfs_undo_back(u, err);
            return r < 0 ? r : 1;
        }
        if (u->aside != -ENOENT)
            return err_copy(err, &e);
    }
    /* Nothing was done yet, or to another root than the one that is there now. */
    u->aside = -1;
    if (unlinkat(dirfd, ROOTFS_UNDO_JOURNAL, 0) < 0)
        return err_errno(err, errno, "cannot remove " ROOTFS_UNDO_JOURNAL);
    return changes && u->size > first_end(u) ? 2 : 0;
}
