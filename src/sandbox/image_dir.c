/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/image_dir.h"

#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "oci/criu_pages.h"

#define RENAME_EXCHANGE_ 2u
#define WORK_FILES_MAX 64
#define WORK_BYTES_MAX (UINT64_C(256) << 20) /* of all logs */
#define WORK_LINE_MAX 4096                   /* a longer line of a log is judged by its beginning */
#define LOG_LEVEL_ALL 3u

static bool name_is_plain(const char *name) {
    size_t n = strlen(name);
    if (n == 0 || n > IMAGE_NAME_MAX || name[0] == '.')
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("._-", name[i]))
            return false;
    return true;
}

static int open_dir(const char *path, struct err *err) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "cannot open directory %s", path) : fd;
}

/* Calls fn for each entry but . and .. until one returns not 0. */
static int for_each(int dirfd, const char *path,
                    int (*fn)(int dirfd, const char *name, void *userdata, struct err *err), void *userdata,
                    struct err *err) {
    int copy = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_dir DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
    if (!d) {
        int r = err_errno(err, errno, "cannot read directory %s", path);
        fd_close(copy);
        return r;
    }
    struct dirent *e;
    int r = 0;
    while (r == 0 && (errno = 0, e = readdir(d)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            r = fn(dirfd, e->d_name, userdata, err);
    return r == 0 && errno ? err_errno(err, errno, "cannot read directory %s", path) : r;
}

static int count_one(int dirfd, const char *name, void *userdata, struct err *err) {
    (void)dirfd;
    (void)name;
    (void)err;
    ++*(size_t *)userdata;
    return 0;
}

/* 0: free or empty; 1: has a checkpoint; else the error. */
static int look_at_final(const char *path, struct err *err) {
    cleanup_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "image directory %s", path);
    size_t n = 0;
    int r = for_each(fd, path, count_one, &n, err);
    if (r < 0 || n == 0)
        return r;
    if (faccessat(fd, IMAGE_INVENTORY, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return 1;
    return err_set(err, EEXIST, "image directory %s: is not empty and has no checkpoint", path);
}

static int find_parent(struct image_dir *d, const char *parent_path, struct err *err) {
    if (!*parent_path)
        return 0;
    const char *name = strncmp(parent_path, "../", 3) == 0 ? parent_path + 3 : "";
    if (!name_is_plain(name))
        return err_set(
            err, EINVAL,
            "parent path \"%.200s\": must be \"../NAME\", the directory of the dump before, beside the image "
            "directory",
            parent_path);
    d->parent_name = strdup(name);
    d->parent = str_printf("%.*s/%s", (int)(strrchr(d->final, '/') - d->final), d->final, name);
    if (!d->parent || !d->parent_name)
        return err_set(err, ENOMEM, "out of memory");
    return strcmp(d->parent, d->final) == 0
               ? err_set(err, EINVAL, "parent path %s: is the image directory", parent_path)
               : image_dir_check(d->parent, err);
}

/* The directory that the parent link of `dir` leads to: malloc'd; NULL when there is no such link. */
static int follow_parent(const char *dir, char **ret, struct err *err) {
    char target[sizeof("../") + IMAGE_NAME_MAX +
                1]; /* one more than is good: a longer one is not taken for its beginning */
    cleanup_free char *link = path_join(dir, IMAGE_PARENT);
    *ret = NULL;
    if (!link)
        return err_set(err, ENOMEM, "out of memory");
    ssize_t n = readlink(link, target, sizeof(target) - 1);
    if (n < 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "cannot read the link %s", link);
    target[n] = '\0';
    if (strncmp(target, "../", 3) != 0 || !name_is_plain(target + 3))
        return err_set(err, EINVAL, "checkpoint %s: its parent \"%s\" is not a directory beside it", dir, target);
    *ret = str_printf("%.*s%s", (int)(strrchr(dir, '/') + 1 - dir), dir, target + 3);
    return *ret ? 0 : err_set(err, ENOMEM, "out of memory");
}

int image_dir_parents(const char *dir, struct strv *ret, struct err *err) {
    cleanup_free char *next = NULL;
    int r = follow_parent(dir, &next, err);
    while (r == 0 && next) {
        if (ret->n >= IMAGE_PARENTS_MAX)
            return err_set(err, ELOOP, "checkpoint %s: more than %d parents", dir, IMAGE_PARENTS_MAX);
        r = image_dir_check(next, err);
        if (r == 0 && strv_add(ret, next) < 0)
            r = err_set(err, ENOMEM, "out of memory");
        cleanup_free char *at = TAKE_PTR(next);
        if (r == 0)
            r = follow_parent(at, &next, err);
    }
    return r;
}

int image_dir_chain(const char *dir, struct strv *ret, struct err *err) {
    return strv_add(ret, dir) < 0 ? err_set(err, ENOMEM, "out of memory") : image_dir_parents(dir, ret, err);
}

/* Names that are nobody's yet. */
static int name_tmp(struct image_dir *d, struct err *err) {
    const char *name = strrchr(d->final, '/') + 1;
    uint64_t random;
    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return err_errno(err, errno, "getrandom");
    d->tmp = str_printf("%.*s.%.100s.%016llx", (int)(name - d->final), d->final, name, (unsigned long long)random);
    d->images = d->tmp ? path_join(d->tmp, "images") : NULL;
    d->work = d->tmp ? path_join(d->tmp, "work") : NULL;
    return d->images && d->work ? 0 : err_set(err, ENOMEM, "out of memory");
}

int image_dir_plan(const char *final, const char *parent_path, struct image_dir *ret, struct err *err) {
    if (!path_is_normal(final) || strcmp(final, "/") == 0)
        return err_set(err, EINVAL, "image directory \"%.200s\": must be an absolute, normal path", final);
    struct image_dir d = {.final = strdup(final)};
    if (!d.final)
        return err_set(err, ENOMEM, "out of memory");
    int r = look_at_final(final, err);
    if (r >= 0)
        r = find_parent(&d, parent_path, err);
    if (r >= 0)
        r = name_tmp(&d, err);
    if (r < 0) {
        image_dir_clear(&d);
        return r;
    }
    *ret = d;
    return 0;
}

int image_dir_create(struct image_dir *d, struct err *err) {
    cleanup_free char *dir = str_printf("%.*s", (int)(strrchr(d->tmp, '/') - d->tmp), d->tmp);
    if (!dir)
        return err_set(err, ENOMEM, "out of memory");
    int r = *dir ? path_mkdirs(dir, 0700, err) : 0;
    if (r < 0)
        return r;
    if (FAULT(IMAGES_MAKE) || mkdir(d->tmp, 0700) < 0)
        return err_errno(err, errno, "cannot make a directory in %s", *dir ? dir : "/");
    d->created = true;
    if (FAULT(IMAGES_DIRS) || mkdir(d->images, 0700) < 0 || mkdir(d->work, 0700) < 0)
        return err_errno(err, errno, "cannot make directories in %s", d->tmp);
    return 0;
}

int image_dir_make(const char *final, const char *parent_path, struct image_dir *ret, struct err *err) {
    struct image_dir d = {0};
    int r = image_dir_plan(final, parent_path, &d, err);
    if (r == 0)
        r = image_dir_create(&d, err);
    if (r < 0) {
        image_dir_clear(&d);
        return r;
    }
    *ret = d;
    return 0;
}

void image_dir_abandon(struct image_dir *d) {
    free(d->tmp);
    d->tmp = NULL;
}

void image_dir_clear(struct image_dir *d) {
    struct err err = ERR_INIT;
    if (d->tmp && d->created && path_remove_tree(AT_FDCWD, d->tmp, &err) < 0)
        log_error("%s", err.msg);
    free(d->final);
    free(d->tmp);
    free(d->images);
    free(d->work);
    free(d->parent);
    free(d->parent_name);
    *d = (struct image_dir){0};
}

/* Commit. */

struct commit {
    const struct image_dir *d;
    int to; /* a directory the guest never saw */
    struct image_totals totals;
    bool has_inventory, parent_linked;
};

/* A file that is out of the guest's reach: makes it ours. Returns its size in *ret_size. */
static int adopt(int dirfd, const char *name, uint64_t *ret_size, struct err *err) {
    struct stat st;
    /* Looked at before it is opened, which may have effects: nobody can change what the name is any more. */
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "cannot look at it");
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
        return err_set(err, EINVAL, "is not a regular file of its own");
    cleanup_fd int fd = path_open_beneath(dirfd, name, O_RDONLY, 0, err);
    if (fd < 0)
        return fd;
    if (FAULT(COMMIT_SYNC) || fchown(fd, 0, 0) < 0 || fchmod(fd, 0600) < 0 || fsync(fd) < 0)
        return err_errno(err, errno, "cannot make it durable");
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

static int take_file(int from, const char *name, void *userdata, struct err *err) {
    struct commit *c = userdata;
    uint64_t size = 0;
    if (!name_is_plain(name))
        return err_set(err, EINVAL, "the guest left an image with the name \"%.64s\"", name);
    if (strcmp(name, IMAGE_PARENT) == 0) {
        /* CRIU's link leads to where the parent is in the guest; ours leads there on the host. */
        c->parent_linked = true;
        return 0;
    }
    if (++c->totals.files > IMAGE_FILES_MAX)
        return err_set(err, EFBIG, "the guest left more than %d images", IMAGE_FILES_MAX);
    if (FAULT(COMMIT_MOVE) || renameat(from, name, c->to, name) < 0)
        return err_errno(err, errno, "image %s: cannot move it", name);
    int r = adopt(c->to, name, &size, err);
    c->totals.bytes += size;
    c->has_inventory |= strcmp(name, IMAGE_INVENTORY) == 0;
    return r < 0 ? err_wrap(err, "image %s", name) : 0;
}

static int link_parent(const struct commit *c, struct err *err) {
    if (!c->d->parent)
        return c->parent_linked ? err_set(err, EINVAL, "the guest left a link to a parent that was not asked for") : 0;
    cleanup_free char *target = str_printf("../%s", c->d->parent_name);
    if (!target)
        return err_set(err, ENOMEM, "out of memory");
    return symlinkat(target, c->to, IMAGE_PARENT) < 0 ? err_errno(err, errno, "cannot link the parent %s", target) : 0;
}

static int rename_to(const char *from, const char *to, unsigned flags) {
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

/* The directory gets its final name. An older checkpoint of that name is exchanged for it, and goes with tmp. */
static int publish(const struct commit *c, const char *ready, struct image_totals *ret, struct err *err) {
    const struct image_dir *d = c->d;
    int r = look_at_final(d->final, err);
    if (r < 0)
        return r;
    unsigned flags = r == 1 ? RENAME_EXCHANGE_ : 0;
    __atomic_store_n(&ret->named, true, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&ret->cancelled, __ATOMIC_SEQ_CST)) {
        ret->named = false;
        return err_set(err, ECANCELED, "it was cancelled");
    }
    if (FAULT(COMMIT_RENAME) || rename_to(ready, d->final, flags) < 0) {
        err_errno(err, errno, "cannot rename the images to %s", d->final);
        ret->named = false;
        return -err->code;
    }
    cleanup_free char *dir = str_printf("%.*s/.", (int)(strrchr(d->final, '/') - d->final), d->final);
    cleanup_fd int fd = dir ? open_dir(dir, err) : err_set(err, ENOMEM, "out of memory");
    r = MIN(fd, 0);
    if (r == 0 && (FAULT(COMMIT_SYNC_NAME) || fsync(fd) < 0))
        r = err_errno(err, errno, "cannot sync the directory of %s", d->final);
    /* A call that fails leaves what was there before it. */
    if (r == 0)
        *ret =
            (struct image_totals){.bytes = c->totals.bytes, .files = c->totals.files, .named = true, .committed = true};
    else if (rename_to(d->final, ready, flags) == 0)
        ret->named = false;
    else
        err_append(err, "; the checkpoint is complete all the same, and stays: its name cannot be taken away: %s",
                   strerror(errno));
    return r;
}

static int commit(const struct image_dir *d, struct image_totals *ret, struct err *err) {
    cleanup_free char *ready = path_join(d->tmp, "ready");
    struct commit c = {.d = d, .to = -1};
    if (!ready)
        return err_set(err, ENOMEM, "out of memory");
    if (FAULT(COMMIT_READY) || mkdir(ready, 0700) < 0)
        return err_errno(err, errno, "cannot make %s", ready);
    cleanup_fd int from = open_dir(d->images, err);
    cleanup_fd int to = from < 0 ? from : open_dir(ready, err);
    if (to < 0)
        return to;
    c.to = to;
    int r = for_each(from, d->images, take_file, &c, err);
    if (r == 0 && !c.has_inventory)
        r = err_set(err, EINVAL, "the guest left no " IMAGE_INVENTORY);
    if (r == 0)
        r = link_parent(&c, err);
    if (r == 0 && (FAULT(COMMIT_SYNC_DIR) || fsync(to) < 0))
        r = err_errno(err, errno, "cannot sync %s", ready);
    return r < 0 ? r : publish(&c, ready, ret, err);
}

int image_dir_commit(const struct image_dir *d, struct image_totals *ret, struct err *err) {
    int r = commit(d, ret, err);
    return r < 0 ? err_wrap(err, "checkpoint %s", d->final) : 0;
}

/* Logs. */

struct collect {
    int to;
    uint32_t log_level;
    size_t n;
    uint64_t left; /* bytes */
};

static int copy_whole(int in, int out, struct collect *c) {
    char buf[16384];
    ssize_t n;
    int r = 0;
    while (r == 0 && (n = read(in, buf, MIN((uint64_t)sizeof(buf), c->left))) != 0) {
        r = n < 0 ? -errno : fd_write_all(out, buf, (size_t)n);
        c->left -= n > 0 ? (uint64_t)n : 0;
    }
    return r;
}

/* The version is wanted at every level: `checkpoint inspect` compares it. */
static bool line_counts(const char *line, uint32_t level) {
    return strstr(line, "Error (") || strstr(line, ") Version: ") || (level >= 2 && strstr(line, "Warn  ("));
}

static int copy_lines(int in, int out, struct collect *c) {
    int copy = fcntl(in, F_DUPFD_CLOEXEC, 3);
    cleanup_file FILE *f = copy >= 0 ? fdopen(copy, "r") : NULL;
    char line[WORK_LINE_MAX];
    bool begins = true, counts = false;
    int r = 0;
    if (!f) {
        r = -errno;
        fd_close(copy);
        return r;
    }
    while (r == 0 && c->left > 0 && fgets(line, sizeof(line), f)) {
        size_t n = strlen(line);
        if (begins)
            counts = line_counts(line, c->log_level);
        begins = n > 0 && line[n - 1] == '\n';
        if (counts)
            r = fd_write_all(out, line, MIN(n, c->left));
        c->left -= MIN(MAX(n, 1), c->left);
    }
    return r == 0 && ferror(f) ? -EIO : r;
}

static int collect_one(int from, const char *name, void *userdata, struct err *err) {
    struct collect *c = userdata;
    struct stat st;
    if (++c->n > WORK_FILES_MAX) {
        log_warn("the guest left more than %d files in the work directory: the rest is dropped", WORK_FILES_MAX);
        return 1;
    }
    if (!name_is_plain(name) || fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
        st.st_nlink != 1 || (uint64_t)st.st_size > c->left) {
        log_warn("the guest left \"%.64s\" in the work directory, which is no log: dropped", name);
        return 0;
    }
    cleanup_fd int in = path_open_beneath(from, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, err);
    if (in < 0)
        return in;
    (void)unlinkat(c->to, name, 0); /* never written through; if it stays, so does the error */
    cleanup_fd int out =
        FAULT(COLLECT_LOG) ? -1 : openat(c->to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (out < 0)
        return err_errno(err, errno, "cannot create %s in the work directory", name);
    bool is_log = strcmp(name, "dump.log") == 0 || strcmp(name, "restore.log") == 0;
    int r = is_log && c->log_level < LOG_LEVEL_ALL ? copy_lines(in, out, c) : copy_whole(in, out, c);
    return r < 0 ? err_errno(err, -r, "cannot copy %s to the work directory", name) : 0;
}

int image_dir_collect_work(const struct image_dir *d, const char *to, uint32_t log_level, struct err *err) {
    int r = FAULT(COLLECT_DIR) ? err_errno(err, errno, "cannot create directory %s", to) : path_mkdirs(to, 0700, err);
    if (r < 0)
        return r;
    cleanup_fd int from = open_dir(d->work, err);
    cleanup_fd int target = from < 0 ? from : open_dir(to, err);
    if (target < 0)
        return target;
    struct collect c = {.to = target, .log_level = log_level, .left = WORK_BYTES_MAX};
    r = for_each(from, d->work, collect_one, &c, err);
    return MIN(r, 0);
}

/* Restore. */

static int check_one(int dirfd, const char *name, void *userdata, struct err *err) {
    size_t *n = userdata;
    struct stat st;
    if (++*n > IMAGE_FILES_MAX)
        return err_set(err, EFBIG, "has more than %d files", IMAGE_FILES_MAX);
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "%.64s", name);
    if (strcmp(name, IMAGE_PARENT) == 0 && S_ISLNK(st.st_mode))
        return 0;
    return S_ISREG(st.st_mode) ? 0 : err_set(err, EINVAL, "%.64s: is not a regular file", name);
}

int image_dir_check(const char *dir, struct err *err) {
    cleanup_fd int fd = open_dir(dir, err);
    size_t n = 0;
    if (fd < 0)
        return fd;
    if (faccessat(fd, IMAGE_INVENTORY, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
        return err_set(err, ENOENT, "checkpoint %s: has no " IMAGE_INVENTORY, dir);
    int r = for_each(fd, dir, check_one, &n, err);
    if (r == 0)
        r = criu_pages_check(fd, err);
    return r < 0 ? err_wrap(err, "checkpoint %s", dir) : 0;
}
