/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/boot_id.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

#include "agent/cgroup.h"
#include "agent/container.h"
#include "agent/identity.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/util.h"

#define CHANGE_TIMEOUT_USEC (5 * USEC_PER_SEC) /* all of it happens in the kernel */

/* The file, as a mount that belongs nowhere yet. */
static int open_file(struct err *err) {
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC};
    cleanup_fd int tree = (int)syscall(SYS_open_tree, AT_FDCWD, BOOT_ID_FILE, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0 || syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
        return err_errno(err, errno, "cannot make a mount of " BOOT_ID_FILE);
    return TAKE_FD(tree);
}

/* The kernel's file, or ours if that is laid over it; *ret_ours says which. -ENOENT: this namespace has no proc there.
 */
static int open_target(bool *ret_ours) {
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    struct statfs fs;
    cleanup_fd int fd = (int)syscall(SYS_openat2, AT_FDCWD, BOOT_ID_PATH, &how, sizeof(how));
    if (fd < 0 || fstatfs(fd, &fs) < 0)
        return -ENOENT;
    if (fs.f_type != PROC_SUPER_MAGIC && fs.f_type != TMPFS_MAGIC)
        return -ENOENT;
    *ret_ours = fs.f_type == TMPFS_MAGIC;
    return TAKE_FD(fd);
}

/* In the mount namespace that this process is in. tree: -1 takes it away. */
static int change_here(int tree, struct err *err) {
    bool ours = false;
    cleanup_fd int target = open_target(&ours);
    if (target < 0 || ours == (tree >= 0))
        return 0;
    if (tree < 0)
        return umount2(BOOT_ID_PATH, MNT_DETACH | UMOUNT_NOFOLLOW) < 0
                   ? err_errno(err, errno, "cannot unmount " BOOT_ID_PATH)
                   : 0;
    if (syscall(SYS_move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return err_errno(err, errno, "cannot mount on " BOOT_ID_PATH);
    return 0;
}

/* Each mount namespace that processes of the container are in. */

struct walk {
    bool lay;
    int self; /* the namespace of the guest */
    ino_t done[BOOT_ID_NAMESPACES_MAX];
    size_t n_done;
};

static bool is_done(struct walk *w, ino_t ino) {
    for (size_t i = 0; i < w->n_done; i++)
        if (w->done[i] == ino)
            return true;
    if (w->n_done == BOOT_ID_NAMESPACES_MAX)
        return true;
    w->done[w->n_done++] = ino;
    return false;
}

static int change_at(struct walk *w, pid_t pid, struct err *err) {
    char path[64];
    struct stat st;
    snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
    cleanup_fd int ns = open(path, O_RDONLY | O_CLOEXEC);
    if (ns < 0 || fstat(ns, &st) < 0 || is_done(w, st.st_ino)) /* or it has ended */
        return 0;
    cleanup_fd int tree = w->lay ? open_file(err) : -1;
    if (w->lay && tree < 0)
        return tree;
    if (setns(ns, CLONE_NEWNS) < 0)
        return err_errno(err, errno, "cannot enter the mount namespace of pid %d", (int)pid);
    int r = change_here(tree, err);
    if (setns(w->self, CLONE_NEWNS) < 0)
        return err_errno(err, errno, "cannot leave the mount namespace of pid %d", (int)pid);
    return r;
}

static int change_container(const struct container *c, bool lay, struct err *err) {
    cleanup_fd int self = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    struct walk w = {.lay = lay, .self = self};
    cleanup_free pid_t *pids = NULL;
    size_t n = 0;
    struct stat st;
    if (self < 0 || fstat(self, &st) < 0)
        return err_errno(err, errno, "cannot open the guest's mount namespace");
    (void)is_done(&w, st.st_ino); /* the guest's own stays as it is */
    int r = c->cgroup_fd < 0 ? 0 : cgroup_pids(c->cgroup_fd, &pids, &n, err);
    for (size_t i = 0; i < n && r == 0; i++)
        r = change_at(&w, pids[i], err);
    return r;
}

/* The file is written in place: it may be laid over already. */
static int write_file(struct err *err) {
    char text[IDENTITY_UUID_LEN + 2];
    int r = identity_uuid(text, err);
    if (r < 0)
        return r;
    text[IDENTITY_UUID_LEN] = '\n';
    cleanup_fd int fd = open(BOOT_ID_FILE, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0444);
    if (fd < 0 || pwrite(fd, text, IDENTITY_UUID_LEN + 1, 0) != IDENTITY_UUID_LEN + 1)
        return err_errno(err, errno, "cannot write " BOOT_ID_FILE);
    return 0;
}

int boot_id_keep_unread(struct err *err) {
    sd_id128_t id;
    int r = write_file(err);
    cleanup_fd int tree = r < 0 ? r : open_file(err);
    r = tree < 0 ? tree : change_here(tree, err);
    if (r == 0) {
        int e = sd_id128_get_boot(&id); /* remembers what it read */
        r = change_here(-1, err);
        if (r == 0 && e < 0)
            r = err_errno(err, -e, "cannot read " BOOT_ID_PATH);
    }
    (void)unlink(BOOT_ID_FILE);
    return r < 0 ? err_wrap(err, "boot id") : 0;
}

int boot_id_renew(const struct agent *a, struct err *err) {
    int r = write_file(err);
    cleanup_fd int tree = r < 0 ? r : open_file(err);
    r = tree < 0 ? tree : change_here(tree, err);
    for (const struct container *c = a->containers; c && r == 0; c = c->next) {
        r = change_container(c, true, err);
        if (r < 0)
            err_wrap(err, "container %s", c->id);
    }
    return r < 0 ? err_wrap(err, "boot id") : 0;
}

static void change_in_child(const struct container *c, bool lay) {
    int status = 0;
    if (!c->agent->own_boot_id)
        return;
    struct proc child = {.pid = fork(), .pidfd = -1};
    if (child.pid == 0) {
        struct err err = ERR_INIT;
        int r = change_container(c, lay, &err);
        if (r < 0)
            log_warn("container %s: the boot id cannot be %s: %s", c->id, lay ? "replaced" : "put back", err.msg);
        _exit(r < 0);
    }
    if (child.pid > 0)
        child.pidfd = (int)syscall(SYS_pidfd_open, child.pid, 0);
    if (child.pidfd < 0 || proc_wait(&child, CHANGE_TIMEOUT_USEC, &status) < 0)
        log_warn("container %s: the boot id cannot be changed", c->id);
    if (child.pid > 0)
        proc_kill(&child);
}

void boot_id_lay(const struct container *c) {
    change_in_child(c, true);
}

void boot_id_take(const struct container *c) {
    change_in_child(c, false);
}
