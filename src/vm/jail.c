/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/jail.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/securebits.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET)
#define CAP_MAX 63 /* bits of a set; the kernel knows fewer and says EINVAL for the rest */

#define RO_ATTRS (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)

/* A copy of the mount at path, not attached to anything yet, with these attributes and propagation on its top. */
static int clone_mount(const char *path, bool recursive, uint64_t attrs, uint64_t propagation, struct err *err) {
    cleanup_fd int fd =
        open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? (unsigned)AT_RECURSIVE : 0));
    if (fd < 0)
        return err_errno(err, errno, "jail: cannot bind %s", path);
    struct mount_attr attr = {.attr_set = attrs, .propagation = propagation};
    if (mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
        return err_errno(err, errno, "jail: cannot make the mount of %s read-only", path);
    return TAKE_FD(fd);
}

static int attach(int mount_fd, const char *at, struct err *err) {
    if (move_mount(mount_fd, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_errno(err, errno, "jail: cannot mount on %s of the VMM root", at);
    return 0;
}

static int make_node(const char *path, dev_t dev, mode_t mode, uid_t owner, struct err *err) {
    if (mknod(path, S_IFCHR | mode, dev) < 0 || chmod(path, mode) < 0 || chown(path, owner, owner) < 0)
        return err_errno(err, errno, "jail: cannot make /%s", path);
    return 0;
}

static int make_dev(const struct jail_spec *jail, struct err *err) {
    if (mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k,nr_inodes=16") < 0)
        return err_errno(err, errno, "jail: cannot mount /dev");
    int r = make_node("dev/null", makedev(1, 3), 0666, 0, err);
    if (r >= 0)
        r = make_node("dev/zero", makedev(1, 5), 0666, 0, err);
    if (r >= 0)
        r = make_node("dev/urandom", makedev(1, 9), 0444, 0, err);
    if (r >= 0 && jail->kvm) {
        struct stat st;
        if (stat("/dev/kvm", &st) < 0 || !S_ISCHR(st.st_mode))
            return err_set(err, ENODEV, "jail: there is no /dev/kvm");
        r = make_node("dev/kvm", st.st_rdev, 0600, jail->uid, err);
    }
    if (r < 0)
        return r;
    if (mount(NULL, "dev", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC, NULL) < 0)
        return err_errno(err, errno, "jail: cannot make /dev read-only");
    return 0;
}

/* Read-only, because what is below /proc/sys could be written by root without any capability. */
static int make_proc(const struct jail_spec *jail, struct err *err) {
    if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY,
              jail->proc_sys ? NULL : "subset=pid") < 0)
        return err_errno(err, errno, "jail: cannot mount /proc");
    return 0;
}

/* The mounts that come from the host's tree are taken while it is still in reach; the root is entered last. */
static int enter_root(const struct jail_spec *jail, struct err *err) {
    /* Nothing that is mounted here may reach the host; the share receives what the daemon mounts, so it stays a slave.
     */
    if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
        return err_errno(err, errno, "jail: cannot make the mounts private");

    cleanup_fd int root = clone_mount(jail->root, false, RO_ATTRS, MS_PRIVATE, err), guest = -1, share = -1;
    if (root < 0)
        return root;
    if (jail->guest_dir &&
        (guest = clone_mount(jail->guest_dir, false, RO_ATTRS | MOUNT_ATTR_NOEXEC, MS_PRIVATE, err)) < 0)
        return guest;
    if (jail->share_dir && (share = clone_mount(jail->share_dir, true, RO_ATTRS | MOUNT_ATTR_NOEXEC, 0, err)) < 0)
        return share;

    int r = attach(root, jail->root, err);
    if (r < 0)
        return r;
    if (fchdir(root) < 0)
        return err_errno(err, errno, "jail: cannot enter %s", jail->root);
    if ((r = make_proc(jail, err)) < 0 || (r = make_dev(jail, err)) < 0)
        return r;
    if ((guest >= 0 && (r = attach(guest, "guest", err)) < 0) || (share >= 0 && (r = attach(share, "share", err)) < 0))
        return r;
    /* With both arguments the same, the old root ends up mounted over the new one, from where it is taken away. */
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        return err_errno(err, errno, "jail: cannot pivot into %s", jail->root);
    if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return err_errno(err, errno, "jail: cannot let go of the host's root");
    return 0;
}

static int set_limits(const struct jail_spec *jail, struct err *err) {
    struct rlimit none = {0, 0}, files;
    if (setrlimit(RLIMIT_CORE, &none) < 0)
        return err_errno(err, errno, "jail: cannot forbid core dumps");
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return err_errno(err, errno, "jail: cannot read the limit of open files");
    if (jail->nofile == UINT64_MAX) {
        /* Above the hard limit only with CAP_SYS_RESOURCE; what the hard limit allows is what there is then. */
        struct rlimit more = {1 << 20, 1 << 20};
        if (files.rlim_max >= more.rlim_max || setrlimit(RLIMIT_NOFILE, &more) == 0)
            return 0;
        files.rlim_cur = files.rlim_max;
    } else {
        files.rlim_cur = files.rlim_max = MIN((rlim_t)jail->nofile, files.rlim_max);
    }
    if (setrlimit(RLIMIT_NOFILE, &files) < 0)
        return err_errno(err, errno, "jail: cannot set the limit of open files");
    return 0;
}

static int drop_privileges(const struct jail_spec *jail, struct err *err) {
    uint64_t keep = jail->uid == 0 ? jail->caps : 0;
    /* The daemon's session keyring may hold keys of the host's; a kernel without keyrings has none to lose. */
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS)
        return err_errno(err, errno, "jail: cannot leave the session keyring");
    for (unsigned cap = 0; cap <= CAP_MAX; cap++)
        if (!(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EINVAL)
            return err_errno(err, errno, "jail: cannot drop capability %u", cap);
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return err_errno(err, errno, "jail: cannot drop ambient capabilities");
    if (setgroups(0, NULL) < 0 || setresgid(jail->uid, jail->uid, jail->uid) < 0 ||
        setresuid(jail->uid, jail->uid, jail->uid) < 0)
        return err_errno(err, errno, "jail: cannot become user %u", jail->uid);
    if (keep && jail->keep_caps && prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) < 0)
        return err_errno(err, errno, "jail: cannot keep capabilities across changes of the user");
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    for (int i = 0; i < 2; i++)
        data[i].effective = data[i].permitted = (uint32_t)(keep >> (32 * i));
    if (syscall(SYS_capset, &head, data) < 0)
        return err_errno(err, errno, "jail: cannot drop capabilities");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_errno(err, errno, "jail: cannot set no_new_privs");
    return 0;
}

static int setup(void *userdata, struct err *err) {
    const struct jail_spec *jail = userdata;
    umask(0077);
    int r = enter_root(jail, err);
    if (r < 0)
        return r;
    if (sethostname("stasis", 6) < 0)
        return err_errno(err, errno, "jail: cannot set the host name");
    if ((r = set_limits(jail, err)) < 0)
        return r;
    return drop_privileges(jail, err);
}

int jail_spawn(const struct jail_spec *jail, const struct proc_spec *spec, struct proc *ret, struct err *err) {
    char path[] = "PATH=/usr/bin:/bin", locale[] = "LC_ALL=C.UTF-8";
    char *const env[] = {path, locale, NULL};
    struct jail_spec j = *jail;
    struct proc_spec s = *spec;
    s.clone_flags = NAMESPACES;
    s.new_session = true;
    s.env = env;
    s.setup = setup;
    s.userdata = &j;
    return proc_spawn(&s, ret, err);
}
