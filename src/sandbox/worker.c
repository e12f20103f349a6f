/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/worker.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/util.h"

#define REAP_USEC (5 * USEC_PER_SEC)
#define CANCEL_USEC USEC_PER_SEC

struct worker {
    const char *name;
    struct proc proc;
    int report; /* the child's error comes here: one write, or nothing when all went well */
    sd_event_source *ended;
    worker_done_fn done;
    void *userdata;
};

static void free_worker(struct worker *w) {
    sd_event_source_disable_unref(w->ended);
    proc_kill(&w->proc);
    fd_close(w->report);
    free(w);
}

static __attribute__((noreturn)) void run(worker_fn fn, void *arg, int report) {
    struct err err = ERR_INIT;
    sigset_t none;
    sigemptyset(&none);
    /* The parent may have died before this took effect, but then nobody has the other end of the pipe either. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 1; i < NSIG; i++)
        signal(i, i == SIGPIPE ? SIG_IGN : SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int r = fn(arg, &err);
    if (r < 0 && err.code == 0)
        err_set(&err, -r, "%s", strerror(-r));
    if (r < 0 && write(report, &err, sizeof(err)) < 0)
        _exit(2);
    _exit(r < 0 ? 1 : 0);
}

static int on_ended(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
    (void)fd;
    (void)revents;
    struct worker *w = userdata;
    struct err err = ERR_INIT;
    int status = 0;
    /* Before the pidfd is closed: a moment later its number may be another's. */
    (void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
    int r = proc_wait(&w->proc, REAP_USEC, &status);
    ssize_t n = read(w->report, &err, sizeof(err));
    if (n == (ssize_t)sizeof(err))
        err.msg[sizeof(err.msg) - 1] = '\0';
    else if (r < 0 || status != 0)
        err_set(&err, EIO, "%s: its process ended with %s %d", w->name, WIFSIGNALED(status) ? "signal" : "exit code",
                WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    worker_done_fn done = w->done;
    void *done_userdata = w->userdata;
    free_worker(w);
    if (done)
        done(done_userdata, err.code ? &err : NULL);
    return 0;
}

int worker_start(sd_event *event, const char *name, worker_fn fn, void *arg, worker_done_fn done, void *userdata,
                 struct worker **ret, struct err *err) {
    struct worker *w = calloc(1, sizeof(*w));
    int report[2];
    if (!w)
        return err_set(err, ENOMEM, "out of memory");
    *w = (struct worker){.name = name, .proc = PROC_NONE, .report = -1, .done = done, .userdata = userdata};
    if (FAULT(WORKER_START) || pipe2(report, O_CLOEXEC | O_NONBLOCK) < 0) {
        free_worker(w);
        return err_errno(err, errno, "%s: pipe", name);
    }
    w->report = report[0];
    w->proc.pid = (pid_t)syscall(SYS_clone, (unsigned long)(CLONE_PIDFD | SIGCHLD), NULL, &w->proc.pidfd, NULL, NULL);
    if (w->proc.pid == 0)
        run(fn, arg, report[1]);
    fd_close(report[1]);
    int r = w->proc.pid < 0 ? -errno : sd_event_add_io(event, &w->ended, w->proc.pidfd, EPOLLIN, on_ended, w);
    if (r < 0) {
        free_worker(w);
        return err_errno(err, -r, "%s: cannot start a process", name);
    }
    *ret = w;
    return 0;
}

bool worker_kill(struct worker *w) {
    int status;
    if (!w)
        return true;
    (void)sd_event_source_set_enabled(w->ended, SD_EVENT_OFF); /* before the pidfd is closed */
    (void)kill(w->proc.pid, SIGKILL);
    if (proc_wait(&w->proc, CANCEL_USEC, &status) == 0) {
        free_worker(w);
        return true;
    }
    log_warn("%s: process %d was killed and does not end", w->name, (int)w->proc.pid);
    w->done = NULL; /* it is reaped and freed when it ends after all */
    (void)sd_event_source_set_enabled(w->ended, SD_EVENT_ON);
    return false;
}

struct worker *worker_cancel(struct worker *w) {
    (void)worker_kill(w);
    return NULL;
}
