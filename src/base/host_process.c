/* SPDX-License-Identifier: Apache-2.0 */
#include "base/host_process.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
#define CAP_MAX 63     /* bits of a set; the kernel knows fewer and says EINVAL for the rest */
#define TITLE_MAX 4096 /* bytes of all arguments shown */

pid_t host_process_clone(int *ret_pidfd, struct err *err) {
    int pidfd = -1;
    /* The plain call works like fork() when there is no new stack. Not clone3, which seccomp profiles often refuse. */
    pid_t pid =
        (pid_t)syscall(SYS_clone, (unsigned long)(NAMESPACES | CLONE_PIDFD | SIGCHLD), NULL, &pidfd, NULL, NULL);
    if (pid < 0)
        return err_errno(err, errno, "cannot start the monitor process in namespaces of its own");
    if (pid > 0)
        *ret_pidfd = pidfd;
    return pid;
}

static int empty_mount(struct err *err) {
    cleanup_fd int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0555", 0) < 0 ||
        fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", "2", 0) < 0 ||
        fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return err_errno(err, errno, "cannot make an empty file system");
    int fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    return fd < 0 ? err_errno(err, errno, "cannot mount an empty file system") : fd;
}

int host_process_leave_root(struct err *err) {
    cleanup_fd int ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (ns < 0)
        return err_errno(err, errno, "cannot open /proc/self/ns/mnt");
    /* A caller in a chroot: pivot_root() needs the namespace's root, and entering a namespace leads there. */
    if (setns(ns, CLONE_NEWNS) < 0)
        return err_errno(err, errno, "cannot enter the root of the mount namespace");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_errno(err, errno, "cannot make the mounts private");
    cleanup_fd int root = empty_mount(err);
    if (root < 0)
        return root;
    if (move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0 || fchdir(root) < 0)
        return err_errno(err, errno, "cannot mount over the root");
    /* With both arguments the same, the old root ends up mounted over the new one, from where it is taken away. */
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        return err_errno(err, errno, "cannot pivot into an empty root");
    if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return err_errno(err, errno, "cannot let go of the host's root");
    return 0;
}

int host_process_drop_privileges(struct err *err) {
    for (unsigned cap = 0; cap <= CAP_MAX; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EINVAL)
            return err_errno(err, errno, "cannot drop capability %u", cap);
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return err_errno(err, errno, "cannot drop ambient capabilities");
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {0};
    if (syscall(SYS_capset, &head, none) < 0)
        return err_errno(err, errno, "cannot drop capabilities");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_errno(err, errno, "cannot set no_new_privs");
    return 0;
}

/* Where the kernel thinks that the parts of this process are: it takes all of them at once or none. Fields of
 * /proc/PID/stat, proc(5). */
static int read_layout(struct prctl_mm_map *ret) {
    unsigned long long v[52] = {0};
    cleanup_free char *text = NULL;
    if (file_read_at(AT_FDCWD, "/proc/self/stat", 8192, &text, NULL, NULL) < 0)
        return -1;
    char *at = strrchr(text, ')');
    if (!at)
        return -1;
    at = strchr(at + 2, ' '); /* behind the state, which is no number */
    for (int i = 4; at && i <= 51; i++)
        v[i] = strtoull(at, &at, 10);
    if (!at || !v[26] || !v[51])
        return -1;
    *ret = (struct prctl_mm_map){.start_code = v[26],
                                 .end_code = v[27],
                                 .start_stack = v[28],
                                 .start_data = v[45],
                                 .end_data = v[46],
                                 .start_brk = v[47],
                                 .arg_start = v[48],
                                 .arg_end = v[49],
                                 .env_start = v[50],
                                 .env_end = v[51],
                                 .brk = (uint64_t)(uintptr_t)sbrk(0),
                                 .exe_fd = (uint32_t)-1};
    return 0;
}

static void add_title(char *text, size_t *used, const char *arg) {
    size_t room = TITLE_MAX - *used;
    if (room > 1)
        *used += MIN((size_t)snprintf(text + *used, room, "%s", arg ? arg : ""), room - 1) + 1;
}

void host_process_set_title(const json_t *args) {
    struct prctl_mm_map map;
    size_t used = 0;
    char *text = mmap(NULL, TITLE_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (text == MAP_FAILED || read_layout(&map) < 0)
        return;
    size_t n = json_array_size(args);
    if (n == 0)
        add_title(text, &used, "stasis-monitor");
    for (size_t i = 0; i < n; i++)
        add_title(text, &used, json_string_value(json_array_get(args, i)));
    map.arg_start = (uint64_t)(uintptr_t)text;
    map.arg_end = map.arg_start + used;
    /* The memory is the title from here on, so it is never unmapped. A refusal changes nothing but what is shown. */
    (void)prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof(map), 0);
}
