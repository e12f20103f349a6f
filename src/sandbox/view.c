/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/view.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/proc.h"

#define BUILD_USEC (30 * USEC_PER_SEC)
#define EMPTY_ATTRS (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

/* What is in a procfs beside the processes of its pid namespace is the host's. Tools that list processes read stat,
 * uptime, meminfo, loadavg, cpuinfo; the rest is out of sight. */
static const char *const hidden_files[] = {
    "cmdline",       "config.gz",     "diskstats",  "interrupts",  "iomem",       "ioports",    "kallsyms",
    "kcore",         "key-users",     "keys",       "kmsg",        "kpagecgroup", "kpagecount", "kpageflags",
    "latency_stats", "modules",       "partitions", "sched_debug", "schedstat",   "slabinfo",   "softirqs",
    "swaps",         "sysrq-trigger", "timer_list", "timer_stats", "vmallocinfo", "zoneinfo",
};
static const char *const hidden_dirs[] = {"acpi", "asound",   "bus",  "driver", "dynamic_debug", "fs",
                                          "irq",  "pressure", "scsi", "sys",    "sysvipc",       "tty"};

/* The tree in the making. All fds are closed by the end of the process that builds it. */
struct build {
    const struct view_spec *spec;
    int root;    /* the container's root, a copy of its mount */
    int *trees;  /* spec->n_mounts copies */
    int null;    /* a copy of the mount at /dev/null */
    int *empty;  /* mounts of empty file systems made so far */
    dev_t *devs; /* of these */
    size_t n_empty;
};

/* Copies a mount of the share with all below it. */
static int copy_mount(const struct share *s, const char *name, uint64_t clear, struct err *err) {
    cleanup_fd int at = path_open_beneath(s->fd, name, O_PATH, 0, err);
    if (at < 0)
        return at;
    cleanup_fd int tree = open_tree(at, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
    struct mount_attr attr = {.attr_clr = clear, .propagation = MS_PRIVATE};
    if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
        return err_errno(err, errno, "cannot copy the mount of share/%s", name);
    return TAKE_FD(tree);
}

static int copy_mounts(struct build *b, struct err *err) {
    const struct view_spec *s = b->spec;
    char name[ID_MAX + 32];
    snprintf(name, sizeof(name), "%s/rootfs", s->guest_id);
    /* As with any runtime, root may run a program of the container by `nsenter -m`. */
    b->root = copy_mount(s->share, name, MOUNT_ATTR_NOEXEC, err);
    if (b->root < 0)
        return b->root;
    if (FAULT(VIEW_COPY))
        return err_errno(err, errno, "cannot copy the mount of share/%s", name);
    for (size_t i = 0; i < s->n_mounts; i++) {
        snprintf(name, sizeof(name), "%s/mounts/%u", s->guest_id, s->mounts[i].index);
        b->trees[i] = copy_mount(s->share, name, 0, err);
        if (b->trees[i] < 0)
            return b->trees[i];
    }
    b->null = open_tree(AT_FDCWD, "/dev/null", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    struct mount_attr attr = {.attr_set = EMPTY_ATTRS | MOUNT_ATTR_RDONLY, .propagation = MS_PRIVATE};
    if (b->null < 0 || mount_setattr(b->null, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
        return err_errno(err, errno, "cannot copy the mount of /dev/null");
    return 0;
}

static int open_in(int root, const char *path) {
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
    return fd < 0 ? -errno : fd;
}

static bool is_ours(const struct build *b, int fd) {
    struct stat st;
    if (fstat(fd, &st) < 0)
        return false;
    for (size_t i = 0; i < b->n_empty; i++)
        if (b->devs[i] == st.st_dev)
            return true;
    return false;
}

/* Makes name in a directory of an empty file system; in the container's own nothing is made, that is its runtime's. */
static int make_place(const struct build *b, int parent, const char *name, bool dir) {
    if (!is_ours(b, parent))
        return -ENOENT;
    if (dir)
        return mkdirat(parent, name, 0755) < 0 ? -errno : 0;
    cleanup_fd int fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    return fd < 0 ? -errno : 0;
}

/* Opens the place of a mount inside the new root. -ENOENT: there is none, and none can be made. */
static int open_place(const struct build *b, const char *path, bool dir) {
    int fd = open_in(b->root, path);
    if (fd != -ENOENT)
        return fd;
    cleanup_free char *part = strdup(path);
    if (!part)
        return -ENOMEM;
    cleanup_fd int parent = open_in(b->root, "/");
    for (char *name = part; parent >= 0 && *name;) {
        while (*name == '/')
            name++;
        char *end = strchrnul(name, '/');
        bool last = end[strspn(end, "/")] == '\0';
        char kept = *end;
        *end = '\0';
        fd = open_in(b->root, part);
        if (fd == -ENOENT && (fd = make_place(b, parent, name, dir || !last)) == 0)
            fd = open_in(b->root, part);
        if (fd < 0 || last)
            return fd;
        fd_close(parent);
        parent = fd;
        *end = kept;
        name = end;
    }
    return parent < 0 ? parent : -ENOENT;
}

static int attach(int tree, int place, const char *what, struct err *err) {
    if (move_mount(tree, "", place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return err_errno(err, errno, "cannot mount %s", what);
    return 0;
}

static int new_mount(const char *type, uint64_t attrs, struct err *err) {
    cleanup_fd int fs = fsopen(type, FSOPEN_CLOEXEC);
    bool tmpfs = strcmp(type, "tmpfs") == 0;
    if (fs < 0 ||
        (tmpfs && (fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0755", 0) < 0 ||
                   fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", "16k", 0) < 0)) ||
        fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return err_errno(err, errno, "cannot make a %s", type);
    int fd = fsmount(fs, FSMOUNT_CLOEXEC, attrs);
    return fd < 0 ? err_errno(err, errno, "cannot mount a %s", type) : fd;
}

/* Writable until all of the tree is there: places of other mounts are made in it. */
static int add_empty(struct build *b, int place, struct err *err) {
    struct stat st;
    int fd = new_mount("tmpfs", EMPTY_ATTRS, err);
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0)
        return err_errno(err, errno, "cannot look at a tmpfs");
    b->devs[b->n_empty] = st.st_dev;
    b->empty[b->n_empty++] = fd;
    return attach(fd, place, "an empty directory", err);
}

static int hide_in_proc(struct build *b, int proc, struct err *err) {
    bool attached = false;
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(hidden_files); i++) {
        cleanup_fd int place = openat(proc, hidden_files[i], O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (place < 0)
            continue; /* not in this kernel */
        /* Without a device behind it, it cannot be opened. */
        cleanup_fd int copy =
            attached ? open_tree(b->null, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH) : -1;
        if (attached && copy < 0)
            r = err_errno(err, errno, "cannot copy the mount of /dev/null");
        else
            r = attach(attached ? copy : b->null, place, hidden_files[i], err);
        attached = true;
    }
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(hidden_dirs); i++) {
        cleanup_fd int place = openat(proc, hidden_dirs[i], O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);
        cleanup_fd int none = place < 0 ? -1 : new_mount("tmpfs", EMPTY_ATTRS | MOUNT_ATTR_RDONLY, err);
        if (place >= 0)
            r = none < 0 ? none : attach(none, place, hidden_dirs[i], err);
    }
    return r;
}

/* This process is in the monitor's pid namespace, and so is the procfs that it makes. */
static int add_proc(struct build *b, int place, struct err *err) {
    cleanup_fd int proc = new_mount("proc", EMPTY_ATTRS | MOUNT_ATTR_RDONLY, err);
    int r = proc < 0 ? proc : attach(proc, place, "proc", err);
    return r < 0 ? r : hide_in_proc(b, proc, err);
}

static const struct oci_share_mount *share_mount_of(const struct view_spec *s, size_t spec_index, size_t *ret) {
    for (size_t i = 0; i < s->n_mounts; i++)
        if (s->mounts[i].spec_index == spec_index) {
            *ret = i;
            return &s->mounts[i];
        }
    return NULL;
}

static int add_mount(struct build *b, size_t index, const json_t *m, struct err *err) {
    const struct view_spec *s = b->spec;
    const char *destination = json_string_value(json_object_get(m, "destination"));
    const char *type = json_string_value(json_object_get(m, "type"));
    size_t n = 0;
    const struct oci_share_mount *shared = share_mount_of(s, index, &n);
    struct stat st = {.st_mode = S_IFDIR};
    if (!destination || strspn(destination, "/") == strlen(destination))
        return 0;
    if (shared && fstat(b->trees[n], &st) < 0)
        return err_errno(err, errno, "cannot look at its source");
    cleanup_fd int place = open_place(b, destination, S_ISDIR(st.st_mode));
    if (place == -ENOENT) { /* of one that is to be restored, say */
        log_debug("container %s: mounts[%zu]: there is no %s; its monitor has it neither", s->id, index, destination);
        return 0;
    }
    if (place < 0)
        return err_errno(err, -place, "cannot open %s in the container's root", destination);
    if (shared)
        return attach(b->trees[n], place, destination, err);
    /* A file system or a device of the guest's. */
    if (fstat(place, &st) < 0 || !S_ISDIR(st.st_mode))
        return 0;
    return type && strcmp(type, "proc") == 0 ? add_proc(b, place, err) : add_empty(b, place, err);
}

static int seal(struct build *b, struct err *err) {
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    bool read_only = json_is_true(json_object_get(json_object_get(b->spec->spec, "root"), "readonly"));
    for (size_t i = 0; i < b->n_empty; i++)
        if (mount_setattr(b->empty[i], "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
            return err_errno(err, errno, "cannot make an empty directory read-only");
    if (read_only && mount_setattr(b->root, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
        return err_errno(err, errno, "cannot make the root read-only");
    return 0;
}

/* The processes whose root is the old one, which is the monitor, move along. */
static int fill(struct build *b, struct err *err) {
    const json_t *mounts = json_object_get(b->spec->spec, "mounts");
    const char *hostname = json_string_value(json_object_get(b->spec->spec, "hostname"));
    for (size_t i = 0; i < json_array_size(mounts); i++) {
        int r = add_mount(b, i, json_array_get(mounts, i), err);
        if (r < 0)
            return err_wrap(err, "mounts[%zu]", i);
    }
    int r = seal(b, err);
    if (r < 0)
        return r;
    if (hostname && sethostname(hostname, strnlen(hostname, 64)) < 0)
        return err_errno(err, errno, "cannot set the host name");
    if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0)
        return err_errno(err, errno, "cannot make it the root");
    return 0;
}

/* In the monitor's namespaces. */
static int build(struct build *b, struct err *err) {
    if (move_mount(b->root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0 || fchdir(b->root) < 0)
        return err_errno(err, errno, "cannot mount the root");
    int r = fill(b, err);
    if (r < 0)
        (void)umount2(".", MNT_DETACH); /* the empty root is under it */
    return r;
}

static int alloc(struct build *b, const struct view_spec *s, struct err *err) {
    size_t n = json_array_size(json_object_get(s->spec, "mounts"));
    *b = (struct build){.spec = s,
                        .root = -1,
                        .null = -1,
                        .trees = calloc(MAX(s->n_mounts, 1), sizeof(int)),
                        .empty = calloc(MAX(n, 1), sizeof(int)),
                        .devs = calloc(MAX(n, 1), sizeof(dev_t))};
    return b->trees && b->empty && b->devs ? 0 : err_set(err, ENOMEM, "out of memory");
}

/* The error of the process in the monitor's namespaces comes back in shared memory. */
static int build_inside(struct build *b, struct err *err) {
    struct err *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return err_set(err, ENOMEM, "out of memory");
    struct proc p = PROC_NONE;
    p.pid = (pid_t)syscall(SYS_clone, (unsigned long)(CLONE_PIDFD | SIGCHLD), NULL, &p.pidfd, NULL, NULL);
    if (p.pid < 0)
        return err_errno(err, errno, "cannot start a process in the monitor's namespaces");
    if (p.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(build(b, shared) < 0 ? 1 : 0);
    }
    int status = 0;
    if (proc_wait(&p, BUILD_USEC, &status) < 0) {
        proc_kill(&p);
        return err_set(err, ETIMEDOUT, "a file system does not answer in time");
    }
    if (status == 0)
        return 0;
    return shared->code ? err_copy(err, shared) : err_set(err, ESRCH, "the monitor process has ended");
}

int view_build(void *arg, struct err *err) {
    const struct view_spec *s = arg;
    struct build b;
    int r = alloc(&b, s, err);
    if (r == 0)
        r = copy_mounts(&b, err);
    if (r == 0 && setns(s->pidfd, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS) < 0)
        r = err_errno(err, errno, "cannot enter the monitor's namespaces");
    if (r == 0)
        r = build_inside(&b, err);
    return r < 0 ? err_wrap(err, "cannot show the container's files in its monitor process") : 0;
}
