/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/store.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"

#define NEW_PREFIX ".new-"
#define OLD_PREFIX ".old-"
#define TEMP_TRIES 100
#define NAP_NSEC 2000000

static int check_name(const char *name, struct err *err) {
    int r = id_validate("snapshot name", name, err);
    if (r == 0 && name[0] == '.')
        return err_set(err, EINVAL, "invalid snapshot name \"%s\": it begins with a dot", name);
    return r;
}

static int make_dir(const char *dir, struct err *err) {
    cleanup_free char *parent = strdup(dir);
    if (!parent)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t n = strlen(parent); n > 1 && parent[n - 1] == '/'; n--)
        parent[n - 1] = '\0';
    char *slash = strrchr(parent, '/');
    if (slash && slash != parent) {
        *slash = '\0';
        int r = path_mkdirs(parent, 0755, err);
        if (r < 0)
            return r;
    }
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return err_errno(err, errno, "cannot create %s", dir);
    return 0;
}

int store_open(const char *dir, bool make, struct store *ret, struct err *err) {
    int r = make ? make_dir(dir, err) : 0;
    if (r < 0)
        return r;
    cleanup_fd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(err, errno, "cannot open %s", dir);
    if (st.st_uid != 0 || st.st_mode & (S_IWGRP | S_IWOTH))
        return err_set(err, EPERM, "%s must be root's, and no one else may write to it (owner %u, mode %04o)", dir,
                       st.st_uid, st.st_mode & 07777);
    char *copy = strdup(dir);
    if (!copy)
        return err_set(err, ENOMEM, "out of memory");
    *ret = (struct store){.fd = TAKE_FD(fd), .dir = copy};
    return 0;
}

void store_close(struct store *s) {
    if (s->fd > 0)
        fd_close(s->fd);
    free(s->dir);
    *s = (struct store){.fd = -1};
}

/* Opens a directory of the store and takes its lock, if that is free. Returns the fd; -EWOULDBLOCK. */
static int open_locked(const struct store *s, const char *name, int lock) {
    cleanup_fd int fd = openat(s->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || flock(fd, lock | LOCK_NB) < 0)
        return -errno;
    return TAKE_FD(fd);
}

/* Returns an fd that holds the store's lock until it is closed: an open file of its own, as a fork has s->fd too. */
static int lock_store(const struct store *s, struct err *err) {
    cleanup_fd int fd = openat(s->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd < 0 || flock(fd, LOCK_EX) < 0)
        if (fd < 0 || errno != EINTR)
            return err_errno(err, errno, "cannot lock %s", s->dir);
    return TAKE_FD(fd);
}

static bool is_temp(const char *name) {
    return strncmp(name, NEW_PREFIX, strlen(NEW_PREFIX)) == 0 || strncmp(name, OLD_PREFIX, strlen(OLD_PREFIX)) == 0;
}

static DIR *list(const struct store *s) {
    /* An open file of its own: the offset of s->fd is not disturbed, nor its lock. */
    int fd = openat(s->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        fd_close(fd);
    return d;
}

/* Removes what others left behind. The store's lock makes sure that a free lock is not one that is about to be taken;
 * removing needs only the directory's. */
static void sweep(const struct store *s) {
    cleanup_dir DIR *d = list(s);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        struct err err = ERR_INIT;
        if (!is_temp(e->d_name))
            continue;
        int lock = lock_store(s, NULL);
        cleanup_fd int fd = lock < 0 ? -1 : open_locked(s, e->d_name, LOCK_EX);
        fd_close(lock);
        if (fd >= 0 && path_remove_tree(s->fd, e->d_name, &err) < 0)
            log_warn("%s: a leftover: %s", s->dir, err.msg);
    }
}

void store_tidy(const char *dir) {
    struct store s = {.fd = -1};
    if (store_open(dir, false, &s, NULL) == 0)
        sweep(&s);
    store_close(&s);
}

static char *temp_name(const char *prefix, const char *name) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    unsigned char random[6];
    char text[sizeof(random) + 1] = "";
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return NULL;
    for (size_t i = 0; i < sizeof(random); i++)
        text[i] = letters[random[i] % (sizeof(letters) - 1)];
    return str_printf("%s%s-%s", prefix, name, text);
}

/* Makes the directory and locks it, under the store's lock. */
static int make_temp(const struct store *s, const char *name, int *ret_fd, char **ret_tmp, struct err *err) {
    for (int i = 0; i < TEMP_TRIES; i++) {
        cleanup_free char *tmp = temp_name(NEW_PREFIX, name);
        if (!tmp)
            return err_set(err, ENOMEM, "out of memory");
        if (mkdirat(s->fd, tmp, 0700) < 0) {
            if (errno == EEXIST)
                continue;
            return err_errno(err, errno, "cannot create %s/%s", s->dir, tmp);
        }
        int fd = open_locked(s, tmp, LOCK_EX);
        if (fd < 0) {
            (void)unlinkat(s->fd, tmp, AT_REMOVEDIR);
            return err_errno(err, -fd, "cannot lock %s/%s", s->dir, tmp);
        }
        *ret_fd = fd;
        *ret_tmp = TAKE_PTR(tmp);
        return 0;
    }
    return err_set(err, EEXIST, "cannot find a free name in %s", s->dir);
}

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

int store_begin(const struct store *s, const char *name, int *ret_fd, char **ret_tmp, struct err *err) {
    struct stat st;
    int r = check_name(name, err);
    if (r < 0)
        return r;
    if (fstatat(s->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return err_set(err, EEXIST, "there is a snapshot %s in %s already", name, s->dir);
    sweep(s);
    cleanup_fd int lock = lock_store(s, err);
    return lock < 0 ? lock : make_temp(s, name, ret_fd, ret_tmp, err);
}

int store_commit(const struct store *s, const char *tmp, const char *name, bool sync, struct err *err) {
    int r = check_name(name, err);
    if (r < 0)
        return r;
    if (!is_temp(tmp))
        return err_set(err, EINVAL, "%s/%s is no unfinished snapshot", s->dir, tmp);
    /* All of it in one call, however many files there are: syncfs() writes every file and directory of the file system
     * and waits for the disk, and the file system's journal with the names in them. It tells of a write that failed in
     * the background if that was after the fd was opened; so it is the store's, which was open before the first write.
     */
    if (sync && (FAULT(SNAPSHOT_SYNC) || syncfs(s->fd) < 0))
        return err_errno(err, errno, "cannot write %s/%s to the disk", s->dir, tmp);
    if (FAULT(SNAPSHOT_RENAME) || renameat2(s->fd, tmp, s->fd, name, RENAME_NOREPLACE) < 0) {
        if (errno == EEXIST)
            return err_set(err, EEXIST, "there is a snapshot %s in %s already", name, s->dir);
        return err_errno(err, errno, "cannot rename %s/%s to %s", s->dir, tmp, name);
    }
    /* The new name is the one thing that was changed since. */
    if (sync && (FAULT(SNAPSHOT_SYNC_NAME) || fsync(s->fd) < 0)) {
        int code = errno;
        (void)renameat2(s->fd, name, s->fd, tmp, RENAME_NOREPLACE); /* what is called failed is not there */
        return err_errno(err, code, "cannot write %s to the disk", s->dir);
    }
    return 0;
}

int store_take_back(const struct store *s, int dir_fd, const char *name, const char *tmp, struct err *err) {
    struct stat mine, there;
    if (fstat(dir_fd, &mine) < 0 || fstatat(s->fd, name, &there, AT_SYMLINK_NOFOLLOW) < 0 || !same_file(&mine, &there))
        return 0;
    if (renameat2(s->fd, name, s->fd, tmp, RENAME_NOREPLACE) < 0)
        return err_errno(err, errno, "cannot take the name %s in %s away", name, s->dir);
    return 0;
}

void store_abort(const struct store *s, const char *tmp) {
    struct err err = ERR_INIT;
    if (is_temp(tmp) && path_remove_tree(s->fd, tmp, &err) < 0)
        log_error("%s: cannot remove an unfinished snapshot: %s", s->dir, err.msg);
}

static int absent(const struct store *s, const char *name, struct err *err) {
    return err_set(err, ENOENT, "there is no snapshot %s in %s", name, s->dir);
}

/* The lock is of a directory that may have been renamed meanwhile: it counts if it is still the one of that name. */
static int open_current(const struct store *s, const char *name, int lock) {
    struct stat mine, there;
    cleanup_fd int fd = open_locked(s, name, lock);
    if (fd < 0)
        return fd;
    if (fstat(fd, &mine) < 0 || fstatat(s->fd, name, &there, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    if (!same_file(&mine, &there))
        return -EWOULDBLOCK;
    return TAKE_FD(fd);
}

int store_use(const struct store *s, const char *name, int *ret_fd, struct err *err) {
    int fd = check_name(name, err);
    if (fd < 0)
        return fd;
    uint64_t deadline = now_usec() + STORE_WAIT_USEC;
    /* flock() has no timeout. */
    while ((fd = open_current(s, name, LOCK_SH)) == -EWOULDBLOCK && now_usec() < deadline)
        nanosleep(&(struct timespec){.tv_nsec = NAP_NSEC}, NULL);
    if (fd == -ENOENT)
        return absent(s, name, err);
    if (fd == -EWOULDBLOCK)
        return err_set(err, EBUSY, "snapshot %s is being made or removed", name);
    if (fd < 0)
        return err_errno(err, -fd, "cannot open snapshot %s in %s", name, s->dir);
    *ret_fd = fd;
    return 0;
}

int store_remove(const struct store *s, const char *name, struct err *err) {
    int r = check_name(name, err);
    if (r < 0)
        return r;
    cleanup_fd int fd = open_current(s, name, LOCK_EX);
    if (fd == -ENOENT)
        return absent(s, name, err);
    if (fd == -EWOULDBLOCK)
        return err_set(err, EBUSY, "snapshot %s is in use", name);
    if (fd < 0)
        return err_errno(err, -fd, "cannot remove snapshot %s in %s", name, s->dir);
    cleanup_free char *old = temp_name(OLD_PREFIX, name);
    if (!old)
        return err_set(err, ENOMEM, "out of memory");
    if (renameat2(s->fd, name, s->fd, old, RENAME_NOREPLACE) < 0)
        return err_errno(err, errno, "cannot remove snapshot %s in %s", name, s->dir);
    /* Before anything in it goes: a snapshot that a power cut brings back must be whole. */
    if (fsync(s->fd) < 0)
        return err_errno(err, errno, "cannot write %s to the disk", s->dir);
    r = path_remove_tree(s->fd, old, err);
    return r < 0 ? err_wrap(err, "cannot remove snapshot %s in %s", name, s->dir) : 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int store_list(const struct store *s, struct strv *ret, struct err *err) {
    cleanup_dir DIR *d = list(s);
    struct dirent *e;
    if (!d)
        return err_errno(err, errno, "cannot read directory %s", s->dir);
    while (errno = 0, (e = readdir(d))) {
        struct stat st;
        if (check_name(e->d_name, NULL) < 0 || fstatat(s->fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            !S_ISDIR(st.st_mode))
            continue;
        if (strv_add(ret, e->d_name) < 0)
            return err_set(err, ENOMEM, "out of memory");
    }
    if (errno)
        return err_errno(err, errno, "cannot read directory %s", s->dir);
    if (ret->n)
        qsort(ret->v, ret->n, sizeof(*ret->v), by_name);
    return 0;
}
