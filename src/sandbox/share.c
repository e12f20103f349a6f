/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/share.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"

/* glibc's <sys/mount.h> and <linux/mount.h> of Debian 12 cannot be included together. */
extern int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
extern int umount2(const char *target, int flags);
#define MS_NOSUID_ 2ul
#define MS_NODEV_ 4ul
#define MS_NOEXEC_ 8ul
#define MS_SHARED_ (1ul << 20)
#define MNT_DETACH_ 2
#define UMOUNT_NOFOLLOW_ 8

int share_open(const char *dir, struct share *ret, struct err *err) {
    struct share s = {.fd = -1};
    s.dir = path_join(dir, "share");
    if (!s.dir)
        return err_set(err, ENOMEM, "out of memory");
    int r =
        FAULT(DIR_SHARE) ? err_errno(err, errno, "cannot create directory %s", s.dir) : path_mkdirs(s.dir, 0700, err);
    /* Room for the directories and empty files that are mounted on, and for nothing else. */
    if (r == 0 && mount("stasis-share", s.dir, "tmpfs", MS_NOSUID_ | MS_NODEV_ | MS_NOEXEC_,
                        "mode=0755,size=1m,nr_inodes=16k") < 0)
        r = err_errno(err, errno, "cannot mount the share at %s", s.dir);
    if (r == 0 && mount(NULL, s.dir, NULL, MS_SHARED_, NULL) < 0)
        r = err_errno(err, errno, "cannot make the share %s a shared mount", s.dir);
    if (r == 0 && (s.fd = open(s.dir, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
        r = err_errno(err, errno, "cannot open %s", s.dir);
    if (r < 0) {
        share_close(&s);
        return r;
    }
    *ret = s;
    return 0;
}

void share_close(struct share *s) {
    if (!s->dir)
        return;
    s->fd = fd_close(s->fd);
    /* It fails only if the mount is not there, and then there is nothing to undo. */
    (void)umount2(s->dir, MNT_DETACH_ | UMOUNT_NOFOLLOW_);
    (void)rmdir(s->dir);
    free(s->dir);
    strv_clear(&s->removed);
    *s = (struct share){.fd = -1};
}

enum binding { BIND_WRITABLE, BIND_READ_ONLY, BIND_READ_ONLY_TOP };

static int clone_tree(const char *source, bool recursive, enum binding binding, struct err *err) {
    cleanup_fd int tree = (int)syscall(SYS_open_tree, AT_FDCWD, source,
                                       OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0));
    if (tree < 0)
        return err_errno(err, errno, "cannot bind %s", source);
    /* The guest judges set-user-id bits and devices by its own mounts; on the host nothing in there may act. */
    struct mount_attr attr = {
        .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
                    (binding == BIND_READ_ONLY ? MOUNT_ATTR_RDONLY : 0),
    };
    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr, sizeof(attr)) < 0)
        return err_errno(err, errno, "cannot set the mount options of %s", source);
    const struct mount_attr top = {.attr_set = MOUNT_ATTR_RDONLY};
    if (binding == BIND_READ_ONLY_TOP && syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &top, sizeof(top)) < 0)
        return err_errno(err, errno, "cannot make %s read-only", source);
    return TAKE_FD(tree);
}

/* Mounts source at dirfd/name, which is made as a directory or an empty file to match. */
static int bind_at(int dirfd, const char *name, const char *source, bool recursive, enum binding binding,
                   struct err *err) {
    cleanup_fd int tree = clone_tree(source, recursive, binding, err);
    if (tree < 0)
        return tree;
    struct stat st;
    if (fstat(tree, &st) < 0)
        return err_errno(err, errno, "cannot look at %s", source);
    if (S_ISDIR(st.st_mode)) {
        if (mkdirat(dirfd, name, 0755) < 0)
            return err_errno(err, errno, "cannot make a mount point for %s", source);
    } else {
        cleanup_fd int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (fd < 0)
            return err_errno(err, errno, "cannot make a mount point for %s", source);
    }
    cleanup_fd int target = path_open_beneath(dirfd, name, O_PATH, 0, err);
    if (target < 0)
        return target;
    if (FAULT(SHARE_BIND) ||
        syscall(SYS_move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return err_errno(err, errno, "cannot mount %s in the share", source);
    return 0;
}

static int add_container(struct share *s, const char *id, const struct oci_guest_spec *spec, struct err *err) {
    cleanup_fd int dir = path_open_beneath(s->fd, id, O_PATH | O_DIRECTORY, 0, err);
    if (dir < 0)
        return dir;
    struct stat st;
    if (stat(spec->rootfs, &st) < 0)
        return err_errno(err, errno, "root.path: cannot use %s", spec->rootfs);
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ENOTDIR, "root.path: %s is not a directory", spec->rootfs);
    /* Read-write even for a read-only root: mount points are made in it, and the guest's runtime then makes its mount
     * read-only. */
    int r = bind_at(dir, "rootfs", spec->rootfs, true, BIND_WRITABLE, err);
    if (r < 0)
        return err_wrap(err, "root.path");
    if (spec->n_mounts == 0)
        return 0;

    cleanup_fd int mounts = path_mkdirs_beneath(dir, "mounts", 0755, err);
    if (mounts < 0)
        return mounts;
    for (size_t i = 0; i < spec->n_mounts; i++) {
        const struct oci_share_mount *m = &spec->mounts[i];
        char name[16];
        snprintf(name, sizeof(name), "%u", m->index);
        enum binding binding = !m->read_only ? BIND_WRITABLE : m->top_only ? BIND_READ_ONLY_TOP : BIND_READ_ONLY;
        r = bind_at(mounts, name, m->source, m->recursive, binding, err);
        if (r < 0)
            return err_wrap(err, "mounts[%u]", m->spec_index);
    }
    return 0;
}

int share_add_container(struct share *s, const char *id, const struct oci_guest_spec *spec, struct err *err) {
    if (mkdirat(s->fd, id, 0755) < 0)
        return err_errno(err, errno, "cannot make share/%s", id);
    int r = add_container(s, id, spec, err);
    if (r < 0)
        share_remove_container(s, id, NULL);
    return r;
}

static int unmount_at(int dirfd, const char *name, struct err *err) {
    /* Through the fd of the directory: the name is not looked up along a path that could have changed. */
    cleanup_free char *path = str_printf("/proc/self/fd/%d/%s", dirfd, name);
    if (!path)
        return err_set(err, ENOMEM, "out of memory");
    if (umount2(path, MNT_DETACH_ | UMOUNT_NOFOLLOW_) < 0 && errno != EINVAL && errno != ENOENT)
        return err_errno(err, errno, "cannot unmount share/…/%s", name);
    return 0;
}

/* For the guest to forget. What does not get into the list it only keeps open for longer. */
static void note_removed(struct share *s, const char *id, const char *name) {
    int r = name ? strv_addf(&s->removed, "%s/checkpoint/%s", id, name) : strv_add(&s->removed, id);
    if (r < 0)
        log_warn("container %s: the guest is not told what is gone from the share: out of memory", id);
}

/* Unmounts everything directly below dirfd. With removed_from (a share, and a container's id: dirfd is its checkpoint
 * directory) it also removes what was mounted on. */
static int unmount_all_in(int dirfd, struct share *removed_from, const char *id, struct err *err) {
    int copy = fcntl(dirfd, F_DUPFD_CLOEXEC, 3);
    cleanup_dir DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
    if (!d) {
        int r = err_errno(err, errno, "cannot read a directory of the share");
        fd_close(copy);
        return r;
    }
    rewinddir(d);
    struct dirent *e;
    int r = 0;
    while (r == 0 && (e = readdir(d))) {
        if (e->d_name[0] == '.')
            continue;
        r = unmount_at(dirfd, e->d_name, err);
        if (r == 0 && removed_from) {
            note_removed(removed_from, id, e->d_name);
            r = path_remove_tree(dirfd, e->d_name, err);
        }
    }
    return r;
}

static int add_checkpoint(int dir, const struct share_checkpoint *what, const struct share_checkpoint_names *names,
                          struct err *err) {
    int r =
        bind_at(dir, names->images, what->images, false, what->images_read_only ? BIND_READ_ONLY : BIND_WRITABLE, err);
    if (r == 0)
        r = FAULT(SHARE_WORK) ? err_errno(err, errno, "cannot bind %s", what->work)
                              : bind_at(dir, names->work, what->work, false, BIND_WRITABLE, err);
    for (size_t i = 0; r == 0 && what->parents && i < what->parents->n; i++)
        r = bind_at(dir, strrchr(what->parents->v[i], '/') + 1, what->parents->v[i], false, BIND_READ_ONLY, err);
    return r;
}

int share_add_checkpoint(struct share *s, const char *id, const struct share_checkpoint *what,
                         struct share_checkpoint_names *ret, struct err *err) {
    cleanup_fd int own = path_open_beneath(s->fd, id, O_PATH | O_DIRECTORY, 0, err);
    cleanup_fd int dir = own < 0 ? own : path_mkdirs_beneath(own, "checkpoint", 0755, err);
    if (dir < 0)
        return dir;
    s->checkpoints++;
    snprintf(ret->images, sizeof(ret->images), "images+%u", s->checkpoints);
    snprintf(ret->work, sizeof(ret->work), "work+%u", s->checkpoints);
    int r = add_checkpoint(dir, what, ret, err);
    if (r < 0)
        (void)share_remove_checkpoint(s, id, NULL); /* the error that led here is the one that counts */
    return r;
}

/* own: the container's directory. */
static int remove_checkpoint(struct share *s, int own, const char *id, struct err *err) {
    cleanup_fd int dir = path_open_beneath(own, "checkpoint", O_RDONLY | O_DIRECTORY, 0, err);
    if (dir < 0)
        return dir == -ENOENT ? 0 : dir;
    return unmount_all_in(dir, s, id, err);
}

int share_remove_checkpoint(struct share *s, const char *id, struct err *err) {
    cleanup_fd int own = path_open_beneath(s->fd, id, O_RDONLY | O_DIRECTORY, 0, err);
    if (own < 0)
        return own == -ENOENT ? 0 : own;
    return remove_checkpoint(s, own, id, err);
}

int share_remove_container(struct share *s, const char *id, struct err *err) {
    cleanup_fd int dir = path_open_beneath(s->fd, id, O_RDONLY | O_DIRECTORY, 0, err);
    if (dir < 0)
        return dir == -ENOENT ? 0 : dir;
    cleanup_fd int mounts = path_open_beneath(dir, "mounts", O_RDONLY | O_DIRECTORY, 0, NULL);
    int r = remove_checkpoint(s, dir, id, err);
    if (r == 0)
        r = unmount_at(dir, "rootfs", err);
    if (r == 0 && mounts >= 0)
        r = unmount_all_in(mounts, NULL, NULL, err);
    if (r < 0)
        return r;
    note_removed(s, id, NULL);
    return path_remove_tree(s->fd, id, err);
}
