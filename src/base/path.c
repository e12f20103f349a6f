/* SPDX-License-Identifier: Apache-2.0 */
#include "base/path.h"

#include <dirent.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "base/util.h"

#define TREE_DEPTH_MAX 256    /* so many directories are open at once while a tree is removed */
#define TREE_DEEP_MAX 1048576 /* parts of a tree that are deeper than that */

int id_validate(const char *what, const char *id, struct err *err) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+.-";
    if (!id || !*id)
        return err_set(err, EINVAL, "invalid %s: it is empty", what);
    size_t len = strlen(id);
    if (len > ID_MAX)
        return err_set(err, EINVAL, "invalid %s \"%.32s…\": longer than %d bytes", what, id, ID_MAX);
    if (strspn(id, allowed) != len || strcmp(id, ".") == 0 || strcmp(id, "..") == 0 || id[0] == '-')
        return err_set(err, EINVAL, "invalid %s \"%s\": only letters, digits, _ + - . are allowed, and no leading -",
                       what, id);
    return 0;
}

char *path_join(const char *a, const char *b) {
    size_t n = strlen(a);
    while (n && a[n - 1] == '/')
        n--;
    while (*b == '/')
        b++;
    return str_printf("%.*s/%s", (int)n, a, b);
}

bool path_is_normal(const char *path) {
    if (!path || path[0] != '/')
        return false;
    if (path[1] == '\0')
        return true;
    for (const char *p = path; *p;) {
        const char *start = ++p;
        while (*p && *p != '/')
            p++;
        size_t n = (size_t)(p - start);
        if (n == 0 || (n == 1 && start[0] == '.') || (n == 2 && start[0] == '.' && start[1] == '.'))
            return false;
    }
    return true;
}

int path_open_beneath(int dirfd, const char *path, int flags, mode_t mode, struct err *err) {
    while (*path == '/')
        path++;
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
        .mode = flags & (O_CREAT | __O_TMPFILE) ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    for (;;) {
        long fd = syscall(SYS_openat2, dirfd, *path ? path : ".", &how, sizeof(how));
        if (fd >= 0)
            return (int)fd;
        /* EAGAIN: a rename raced with the walk, the kernel asks to try again. */
        if (errno != EINTR && errno != EAGAIN)
            return err_errno(err, errno, "cannot open %s", path);
    }
}

int path_mkdirs(const char *path, mode_t mode, struct err *err) {
    if (!*path)
        return err_errno(err, ENOENT, "cannot create directory \"\"");
    cleanup_free char *p = strdup(path);
    if (!p)
        return err_set(err, ENOMEM, "out of memory");
    for (char *s = p + 1;; s++) {
        if (*s != '/' && *s != '\0')
            continue;
        char c = *s;
        *s = '\0';
        if (mkdir(p, mode) < 0 && errno != EEXIST)
            return err_errno(err, errno, "cannot create directory %s", p);
        *s = c;
        if (!c)
            break;
    }
    struct stat st;
    if (stat(path, &st) < 0)
        return err_errno(err, errno, "cannot create directory %s", path);
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ENOTDIR, "cannot create directory %s: it exists and is not a directory", path);
    return 0;
}

int path_mkdirs_beneath(int dirfd, const char *path, mode_t mode, struct err *err) {
    cleanup_free char *p = strdup(path);
    if (!p)
        return err_set(err, ENOMEM, "out of memory");
    cleanup_fd int at = path_open_beneath(dirfd, ".", O_PATH | O_DIRECTORY, 0, err);
    if (at < 0)
        return at;
    char *save = NULL;
    for (char *name = strtok_r(p, "/", &save); name; name = strtok_r(NULL, "/", &save)) {
        if (mkdirat(at, name, mode) < 0 && errno != EEXIST)
            return err_errno(err, errno, "cannot create directory %s (at %s)", path, name);
        int next = path_open_beneath(at, name, O_PATH | O_DIRECTORY, 0, err);
        if (next < 0)
            return err_wrap(err, "cannot create directory %s", path);
        fd_close(at);
        at = next;
    }
    return TAKE_FD(at);
}

/* The removal of one tree. What is too deep in it is moved up to its top, and removed from there. */
struct removal {
    dev_t dev;
    int top;        /* the tree's first directory */
    unsigned moved; /* so far */
};

static int move_up(struct removal *rm, int dirfd, const char *name, struct err *err) {
    char to[32];
    struct stat st;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "cannot remove %s", name);
    if (st.st_dev != rm->dev)
        return err_set(err, EXDEV, "cannot remove %s: something is mounted there", name);
    while (rm->moved < TREE_DEEP_MAX) {
        snprintf(to, sizeof(to), ".deep-%u", rm->moved++);
        if (syscall(SYS_renameat2, dirfd, name, rm->top, to, 1u /* RENAME_NOREPLACE */) == 0 || errno == ENOENT)
            return 0;
        if (errno != EEXIST)
            return err_errno(err, errno, "cannot remove %s: it is more than %d directories deep", name, TREE_DEPTH_MAX);
    }
    return err_set(err, ELOOP, "cannot remove %s: more than %d directories are too deep", name, TREE_DEEP_MAX);
}

static int remove_tree(struct removal *rm, int dirfd, const char *name, unsigned depth, struct err *err) {
    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return err_errno(err, errno, "cannot remove %s", name);
    if (depth > TREE_DEPTH_MAX)
        return move_up(rm, dirfd, name, err);

    cleanup_fd int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 && errno == ENOENT)
        return 0; /* another process removes the same */
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(err, errno, "cannot remove %s", name);
    if (st.st_dev != rm->dev)
        return err_set(err, EXDEV, "cannot remove %s: something is mounted there", name);
    cleanup_dir DIR *dir = fdopendir(fd);
    if (!dir)
        return err_errno(err, errno, "cannot read directory %s", name);
    int at = TAKE_FD(fd); /* owned by dir now */
    if (depth == 0)
        rm->top = at;
    unsigned moved;
    do { /* again when something has come from below */
        moved = rm->moved;
        rewinddir(dir);
        struct dirent *e;
        while ((e = readdir(dir))) {
            if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
                continue;
            int r = remove_tree(rm, at, e->d_name, depth + 1, err);
            if (r < 0)
                return r;
        }
    } while (depth == 0 && moved != rm->moved);
    if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return err_errno(err, errno, "cannot remove directory %s", name);
    return 0;
}

int path_remove_tree(int dirfd, const char *name, struct err *err) {
    struct stat st;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "cannot remove %s", name);
    struct removal rm = {.dev = st.st_dev, .top = -1};
    return remove_tree(&rm, dirfd, name, 0, err);
}

int path_own_dir(char **ret, struct err *err) {
    char buf[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", buf, sizeof(buf) - 1);
    if (n < 0)
        return err_errno(err, errno, "cannot read /proc/self/exe");
    buf[n] = '\0';
    char *slash = strrchr(buf, '/');
    if (slash)
        *slash = '\0';
    *ret = strdup(buf);
    return *ret ? 0 : err_set(err, ENOMEM, "out of memory");
}
