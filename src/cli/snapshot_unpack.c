/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/snapshot_unpack.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "base/path.h"

#define MODE_MAX 07777
#define SOCKETS_DIR ".sockets"

/* One open directory. */
struct snapshot_unpack_level {
    char *name;
    int fd;
    /* What it gets when nothing is made in it any more: new files would take the list over. */
    struct timespec mtime;
    void *acl; /* ACL_DEFAULT; NULL: none */
    size_t acl_len;
};

#define ACL_DEFAULT "system.posix_acl_default"

static int failed(const struct snapshot_unpack *u, const char *what, struct err *err) {
    int code = errno;
    if (code == EEXIST)
        return archive_tar_error(u->tar, EINVAL, err, "it comes twice");
    return archive_tar_error(u->tar, code, err, "%s: %s", what, strerror(code));
}

static int refuse(const struct snapshot_unpack *u, const char *why, struct err *err) {
    return archive_tar_error(u->tar, EINVAL, err, "%s", why);
}

int snapshot_unpack_begin(struct snapshot_unpack *u, struct err *err) {
    u->roots_fd = -1;
    u->sockets_fd = -1;
    if (mkdirat(u->dirfd, MANIFEST_ROOTS, 0700) < 0)
        return err_errno(err, errno, "cannot make " MANIFEST_ROOTS);
    u->roots_fd = path_open_beneath(u->dirfd, MANIFEST_ROOTS, O_RDONLY | O_DIRECTORY, 0, err);
    return u->roots_fd < 0 ? u->roots_fd : 0;
}

static int pop(struct snapshot_unpack *u, struct err *err) {
    struct snapshot_unpack_level *l = &u->levels[--u->n];
    const struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, l->mtime};
    int r = 0;
    if (l->acl && fsetxattr(l->fd, ACL_DEFAULT, l->acl, l->acl_len, 0) < 0)
        r = err_errno(err, errno, "directory %s: cannot set its " ACL_DEFAULT, l->name);
    (void)futimens(l->fd, times); /* no digest has it */
    fd_close(l->fd);
    free(l->acl);
    free(l->name);
    return r;
}

int snapshot_unpack_end(struct snapshot_unpack *u, struct err *err) {
    int r = 0;
    while (r == 0 && u->n)
        r = pop(u, err);
    return r < 0 || u->sockets_fd < 0 ? r : path_remove_tree(u->dirfd, SOCKETS_DIR, err);
}

void snapshot_unpack_clear(struct snapshot_unpack *u) {
    while (u->n)
        (void)pop(u, NULL);
    free(u->levels);
    u->levels = NULL;
    u->roots_fd = fd_close(u->roots_fd);
    u->sockets_fd = fd_close(u->sockets_fd);
}

static struct timespec entry_time(struct archive_entry *e) {
    if (!archive_entry_mtime_is_set(e))
        return (struct timespec){.tv_nsec = UTIME_OMIT};
    long nsec = archive_entry_mtime_nsec(e);
    return (struct timespec){.tv_sec = archive_entry_mtime(e), .tv_nsec = nsec >= 0 && nsec < 1000000000 ? nsec : 0};
}

/* Only what a container may have set itself. "trusted." gives orders to an overlay of the host. */
static bool xattr_allowed(const char *name) {
    static const char *const whole[] = {"security.capability", "security.selinux", "system.posix_acl_access",
                                        "system.posix_acl_default"};
    for (size_t i = 0; i < ARRAY_SIZE(whole); i++)
        if (strcmp(name, whole[i]) == 0)
            return true;
    return strncmp(name, "user.", 5) == 0 && strncmp(name, "user.overlay.", 13) != 0;
}

static int set_xattrs(const struct snapshot_unpack *u, struct archive_entry *e, int parent, const char *name,
                      struct err *err) {
    char at[PATH_MAX];
    const char *key;
    const void *value;
    size_t len;
    if (archive_entry_xattr_reset(e) > SNAPSHOT_XATTRS_MAX)
        return archive_tar_error(u->tar, EFBIG, err, "more than %d extended attributes", SNAPSHOT_XATTRS_MAX);
    /* The last component is not followed, and the one before is a descriptor. */
    snprintf(at, sizeof(at), "/proc/self/fd/%d/%s", parent, name);
    while (archive_entry_xattr_next(e, &key, &value, &len) == ARCHIVE_OK) {
        if (key && archive_entry_filetype(e) == AE_IFIFO && strcmp(key, SNAPSHOT_SOCKET) == 0)
            continue;
        if (!key || !xattr_allowed(key))
            return archive_tar_error(u->tar, EINVAL, err, "the attribute \"%.100s\" is not allowed", key ? key : "");
        if (len > SNAPSHOT_XATTR_MAX)
            return archive_tar_error(u->tar, EFBIG, err, "an attribute of %zu bytes", len);
        if (strcmp(key, ACL_DEFAULT) != 0 && lsetxattr(at, key, value, len, 0) < 0)
            return failed(u, key, err);
    }
    return 0;
}

/* Remembers the list that the directory gives to new files. */
static int keep_acl(struct archive_entry *e, struct snapshot_unpack_level *l, struct err *err) {
    const char *key;
    const void *value;
    size_t len;
    (void)archive_entry_xattr_reset(e);
    while (archive_entry_xattr_next(e, &key, &value, &len) == ARCHIVE_OK) {
        if (l->acl || strcmp(key, ACL_DEFAULT) != 0)
            continue;
        l->acl = malloc(len + 1);
        if (!l->acl)
            return err_set(err, ENOMEM, "out of memory");
        memcpy(l->acl, value, len);
        l->acl_len = len;
    }
    return 0;
}

/* All but the time. The owner first: changing it takes setuid and capabilities away. */
static int set_attributes(const struct snapshot_unpack *u, struct archive_entry *e, int parent, const char *name,
                          struct err *err) {
    if (fchownat(parent, name, (uid_t)archive_entry_uid(e), (gid_t)archive_entry_gid(e), AT_SYMLINK_NOFOLLOW) < 0)
        return failed(u, "cannot set its owner", err);
    /* By a path, but of a file that was made just now where nobody else can be. */
    if (archive_entry_filetype(e) != AE_IFLNK && fchmodat(parent, name, archive_entry_perm(e) & MODE_MAX, 0) < 0)
        return failed(u, "cannot set its mode", err);
    return set_xattrs(u, e, parent, name, err);
}

static int set_all(const struct snapshot_unpack *u, struct archive_entry *e, int parent, const char *name,
                   struct err *err) {
    int r = set_attributes(u, e, parent, name, err);
    const struct timespec times[] = {entry_time(e), entry_time(e)};
    if (r == 0 && utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) < 0)
        r = failed(u, "cannot set its time", err);
    return r;
}

static int push(struct snapshot_unpack *u, struct archive_entry *e, int parent, const char *name, struct err *err) {
    if (u->n == u->room) {
        size_t room = MAX(2 * u->room, (size_t)16);
        struct snapshot_unpack_level *more = realloc(u->levels, room * sizeof(*more));
        if (!more)
            return err_set(err, ENOMEM, "out of memory");
        u->levels = more;
        u->room = room;
    }
    struct snapshot_unpack_level l = {.name = strdup(name), .mtime = entry_time(e)};
    int r = l.name ? keep_acl(e, &l, err) : err_set(err, ENOMEM, "out of memory");
    l.fd = r < 0 ? -1 : openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (l.fd < 0) {
        r = r < 0 ? r : failed(u, "cannot open it", err);
        free(l.acl);
        free(l.name);
        return r;
    }
    u->levels[u->n++] = l;
    return 0;
}

static int make_dir(struct snapshot_unpack *u, struct archive_entry *e, int parent, const char *name, struct err *err) {
    if (u->n > TREE_DEPTH_MAX)
        return archive_tar_error(u->tar, EFBIG, err, "more than %d directories deep", TREE_DEPTH_MAX);
    if (mkdirat(parent, name, 0700) < 0)
        return failed(u, "cannot create it", err);
    int r = set_attributes(u, e, parent, name, err);
    return r < 0 ? r : push(u, e, parent, name, err);
}

static int make_file(struct snapshot_unpack *u, struct archive_entry *e, int parent, const char *name,
                     struct err *err) {
    cleanup_fd int fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed(u, "cannot create it", err);
    int r = archive_tar_save(u->tar, fd, err);
    return r < 0 ? r : set_all(u, e, parent, name, err);
}

/* The number of the socket that this FIFO stands for; -ENOENT when it is a FIFO. */
static int socket_number(const struct snapshot_unpack *u, struct archive_entry *e, struct err *err) {
    const char *key;
    const void *value;
    size_t len;
    (void)archive_entry_xattr_reset(e);
    while (archive_entry_xattr_next(e, &key, &value, &len) == ARCHIVE_OK) {
        char text[8] = "";
        uint64_t number;
        if (!key || strcmp(key, SNAPSHOT_SOCKET) != 0)
            continue;
        if (len < sizeof(text))
            memcpy(text, value, len);
        return parse_u64(text, TREE_SOCKET_NUMBERS - 1, &number) < 0 ? refuse(u, "a socket without a number", err)
                                                                     : (int)number;
    }
    return -ENOENT;
}

static int make_socket(struct snapshot_unpack *u, int parent, const char *name, uint8_t number, struct err *err) {
    struct err e = ERR_INIT;
    bool fits = false;
    int r = 0;
    if (u->sockets_fd < 0) {
        if (mkdirat(u->dirfd, SOCKETS_DIR, 0700) < 0)
            return failed(u, "cannot make a directory", err);
        u->sockets_fd = path_open_beneath(u->dirfd, SOCKETS_DIR, O_RDONLY | O_DIRECTORY, 0, &e);
        r = u->sockets_fd < 0 ? u->sockets_fd : tree_sockets_begin(&u->sockets, u->sockets_fd, &e);
    }
    if (r == 0)
        r = tree_sockets_make(&u->sockets, number, parent, name, &fits, &e);
    if (r < 0)
        return r == -EEXIST ? refuse(u, "it comes twice", err) : archive_tar_error(u->tar, -r, err, "%s", e.msg);
    u->lost_sockets += !fits;
    return 0;
}

static int make_special(struct snapshot_unpack *u, struct archive_entry *e, int parent, const char *name,
                        struct err *err) {
    unsigned type = archive_entry_filetype(e);
    if (type == AE_IFLNK) {
        const char *target = archive_entry_symlink(e);
        if (!target || !*target || strlen(target) >= PATH_MAX)
            return refuse(u, "a symbolic link to nothing, or to too much", err);
        if (symlinkat(target, parent, name) < 0)
            return failed(u, "cannot create it", err);
        return set_all(u, e, parent, name, err);
    }
    dev_t dev = 0;
    if (type == AE_IFCHR || type == AE_IFBLK) {
        dev = makedev((unsigned)archive_entry_rdevmajor(e), (unsigned)archive_entry_rdevminor(e));
        bool whiteout = type == AE_IFCHR && dev == 0;
        if (!whiteout && !u->allow_devices)
            return refuse(u, "a device is not allowed (--allow-devices)", err);
    } else if (type != AE_IFIFO) {
        return refuse(u, "of a kind that is not allowed", err);
    }
    int number = type == AE_IFIFO ? socket_number(u, e, err) : -ENOENT;
    if (number < 0 && number != -ENOENT)
        return number;
    if (number >= 0) {
        int r = make_socket(u, parent, name, (uint8_t)number, err);
        return r < 0 ? r : set_all(u, e, parent, name, err);
    }
    mode_t kind = type == AE_IFIFO ? S_IFIFO : type == AE_IFCHR ? S_IFCHR : S_IFBLK;
    if (mknodat(parent, name, kind | 0600, dev) < 0)
        return failed(u, "cannot create it", err);
    return set_all(u, e, parent, name, err);
}

/* To a file of the same root that came before. */
static int make_hard_link(const struct snapshot_unpack *u, struct archive_entry *e, int parent, const char *name,
                          struct err *err) {
    char to[SNAPSHOT_PATH_MAX + 1] = "";
    struct stat st;
    int r = archive_tar_path(u->tar, archive_entry_hardlink(e), to, sizeof(to), err);
    if (r < 0)
        return r;
    cleanup_free char *top = str_printf(MANIFEST_ROOTS "/%s/", u->n ? u->levels[0].name : "");
    if (!top)
        return err_set(err, ENOMEM, "out of memory");
    if (u->n == 0 || strncmp(to, top, strlen(top)) != 0)
        return refuse(u, "a hard link out of its root", err);
    char *rest = to + strlen(top), *slash = strrchr(rest, '/');
    if (slash)
        *slash = '\0';
    cleanup_fd int dir = path_open_beneath(u->levels[0].fd, slash ? rest : ".", O_PATH | O_DIRECTORY, 0, NULL);
    const char *base = slash ? slash + 1 : rest;
    if (dir < 0 || fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return refuse(u, "a hard link to what is not there", err);
    if (S_ISDIR(st.st_mode))
        return refuse(u, "a hard link to a directory", err);
    return linkat(dir, base, parent, name, 0) < 0 ? failed(u, "cannot create it", err) : 0;
}

/* Leaves open the directories that lead to the entry, whose last name is *ret. */
static int find_parent(struct snapshot_unpack *u, char *path, const char **ret, struct err *err) {
    size_t depth = 0;
    char *slash;
    int r = 0;
    for (; (slash = strchr(path, '/')); path = slash + 1, depth++) {
        *slash = '\0';
        if (depth >= u->n || strcmp(u->levels[depth].name, path) != 0)
            return refuse(u, "it does not come right behind its directory", err);
    }
    while (r == 0 && u->n > depth)
        r = pop(u, err);
    *ret = path;
    return r;
}

static int check_entry(const struct snapshot_unpack *u, struct archive_entry *e, struct err *err) {
    if (archive_entry_uid(e) < 0 || archive_entry_uid(e) >= UINT32_MAX || archive_entry_gid(e) < 0 ||
        archive_entry_gid(e) >= UINT32_MAX)
        return refuse(u, "an owner that there cannot be", err);
    return 0;
}

static bool is_root_name(const struct snapshot_unpack *u, const char *name) {
    uint64_t n;
    return parse_u64(name, UINT32_MAX, &n) == 0 && n < u->n_roots && (name[0] != '0' || name[1] == '\0');
}

int snapshot_unpack_entry(struct snapshot_unpack *u, struct archive_entry *e, char *path, struct err *err) {
    bool dir = archive_entry_filetype(e) == AE_IFDIR && !archive_entry_hardlink(e);
    int r = check_entry(u, e, err);
    if (r < 0)
        return r;
    if (strcmp(path, MANIFEST_ROOTS) == 0)
        return dir ? 0 : refuse(u, "it must be a directory", err);
    const char *name = NULL;
    if ((r = find_parent(u, path + strlen(MANIFEST_ROOTS "/"), &name, err)) < 0)
        return r;
    if (!name || strlen(name) > NAME_MAX)
        return archive_tar_error(u->tar, EFBIG, err, "a name of more than %d bytes", NAME_MAX);
    if (u->n == 0 && (!dir || !is_root_name(u, name)))
        return refuse(u, "no container has this root", err);
    int parent = u->n ? u->levels[u->n - 1].fd : u->roots_fd;
    if (archive_entry_hardlink(e))
        return make_hard_link(u, e, parent, name, err);
    if (dir)
        return make_dir(u, e, parent, name, err);
    if (archive_entry_filetype(e) == AE_IFREG)
        return make_file(u, e, parent, name, err);
    return make_special(u, e, parent, name, err);
}
