/* SPDX-License-Identifier: Apache-2.0 */
#include "base/proc.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"

#define STAT_MAX 4096 /* bytes of /proc/PID/stat: a name and 50 numbers */

/* What the child tells the parent when it cannot become the program; nothing is sent when exec succeeds. */
struct child_error {
    int code;
    char msg[512];
};

static void reset_signals(void) {
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Puts the fds where the spec wants them. All are moved out of the way first, so that no entry overwrites the source of
 * a later one; so are the two of keep[], which stay open until exec. */
static int place_fds(const struct proc_spec *spec, int keep[2]) {
    int moved[PROC_FDS_MAX + 3];
    struct proc_fd fds[PROC_FDS_MAX + 3];
    size_t n = 0;
    int top = 3;
    for (int std = 0; std < 3; std++) {
        bool named = false;
        for (size_t i = 0; i < spec->n_fds; i++)
            named |= spec->fds[i].to == std;
        if (!named)
            fds[n++] = (struct proc_fd){.from = -1, .to = std};
    }
    for (size_t i = 0; i < spec->n_fds; i++)
        fds[n++] = spec->fds[i];
    for (size_t i = 0; i < n; i++)
        top = MAX(top, fds[i].to + 1);

    for (int i = 0; i < 2; i++)
        if ((keep[i] = fcntl(keep[i], F_DUPFD_CLOEXEC, top + 1)) < 0)
            return -errno;
    for (size_t i = 0; i < n; i++) {
        int from = fds[i].from >= 0 ? fds[i].from : open("/dev/null", O_RDWR | O_CLOEXEC);
        if (from < 0 || (moved[i] = fcntl(from, F_DUPFD_CLOEXEC, top + 1)) < 0)
            return -errno;
    }
    for (size_t i = 0; i < n; i++)
        if (dup2(moved[i], fds[i].to) < 0)
            return -errno;
    /* Whatever else is open without close-on-exec (inherited from a careless parent) ends here. */
    unsigned next = 0;
    for (int fd = 0; fd <= top; fd++) {
        bool wanted = false;
        for (size_t i = 0; i < n; i++)
            wanted |= fds[i].to == fd;
        if (wanted) {
            if ((unsigned)fd > next)
                syscall(SYS_close_range, next, (unsigned)fd - 1, 4u /* CLOSE_RANGE_CLOEXEC */);
            next = (unsigned)fd + 1;
        }
    }
    syscall(SYS_close_range, next, ~0u, 4u);
    return 0;
}

/* Dies with the parent from here on. It may have died before, and in a new pid namespace getppid() does not tell. */
static void follow_parent(int parent_pidfd) {
    struct pollfd p = {.fd = parent_pidfd, .events = POLLIN};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (poll(&p, 1, 0) != 0)
        _exit(127);
}

static void __attribute__((noreturn)) child(const struct proc_spec *spec, int parent_pidfd, int report) {
    struct err err = ERR_INIT;
    const char *prog = spec->path;
    int r = 0;

    reset_signals();
    if (!spec->outlive_parent)
        follow_parent(parent_pidfd);
    if (spec->new_session)
        setsid();
    int keep[] = {report, parent_pidfd};
    r = place_fds(spec, keep);
    report = keep[0];
    parent_pidfd = keep[1];
    if (r < 0)
        err_errno(&err, -r, "cannot run %s: placing its descriptors", prog);
    if (r == 0 && spec->cwd && chdir(spec->cwd) < 0)
        r = err_errno(&err, errno, "%s: cannot change to directory %s", prog, spec->cwd);
    if (r == 0 && spec->setup && (r = spec->setup(spec->userdata, &err)) < 0)
        err_wrap(&err, "%s", prog);
    if (r == 0) {
        /* Once more: a change of credentials in setup() clears it. */
        if (!spec->outlive_parent)
            follow_parent(parent_pidfd);
        if (spec->env)
            execvpe(prog, spec->argv, spec->env);
        else
            execvp(prog, spec->argv);
        err_errno(&err, errno, "cannot run %s", prog);
    }
    struct child_error ce = {.code = err.code ? err.code : EIO};
    snprintf(ce.msg, sizeof(ce.msg), "%.*s", (int)sizeof(ce.msg) - 1, err.msg);
    if (write(report, &ce, sizeof(ce)) < 0) {
        /* the parent is gone */
    }
    _exit(127);
}

int proc_spawn(const struct proc_spec *spec, struct proc *ret, struct err *err) {
    int report[2];
    if (pipe2(report, O_CLOEXEC) < 0)
        return err_errno(err, errno, "cannot run %s: pipe", spec->path);
    cleanup_fd int rd = report[0];
    cleanup_fd int wr = report[1];

    cleanup_fd int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (self < 0)
        return err_errno(err, errno, "cannot run %s: pidfd_open", spec->path);

    struct proc p = PROC_NONE;
    /* The plain call works like fork() when there is no new stack. Not clone3, which seccomp profiles often refuse. */
    p.pid = (pid_t)syscall(SYS_clone, (unsigned long)(spec->clone_flags | CLONE_PIDFD | SIGCHLD), NULL, &p.pidfd, NULL,
                           NULL);
    if (p.pid < 0)
        return err_errno(err, errno, "cannot run %s: %s", spec->path,
                         spec->clone_flags ? "clone into new namespaces" : "clone");
    if (p.pid == 0)
        child(spec, self, wr);
    fd_closep(&wr);
    struct child_error ce;
    ssize_t n;
    do
        n = read(rd, &ce, sizeof(ce));
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)sizeof(ce)) {
        proc_kill(&p);
        ce.msg[sizeof(ce.msg) - 1] = '\0';
        return err_set(err, ce.code, "%s", ce.msg);
    }
    *ret = p;
    return 0;
}

void proc_kill(struct proc *p) {
    if (p->pid > 0) {
        kill(p->pid, SIGKILL);
        while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    p->pid = 0;
    p->pidfd = fd_close(p->pidfd);
}

int proc_wait(struct proc *p, uint64_t timeout_usec, int *ret_status) {
    int r = fd_wait(p->pidfd, POLLIN, timeout_usec);
    if (r < 0)
        return r;
    if (r == 0)
        return -ETIMEDOUT;
    while (waitpid(p->pid, ret_status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    p->pid = 0;
    p->pidfd = fd_close(p->pidfd);
    return 0;
}

int proc_run(const struct proc_spec *spec, uint64_t timeout_usec, struct err *err) {
    struct proc_spec s = *spec;
    bool own_stderr = true;
    for (size_t i = 0; i < s.n_fds; i++)
        own_stderr &= s.fds[i].to != STDERR_FILENO;

    cleanup_fd int rd = -1, wr = -1;
    if (own_stderr) {
        int p[2];
        if (s.n_fds >= PROC_FDS_MAX || pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
            return err_errno(err, errno, "cannot run %s: pipe", s.path);
        rd = p[0];
        wr = p[1];
        fd_set_nonblock(wr, false);
        s.fds[s.n_fds++] = (struct proc_fd){.from = wr, .to = STDERR_FILENO};
    }
    struct proc child = PROC_NONE;
    int r = proc_spawn(&s, &child, err);
    if (r < 0)
        return r;
    fd_closep(&wr);

    /* Only the end of what it says is kept. */
    char tail[1024];
    size_t len = 0;
    uint64_t end = now_usec() + timeout_usec;
    int status = 0;
    for (;;) {
        struct pollfd p[2] = {{.fd = child.pidfd, .events = POLLIN}, {.fd = rd, .events = POLLIN}};
        uint64_t now = now_usec();
        if (now >= end) {
            proc_kill(&child);
            return err_set(err, ETIMEDOUT, "%s did not end within %.1f s", s.path,
                           (double)timeout_usec / (double)USEC_PER_SEC);
        }
        if (poll(p, rd >= 0 ? 2 : 1, (int)MIN((end - now) / 1000 + 1, 60000)) < 0 && errno != EINTR)
            break;
        bool done = p[0].revents;
        for (ssize_t n = 1; rd >= 0 && n > 0;) {
            if (len > sizeof(tail) / 2) {
                memmove(tail, tail + len - sizeof(tail) / 2, sizeof(tail) / 2);
                len = sizeof(tail) / 2;
            }
            n = read(rd, tail + len, sizeof(tail) - 1 - len);
            if (n > 0)
                len += (size_t)n;
            else if (n == 0)
                rd = fd_close(rd);
        }
        if (done)
            break;
    }
    r = proc_wait(&child, USEC_PER_SEC, &status);
    if (r < 0) {
        proc_kill(&child);
        return err_errno(err, -r, "cannot wait for %s", s.path);
    }
    if (status == 0)
        return 0;
    while (len && (tail[len - 1] == '\n' || tail[len - 1] == ' '))
        len--;
    tail[len] = '\0';
    const char *line = strrchr(tail, '\n');
    line = line ? line + 1 : tail;
    return err_set(err, EIO, "%s failed with %s %d%s%s", s.path, WIFSIGNALED(status) ? "signal" : "exit code",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), *line ? ": " : "", line);
}

int proc_exit_code(int status) {
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int proc_start_time(pid_t pid, uint64_t *ret) {
    char path[64], text[STAT_MAX];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (n < 0)
        return errno == ENOENT ? -ESRCH : -errno;
    text[n] = '\0';
    /* The name in parentheses may hold anything; the last ')' ends it. The state is the next field, the start time the
     * 19th after that (proc(5)). */
    const char *p = strrchr(text, ')');
    if (!p || p[1] != ' ' || p[2] == '\0' || p[2] == 'Z' || p[2] == 'X')
        return -ESRCH;
    p += 2;
    for (int i = 0; i < 19 && p; i++)
        p = strchr(p + 1, ' ');
    if (!p)
        return -ESRCH;
    char *end;
    uint64_t start = strtoull(p + 1, &end, 10);
    if (end == p + 1)
        return -ESRCH;
    *ret = start;
    return 0;
}
