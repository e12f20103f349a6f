/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/rootfs.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mountinfo.h"
#include "base/path.h"
#include "base/util.h"
#include "sandbox/loop.h"

#define IGNORED_PREFIX "X-containerd."
#define LOWERDIR "lowerdir="
#define SHOWN_OPTIONS_MAX 512 /* bytes of the options in a message */

static const struct {
    const char *name;
    unsigned long set, clear;
} flag_options[] = {
    {"async", 0, MS_SYNCHRONOUS},
    {"atime", 0, MS_NOATIME},
    {"bind", MS_BIND, 0},
    {"defaults", 0, 0},
    {"dev", 0, MS_NODEV},
    {"diratime", 0, MS_NODIRATIME},
    {"dirsync", MS_DIRSYNC, 0},
    {"exec", 0, MS_NOEXEC},
    {"mand", MS_MANDLOCK, 0},
    {"noatime", MS_NOATIME, 0},
    {"nodev", MS_NODEV, 0},
    {"nodiratime", MS_NODIRATIME, 0},
    {"noexec", MS_NOEXEC, 0},
    {"nomand", 0, MS_MANDLOCK},
    {"norelatime", 0, MS_RELATIME},
    {"nostrictatime", 0, MS_STRICTATIME},
    {"nosuid", MS_NOSUID, 0},
    {"nosymfollow", MS_NOSYMFOLLOW, 0},
    {"rbind", MS_BIND | MS_REC, 0},
    {"relatime", MS_RELATIME, 0},
    {"ro", MS_RDONLY, 0},
    {"rw", 0, MS_RDONLY},
    {"strictatime", MS_STRICTATIME, 0},
    {"suid", 0, MS_NOSUID},
    {"symfollow", 0, MS_NOSYMFOLLOW},
    {"sync", MS_SYNCHRONOUS, 0},
};

static const struct {
    const char *name;
    unsigned long flags;
} propagation_options[] = {
    {"private", MS_PRIVATE},       {"rprivate", MS_PRIVATE | MS_REC},       {"rshared", MS_SHARED | MS_REC},
    {"rslave", MS_SLAVE | MS_REC}, {"runbindable", MS_UNBINDABLE | MS_REC}, {"shared", MS_SHARED},
    {"slave", MS_SLAVE},           {"unbindable", MS_UNBINDABLE},
};

/* The options of one mount, sorted out. */
struct options {
    unsigned long flags;       /* MS_* of the mount */
    unsigned long propagation; /* MS_SHARED, …, with MS_REC; 0: nothing to change */
    bool loop;
    struct strv data; /* for the file system */
};

static void options_clear(struct options *o) {
    strv_clear(&o->data);
}
#define cleanup_options CLEANUP(options_clear)

static bool is_flag(const char *name, struct options *o) {
    for (size_t i = 0; i < ARRAY_SIZE(flag_options); i++)
        if (strcmp(name, flag_options[i].name) == 0) {
            o->flags = (o->flags & ~flag_options[i].clear) | flag_options[i].set;
            return true;
        }
    for (size_t i = 0; i < ARRAY_SIZE(propagation_options); i++)
        if (strcmp(name, propagation_options[i].name) == 0) {
            o->propagation = propagation_options[i].flags;
            return true;
        }
    return false;
}

static int options_parse(const struct rootfs_mount *m, struct options *ret, struct err *err) {
    for (size_t i = 0; i < m->n_options; i++) {
        const char *name = m->options[i];
        if (is_flag(name, ret))
            continue;
        if (strcmp(name, "loop") == 0)
            ret->loop = true;
        else if (strcmp(name, "remount") == 0)
            return err_set(err, EINVAL, "options[%zu]: remount makes no sense for a root file system", i);
        else if (strncmp(name, "uidmap=", 7) == 0 || strncmp(name, "gidmap=", 7) == 0)
            return err_set(err, ENOTSUP, "options[%zu]: id-mapped root file systems are not supported", i);
        else if (strncmp(name, IGNORED_PREFIX, strlen(IGNORED_PREFIX)) == 0)
            log_debug("rootfs: option %.256s of %s is not for us, ignored", name, m->source ? m->source : "");
        else if (strv_add(&ret->data, name) < 0)
            return err_set(err, ENOMEM, "out of memory");
    }
    if (m->type && strcmp(m->type, "bind") == 0)
        ret->flags |= MS_BIND;
    /* As the kernel does: there is no file system to understand them. */
    for (size_t i = 0; ret->flags & MS_BIND && i < ret->data.n; i++)
        log_debug("rootfs: option %.256s means nothing to a bind mount, ignored", ret->data.v[i]);
    return 0;
}

/* "a,b,c", malloc'd; "" for none. NULL when out of memory. */
static char *join(char *const *v, size_t n) {
    size_t size = 1;
    for (size_t i = 0; i < n; i++)
        size += strlen(v[i]) + 1;
    char *s = malloc(size), *end = s;
    if (!s)
        return NULL;
    *end = '\0';
    for (size_t i = 0; i < n; i++) {
        if (i)
            *end++ = ',';
        end = stpcpy(end, v[i]);
    }
    return s;
}

/* The end of the first directory of a lowerdir list: at a colon, which a backslash takes its meaning, or the end. */
static const char *dir_end(const char *s) {
    while (*s && *s != ':')
        s += s[0] == '\\' && s[1] ? 2 : 1;
    return s;
}

/* Bytes of list's first directory up to and with the last slash that all directories share; 0 if there is none but the
 * root. Empty ones (before data-only layers, "a::b") do not count. A parent with a backslash is left alone: it would
 * have to be unescaped, and nobody has one. */
static size_t common_parent(const char *list) {
    size_t len = (size_t)(dir_end(list) - list);
    for (const char *dir = list;; dir++) {
        const char *end = dir_end(dir);
        size_t n = 0;
        while (n < len && dir + n < end && dir[n] == list[n])
            n++;
        if (end > dir)
            len = n;
        if (!*(dir = end))
            break;
    }
    while (len && list[len - 1] != '/')
        len--;
    return len > 1 && list[0] == '/' && !memchr(list, '\\', len) ? len : 0;
}

/* Makes the lower directories relative to their common parent, which is returned malloc'd in *ret_parent. Leaves all as
 * it is (NULL) when there is no lowerdir option or no such parent. */
static int overlay_shorten(struct strv *data, char **ret_parent, struct err *err) {
    for (size_t i = 0; i < data->n; i++) {
        char *list = data->v[i];
        if (strncmp(list, LOWERDIR, strlen(LOWERDIR)) != 0)
            continue;
        list += strlen(LOWERDIR);
        size_t len = common_parent(list);
        if (!len)
            return 0;
        *ret_parent = strndup(list, len);
        if (!*ret_parent)
            return err_set(err, ENOMEM, "out of memory");
        /* In place: it only gets shorter. */
        char *to = list;
        for (const char *dir = list;; dir++) {
            const char *end = dir_end(dir), *from = end > dir ? dir + len : dir;
            while (from < end && *from == '/')
                from++;
            memmove(to, from, (size_t)(end - from));
            to += end - from;
            if (!*end)
                break;
            *to++ = ':';
            dir = end;
        }
        *to = '\0';
        return 0;
    }
    return 0;
}

/* What mount(2) takes: it would cut off silently at a page. */
static int options_data(const struct rootfs_mount *m, struct options *o, char **ret, char **ret_cwd, struct err *err) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    cleanup_free char *data = join(o->data.v, o->data.n);
    if (data && strlen(data) >= page && m->type && strcmp(m->type, "overlay") == 0) {
        int r = overlay_shorten(&o->data, ret_cwd, err);
        if (r < 0)
            return r;
        free(data);
        data = join(o->data.v, o->data.n);
    }
    if (!data)
        return err_set(err, ENOMEM, "out of memory");
    if (strlen(data) >= page)
        return err_set(err, E2BIG, "the options have %zu bytes, the kernel takes %zu", strlen(data), page - 1);
    *ret = TAKE_PTR(data);
    return 0;
}

/* An O_PATH fd of what is on top at dir, or at target below it. */
static int open_target(const char *dir, const char *target, struct err *err) {
    cleanup_fd int fd = open(dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "cannot open %s", dir);
    if (!target || !*target)
        return TAKE_FD(fd);
    int at = path_open_beneath(fd, target, O_PATH, 0, err);
    return at < 0 ? err_wrap(err, "target") : at;
}

#define FD_PATH_MAX 32
static const char *fd_path(int fd, char buf[FD_PATH_MAX]) {
    snprintf(buf, FD_PATH_MAX, "/proc/self/fd/%d", fd);
    return buf;
}

/* A bind mount is copied, gets its flags, and only then is put in place: it is never writable for a moment. */
static int mount_bind(const struct rootfs_mount *m, const struct options *o, int target, struct err *err) {
    const char *source = m->source ? m->source : "";
    unsigned recursive = o->flags & MS_REC ? AT_RECURSIVE : 0;
    static const struct {
        unsigned long flag;
        uint64_t attr;
    } attrs[] = {{MS_RDONLY, MOUNT_ATTR_RDONLY},         {MS_NOSUID, MOUNT_ATTR_NOSUID},
                 {MS_NODEV, MOUNT_ATTR_NODEV},           {MS_NOEXEC, MOUNT_ATTR_NOEXEC},
                 {MS_NODIRATIME, MOUNT_ATTR_NODIRATIME}, {MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW}};
    struct mount_attr attr = {0};
    for (size_t i = 0; i < ARRAY_SIZE(attrs); i++)
        if (o->flags & attrs[i].flag)
            attr.attr_set |= attrs[i].attr;
    if (o->flags & (MS_NOATIME | MS_STRICTATIME | MS_RELATIME)) {
        attr.attr_clr = MOUNT_ATTR__ATIME;
        attr.attr_set |= o->flags & MS_NOATIME       ? MOUNT_ATTR_NOATIME
                         : o->flags & MS_STRICTATIME ? MOUNT_ATTR_STRICTATIME
                                                     : MOUNT_ATTR_RELATIME;
    }
    cleanup_fd int tree = open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | recursive);
    if (tree < 0)
        return err_errno(err, errno, "cannot bind %s", source);
    if ((attr.attr_set || attr.attr_clr) && mount_setattr(tree, "", AT_EMPTY_PATH | recursive, &attr, sizeof(attr)) < 0)
        return err_errno(err, errno, "cannot set the mount options of %s", source);
    if (move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return err_errno(err, errno, "cannot mount %s", source);
    return 0;
}

/* mount(2), from the working directory cwd if there is one. */
static int mount_from(const char *cwd, const char *source, const char *target, const char *type, unsigned long flags,
                      const char *data, struct err *err) {
    cleanup_fd int back = -1;
    if (cwd) {
        if ((back = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
            return err_errno(err, errno, "cannot open the working directory");
        if (chdir(cwd) < 0)
            return err_errno(err, errno, "cannot change to %s, the parent of the lower directories", cwd);
    }
    int r = 0;
    if (mount(source, target, type, flags, data) < 0)
        r = errno == ENODEV ? err_set(err, ENODEV, "this kernel has no file system of that type")
                            : err_errno(err, errno, "cannot mount it");
    if (cwd && fchdir(back) < 0) {
        int error = errno;
        if (r == 0)
            (void)umount2(target, MNT_DETACH); /* the caller counts it as not mounted; the error tells the rest */
        return err_errno(err, error, "cannot change back from %s", cwd);
    }
    return r;
}

static int mount_new(const struct rootfs_mount *m, struct options *o, int target, struct err *err) {
    cleanup_free char *data = NULL, *cwd = NULL;
    cleanup_fd int loop = -1;
    char device[LOOP_NAME_MAX], path[FD_PATH_MAX];
    int r = options_data(m, o, &data, &cwd, err);
    if (r < 0)
        return r;
    const char *source = m->source ? m->source : "";
    if (o->loop) {
        if ((loop = loop_attach(source, o->flags & MS_RDONLY, device, err)) < 0)
            return loop;
        source = device;
    }
    return mount_from(cwd, source, fd_path(target, path), m->type ? m->type : "", o->flags, data, err);
}

/* Takes away the topmost mount at target. The fd was opened without links, so that its path may be followed. */
static int unmount_top(const char *dir, const char *target, struct err *err) {
    char path[FD_PATH_MAX];
    cleanup_fd int fd = open_target(dir, target, err);
    if (fd < 0)
        return fd;
    if (umount2(fd_path(fd, path), MNT_DETACH) < 0)
        return err_errno(err, errno, "cannot unmount %s/%s", dir, target ? target : "");
    return 0;
}

static int set_propagation(const struct rootfs_mount *m, const struct options *o, const char *dir, struct err *err) {
    char path[FD_PATH_MAX];
    if (!o->propagation)
        return 0;
    /* Opened again: the fd from before the mount is of the directory under it. */
    cleanup_fd int fd = open_target(dir, m->target, err);
    if (fd < 0)
        return fd;
    if (mount(NULL, fd_path(fd, path), NULL, o->propagation, NULL) < 0)
        return err_errno(err, errno, "cannot set the propagation");
    return 0;
}

static int mount_one(const struct rootfs_mount *m, const char *dir, struct err *err) {
    cleanup_options struct options o = {0};
    int r = options_parse(m, &o, err);
    if (r < 0)
        return r;
    cleanup_fd int target = open_target(dir, m->target, err);
    if (target < 0)
        return target;
    r = o.flags & MS_BIND ? mount_bind(m, &o, target, err) : mount_new(m, &o, target, err);
    if (r < 0)
        return r;
    r = set_propagation(m, &o, dir, err);
    if (r < 0) {
        struct err undo = ERR_INIT;
        if (unmount_top(dir, m->target, &undo) < 0)
            err_append(err, "; then: %s", undo.msg);
    }
    return r;
}

static int check(const struct rootfs_mount *m, struct err *err) {
    const char *type = m->type ? m->type : "", *source = m->source ? m->source : "";
    if (strlen(type) >= NAME_MAX)
        return err_set(err, EINVAL, "type: longer than %d bytes", NAME_MAX - 1);
    if (strncmp(type, "fuse.", 5) == 0 || strncmp(type, "fuse3.", 6) == 0)
        return err_set(err, ENOTSUP, "type %s: root file systems in user space are not supported", type);
    if (strlen(source) >= PATH_MAX)
        return err_set(err, EINVAL, "source: longer than %d bytes", PATH_MAX - 1);
    if (m->target && strlen(m->target) >= PATH_MAX)
        return err_set(err, EINVAL, "target: longer than %d bytes", PATH_MAX - 1);
    if (m->n_options > ROOTFS_OPTIONS_MAX)
        return err_set(err, EINVAL, "options: more than %d", ROOTFS_OPTIONS_MAX);
    for (size_t i = 0; i < m->n_options; i++)
        if (strlen(m->options[i]) > ROOTFS_OPTION_MAX)
            return err_set(err, EINVAL, "options[%zu]: longer than %zu bytes", i, ROOTFS_OPTION_MAX);
    return 0;
}

/* Puts before the error which mount it was. */
static int wrap(const struct rootfs_mount *m, size_t i, const char *dir, struct err *err) {
    cleanup_free char *options = join(m->options, MIN(m->n_options, ROOTFS_OPTIONS_MAX));
    const char *target = m->target ? m->target : "";
    while (*target == '/')
        target++;
    return err_wrap(err, "rootfs[%zu] (%.64s of %.512s at %.512s%s%.512s, options \"%.*s\")", i,
                    m->type ? m->type : "no type", m->source ? m->source : "nothing", dir, *target ? "/" : "", target,
                    SHOWN_OPTIONS_MAX, options ? options : "");
}

int rootfs_mount(const struct rootfs_mount *mounts, size_t n, const char *dir, struct err *err) {
    if (n > ROOTFS_MOUNTS_MAX)
        return err_set(err, EINVAL, "rootfs: %zu mounts, more than %d", n, ROOTFS_MOUNTS_MAX);
    if (!path_is_normal(dir) || dir[1] == '\0')
        return err_set(err, EINVAL, "rootfs: \"%s\" is not an absolute path without \".\" and \"..\"", dir);
    for (size_t i = 0; i < n; i++)
        if (check(&mounts[i], err) < 0)
            return wrap(&mounts[i], i, dir, err);
    int r = path_mkdirs(dir, 0711, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        r = mount_one(&mounts[i], dir, err);
        if (r >= 0)
            continue;
        r = wrap(&mounts[i], i, dir, err);
        while (i--) {
            struct err undo = ERR_INIT;
            if (unmount_top(dir, mounts[i].target, &undo) < 0)
                err_append(err, "; then: %s", undo.msg);
        }
        return r;
    }
    return 0;
}

/* The mount at dir or below it with the shortest path, malloc'd: nothing of ours is mounted over it, and what is
 * mounted below it goes with it. NULL in *ret if there is none. */
static int find_mount(const char *dir, char **ret, struct err *err) {
    struct mountinfo table = {0};
    struct mountinfo_entry e;
    cleanup_free char *found = NULL;
    size_t len = strlen(dir);
    int r = mountinfo_open(MOUNTINFO_SELF, &table, err);
    if (r < 0)
        return r;
    while (r == 0 && mountinfo_next(&table, &e)) {
        const char *at = e.mount_point;
        if (strncmp(at, dir, len) != 0 || (at[len] != '\0' && at[len] != '/'))
            continue;
        if (found && strlen(found) <= strlen(at))
            continue;
        free(found);
        found = strdup(at);
        if (!found)
            r = err_set(err, ENOMEM, "out of memory");
    }
    mountinfo_close(&table);
    if (r == 0)
        *ret = TAKE_PTR(found);
    return r;
}

/* dir as the mount table has it: parents may be symbolic links (/var/run), dir itself may not. -ENOENT,
 * which is no error to the caller, if it is missing. */
static int resolve(const char *dir, char buf[PATH_MAX], struct err *err) {
    char path[FD_PATH_MAX];
    cleanup_fd int fd = open(dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? -ENOENT : err_errno(err, errno, "cannot open %s", dir);
    ssize_t len = readlink(fd_path(fd, path), buf, PATH_MAX - 1);
    if (len < 0)
        return err_errno(err, errno, "cannot resolve %s", dir);
    buf[len] = '\0';
    return 0;
}

int rootfs_unmount(const char *dir, struct err *err) {
    char real[PATH_MAX] = "";
    int r = resolve(dir, real, err);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    if (real[1] == '\0')
        return err_set(err, EINVAL, "cannot unmount the root");
    for (unsigned i = 0; i < ROOTFS_UNMOUNTS_MAX; i++) {
        cleanup_free char *at = NULL;
        r = find_mount(real, &at, err);
        if (r < 0 || !at)
            return r;
        if (umount2(at, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
            return err_errno(err, errno, "cannot unmount %s", at);
    }
    return err_set(err, ELOOP, "cannot unmount %s: more than %d mounts", dir, ROOTFS_UNMOUNTS_MAX);
}
