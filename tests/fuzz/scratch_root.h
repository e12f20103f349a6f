/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A place where code under test may open, make and mount whatever path the input names.
 *
 * Theory of operation. At the start the target moves into mount and pid namespaces of its own. For each input a fresh
 * tmpfs becomes its root directory: nothing else can be reached, and all that was made or mounted goes with it.
 * libFuzzer needs the real root in between (corpus, symbols); no fd of it is kept, since the input could name it below
 * /proc/self/fd: the process left outside the pid namespace hands it over, each time.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"

#define SCRATCH_MOUNTS_MAX 8 /* made by one input: each may copy all that are there */

static struct {
    char dir[64]; /* where the tmpfs is mounted, as seen from outside */
    int keeper;   /* asks for the root and gets it */
    bool inside;
    unsigned mounts;
} scratch = {.keeper = -1};

static inline void scratch_require(bool ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "scratch root: %s: %s\n", what, strerror(errno));
        _exit(1);
    }
}

/* Room for two fds: of the root and of the working directory. */
union scratch_fds {
    struct cmsghdr align;
    char buf[CMSG_SPACE(2 * sizeof(int))];
};

/* Answers each byte with these; ends as the child ends. */
static inline _Noreturn void keep_root(int sock, pid_t child) {
    int dirs[2] = {open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)}, status;
    char b;
    while (recv(sock, &b, 1, 0) == 1) {
        union scratch_fds control = {0};
        struct iovec iov = {.iov_base = &b, .iov_len = 1};
        struct msghdr msg = {
            .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(dirs));
        memcpy(CMSG_DATA(c), dirs, sizeof(dirs));
        if (sendmsg(sock, &msg, MSG_NOSIGNAL) < 0)
            break;
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* Once, before anything else. False: this user may not. */
static inline bool scratch_init(void) {
    int fds[2];
    snprintf(scratch.dir, sizeof(scratch.dir), "/sys/stasis-fuzz-XXXXXX");
    if (unshare(CLONE_NEWNS | CLONE_NEWPID) < 0)
        return false;
    scratch_require(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "private mounts");
    /* Over a directory in which nobody has a corpus: libFuzzer goes by its path later. */
    scratch_require(mount("scratch", "/sys", "tmpfs", 0, "size=1m") == 0 && mkdtemp(scratch.dir), "directory");
    scratch_require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0, "socket pair");
    pid_t pid = fork();
    scratch_require(pid >= 0, "fork");
    if (pid > 0) {
        close(fds[0]);
        signal(SIGINT, SIG_IGN);
        keep_root(fds[1], pid);
    }
    close(fds[1]);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    scratch.keeper = fds[0];
    /* The sanitizers look themselves up by their pid. */
    scratch_require(mount("proc", "/proc", "proc", 0, NULL) == 0, "/proc");
    return true;
}

static inline void scratch_enter(void) {
    scratch_require(mount("scratch", scratch.dir, "tmpfs", 0, "size=16m,nr_inodes=4k,mode=0755") == 0, "tmpfs");
    scratch_require(chdir(scratch.dir) == 0 && mkdir("proc", 0755) == 0, "chdir");
    scratch_require(mount("proc", "proc", "proc", MS_RDONLY, "subset=pid") == 0, "proc");
    scratch_require(chroot(".") == 0, "chroot");
    scratch.inside = true;
    scratch.mounts = 0;
}

static inline void scratch_leave(void) {
    char b = 'r';
    int dirs[2];
    union scratch_fds control = {0};
    struct iovec iov = {.iov_base = &b, .iov_len = 1};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    scratch.inside = false;
    scratch_require(send(scratch.keeper, &b, 1, MSG_NOSIGNAL) == 1, "ask for the root");
    scratch_require(recvmsg(scratch.keeper, &msg, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&msg), "get the root");
    memcpy(dirs, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(dirs));
    scratch_require(fchdir(dirs[0]) == 0 && chroot(".") == 0 && fchdir(dirs[1]) == 0, "leave");
    close(dirs[0]);
    close(dirs[1]);
    scratch_require(umount2(scratch.dir, MNT_DETACH) == 0, "unmount");
}

/* In the place of the C library's. Binds stay within the scratch root; of file systems only those that hold nothing of
 * the machine's. */
int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data) {
    static const char *const harmless[] = {"tmpfs", "overlay"};
    bool ok = !scratch.inside || (flags & (MS_BIND | MS_REMOUNT | MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE));
    for (size_t i = 0; i < ARRAY_SIZE(harmless); i++)
        ok = ok || (type && strcmp(type, harmless[i]) == 0);
    if (!ok || scratch.mounts >= SCRATCH_MOUNTS_MAX) {
        errno = ok ? ENOSPC : ENODEV;
        return -1;
    }
    scratch.mounts++;
    return (int)syscall(SYS_mount, source, target, type, flags, data);
}

int open_tree(int dirfd, const char *path, unsigned flags) {
    if (scratch.inside && scratch.mounts++ >= SCRATCH_MOUNTS_MAX) {
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_open_tree, dirfd, path, flags);
}
