/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/proc.h"
#include "base/util.h"
#include "cli/signals.h"

static int on_second(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)usec;
    struct progress *p = userdata;
    p->seconds++;
    dprintf(STDERR_FILENO, "\r%s: %u s", p->what, p->seconds);
    int r = sd_event_source_set_time_relative(source, USEC_PER_SEC);
    return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

void progress_begin(struct progress *p, sd_event *event, const char *what) {
    p->what = what;
    if (isatty(STDERR_FILENO))
        (void)sd_event_add_time_relative(event, &p->timer, CLOCK_MONOTONIC, USEC_PER_SEC, 0, on_second, p);
}

void progress_end(struct progress *p) {
    if (p->seconds)
        dprintf(STDERR_FILENO, "\r\033[K");
    p->timer = sd_event_source_disable_unref(p->timer);
    p->seconds = 0;
}

static void __attribute__((noreturn)) show(pid_t parent, const char *what) {
    struct progress p = {0};
    sd_event *event = NULL;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent && sd_event_new(&event) >= 0) {
        progress_begin(&p, event, what);
        (void)sd_event_loop(event);
    }
    _exit(0);
}

int progress_while(const char *what, int (*fn)(void *userdata, struct err *err), void *userdata, struct err *err) {
    uint64_t begun = now_usec();
    pid_t self = getpid(), pid = isatty(STDERR_FILENO) ? fork() : -1;
    if (pid == 0)
        show(self, what);
    int r = fn(userdata, err);
    if (pid < 0)
        return r;
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (now_usec() - begun >= USEC_PER_SEC)
        dprintf(STDERR_FILENO, "\r\033[K");
    return r;
}

struct work {
    sd_event *event;
    struct proc proc;
    int report; /* the child's error: one write, or nothing when all went well */
    int signal;
};

static void __attribute__((noreturn))
work(pid_t parent, int (*fn)(void *userdata, struct err *err), void *userdata, int report) {
    struct err err = ERR_INIT;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    int r = fn(userdata, &err);
    if (r < 0 && err.code == 0)
        err_set(&err, -r, "%s", strerror(-r));
    if (r < 0 && write(report, &err, sizeof(err)) < 0)
        _exit(2);
    fflush(stdout);
    _exit(r < 0 ? 1 : 0);
}

static int on_ended(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
    (void)fd;
    (void)revents;
    (void)userdata;
    return sd_event_exit(sd_event_source_get_event(source), 0);
}

static void on_signal(int sig, void *userdata) {
    struct work *w = userdata;
    if (!signals_is_end(sig) || w->signal)
        return;
    w->signal = sig;
    (void)kill(w->proc.pid, SIGKILL);
}

static int await(struct work *w, const char *what, struct err *err) {
    struct progress p = {0};
    sd_event_source *ended = NULL;
    int r = sd_event_new(&w->event);
    if (r >= 0)
        r = sd_event_add_io(w->event, &ended, w->proc.pidfd, EPOLLIN, on_ended, w);
    if (r < 0)
        r = err_errno(err, -r, "cannot create an event loop");
    else
        r = signals_watch(w->event, on_signal, w, err);
    if (r == 0) {
        progress_begin(&p, w->event, what);
        r = sd_event_loop(w->event);
        progress_end(&p);
    }
    sd_event_source_disable_unref(ended);
    w->event = sd_event_unref(w->event);
    return r < 0 && err->code == 0 ? err_errno(err, -r, "the event loop failed") : r;
}

/* What has come of it. */
static int conclude(struct work *w, struct err *err) {
    struct err e = ERR_INIT;
    int status = 0;
    ssize_t n = read(w->report, &e, sizeof(e));
    if (waitpid(w->proc.pid, &status, 0) == w->proc.pid && status == 0)
        return 0; /* also when the signal came too late */
    if (w->signal)
        return err_set(err, EINTR, "interrupted by SIG%s", sigabbrev_np(w->signal));
    if (n == (ssize_t)sizeof(e)) {
        e.msg[sizeof(e.msg) - 1] = '\0';
        return err_copy(err, &e);
    }
    return err_set(err, EIO, "its process ended with %s %d", WIFSIGNALED(status) ? "signal" : "exit code",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

int progress_work(const char *what, int (*fn)(void *userdata, struct err *err), void (*undo)(void *userdata, pid_t pid),
                  void *userdata, int *ret_signal, struct err *err) {
    struct work w = {.proc = PROC_NONE};
    int report[2];
    pid_t self = getpid();
    if (pipe2(report, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_errno(err, errno, "cannot make a pipe");
    fflush(stdout);
    w.report = report[0];
    w.proc.pid = (pid_t)syscall(SYS_clone, (unsigned long)(CLONE_PIDFD | SIGCHLD), NULL, &w.proc.pidfd, NULL, NULL);
    if (w.proc.pid == 0)
        work(self, fn, userdata, report[1]);
    int r = w.proc.pid < 0 ? err_errno(err, errno, "cannot start a process") : 0;
    fd_close(report[1]);
    if (r == 0) {
        r = await(&w, what, err);
        if (r < 0)
            (void)kill(w.proc.pid, SIGKILL);
        int result = conclude(&w, r < 0 ? NULL : err);
        r = r < 0 ? r : result;
        if (undo && r < 0)
            undo(userdata, w.proc.pid);
        if (r == -EINTR)
            *ret_signal = w.signal;
    }
    fd_close(w.proc.pidfd);
    fd_close(report[0]);
    return r;
}
