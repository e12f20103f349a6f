/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/remains.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/proc.h"
#include "base/util.h"

#define CHILDREN_MAX 64 /* the machine's two, workers and their copying processes, hooks, loggers */
#define CHILDREN_TEXT_MAX 4096
#define EXE_MAX 4096
#define ORPHAN_POLL_USEC (10 * USEC_PER_MSEC)

/* Processes that die with the daemon. */
struct family {
    struct proc p[CHILDREN_MAX];
    size_t n;
};

static bool read_exe(pid_t pid, char ret[EXE_MAX]) {
    char path[40];
    snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
    ssize_t n = readlink(path, ret, EXE_MAX - 1);
    ret[MAX(n, (ssize_t)0)] = '\0';
    return n > 0;
}

/* The forks of `exe` below this process: workers, and what these have forked. Loggers and hooks are other programs, and
 * may outlive it. */
static void add_forks(struct family *f, pid_t pid, const char *exe) {
    char path[64], own[EXE_MAX];
    cleanup_free char *text = NULL;
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
    if (file_read_at(AT_FDCWD, path, CHILDREN_TEXT_MAX, &text, NULL, NULL) < 0)
        return; /* a kernel without that file: they still die, only unseen */
    for (char *save = NULL, *word = strtok_r(text, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
        uint64_t number = 0;
        if (parse_u64(word, INT32_MAX, &number) < 0)
            continue;
        pid_t child = (pid_t)number;
        if (child <= 1 || !read_exe(child, own) || strcmp(own, exe) != 0 || f->n >= CHILDREN_MAX)
            continue;
        int fd = (int)syscall(SYS_pidfd_open, child, 0);
        if (fd < 0)
            continue;
        f->p[f->n++] = (struct proc){.pid = child, .pidfd = fd};
        add_forks(f, child, exe);
    }
}

static void await_family(struct family *f) {
    uint64_t end = now_usec() + REMAINS_KILL_USEC;
    for (size_t i = 0; i < f->n; i++) {
        uint64_t now = now_usec();
        if (fd_wait(f->p[i].pidfd, POLLIN, now < end ? end - now : 0) == 0)
            log_warn("pid %d, a worker of a sandbox's daemon, has not ended with it", (int)f->p[i].pid);
        fd_close(f->p[i].pidfd);
    }
}

static int kill_daemon(const struct oci_sandbox_state *st, struct family *f, struct err *err) {
    char exe[EXE_MAX];
    if (st->daemon_pid <= 1)
        return 0;
    /* Opened first, compared then: the fd is of the process that the state names. */
    cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, st->daemon_pid, 0);
    if (pidfd < 0 || !oci_sandbox_daemon_alive(st))
        return 0;
    log_warn("the sandbox daemon (pid %d) does not answer, and is killed", (int)st->daemon_pid);
    if (read_exe(st->daemon_pid, exe))
        add_forks(f, st->daemon_pid, exe);
    syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    return fd_wait(pidfd, POLLIN, REMAINS_KILL_USEC) == 0
               ? err_set(err, ETIMEDOUT, "the sandbox daemon (pid %d) was killed and does not end: try again later",
                         (int)st->daemon_pid)
               : 0;
}

static bool has_name(pid_t pid, const char *name) {
    char path[64];
    cleanup_free char *comm = NULL;
    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    return file_read_at(AT_FDCWD, path, 256, &comm, NULL, NULL) == 0 && strncmp(comm, name, strlen(name)) == 0;
}

/* QEMU and virtiofsd die with the daemon, but not in the same instant. Their pids are known, their start times are not:
 * the name and an age that fits are what tells them from a process that got the number since. */
static void await_orphan(pid_t pid, const char *name, uint64_t daemon_start) {
    uint64_t start, again;
    if (pid <= 0 || proc_start_time(pid, &start) < 0 || start < daemon_start || !has_name(pid, name))
        return;
    uint64_t end = now_usec() + REMAINS_KILL_USEC;
    while (proc_start_time(pid, &again) == 0 && again == start) {
        if (now_usec() >= end) {
            log_warn("%s (pid %d) of a sandbox whose daemon is gone still runs", name, (int)pid);
            return;
        }
        (void)fd_wait(-1, 0, ORPHAN_POLL_USEC);
    }
}

static void remove_outside(const struct oci_container_state *c) {
    struct err err = ERR_INIT;
    if (c->cgroups_path && cgroup_remove(c->cgroups_path, &err) < 0)
        log_warn("container %s: %s", c->id, err.msg);
    if (c->scratch && path_remove_tree(AT_FDCWD, c->scratch, &err) < 0)
        log_warn("container %s: %s", c->id, err.msg);
}

int sandbox_remains_clear(const struct oci_sandbox_state *st, struct err *err) {
    struct family family = {.n = 0};
    int r = kill_daemon(st, &family, err);
    await_family(&family);
    if (r < 0)
        return r;
    await_orphan(st->qemu_pid, "qemu-system", st->daemon_start);
    await_orphan(st->virtiofsd_pid, "virtiofsd", st->daemon_start);
    for (size_t i = 0; i < st->n_containers; i++)
        remove_outside(&st->containers[i]);
    return 0;
}
