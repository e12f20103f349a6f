/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/tty.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/util.h"

static const char *name_of(const struct process *p) {
    return *p->exec_id ? p->exec_id : "init";
}

int process_new(sd_event *event, struct children *children, const char *exec_id, const struct process_streams *streams,
                process_exited_fn exited, void *userdata, struct process **ret, struct err *err) {
    struct process *p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(err, ENOMEM, "out of memory");
    p->event = event;
    p->children = children;
    p->streams = *streams;
    p->out = (struct reader)READER_NONE;
    p->err_out = (struct reader)READER_NONE;
    p->in = (struct writer)WRITER_NONE;
    p->pidfd = p->tty_peer = -1;
    p->exited = exited;
    p->userdata = userdata;
    snprintf(p->exec_id, sizeof(p->exec_id), "%s", exec_id);
    *ret = p;
    return 0;
}

static void answer_waiters(struct process *p, const struct err *err) {
    size_t n = p->n_waiters;
    p->n_waiters = 0;
    for (size_t i = 0; i < n; i++)
        p->waiters[i].fn(p->waiters[i].userdata, &p->exit, err);
}

static void abandon_waiters(struct process *p, const char *why) {
    struct err err = ERR_INIT;
    err_set(&err, ECANCELED, "%s", why);
    answer_waiters(p, &err);
}

struct process *process_free(struct process *p) {
    if (!p)
        return NULL;
    children_forget(p->children, &p->child);
    writer_close(&p->in);
    reader_close(&p->out);
    reader_close(&p->err_out);
    abandon_waiters(p, "the process was deleted");
    fd_close(p->pidfd);
    fd_close(p->tty_peer);
    free(p);
    return NULL;
}

void process_close_fds(int fds[3]) {
    for (int i = 0; i < 3; i++)
        fds[i] = fd_close(fds[i]);
}

static int make_pipes(struct process *p, int fds[3], struct err *err) {
    int pipe[2];
    int r = 0;
    if (p->streams.in && (r = stream_pipe(pipe, err)) == 0) {
        fds[0] = pipe[0];
        r = writer_open(&p->in, p->event, pipe[1], err);
    }
    if (r == 0 && p->streams.out && (r = stream_pipe(pipe, err)) == 0) {
        fds[1] = pipe[1];
        r = reader_open(&p->out, p->event, pipe[0], err);
    }
    if (r == 0 && p->streams.err && (r = stream_pipe(pipe, err)) == 0) {
        fds[2] = pipe[1];
        r = reader_open(&p->err_out, p->event, pipe[0], err);
    }
    return r;
}

int process_pipes(struct process *p, int fds[3], struct err *err) {
    fds[0] = fds[1] = fds[2] = -1;
    if (p->streams.terminal)
        return 0;
    int r = make_pipes(p, fds, err);
    if (r < 0)
        process_close_fds(fds);
    return r;
}

static void ended(struct process *p, int status) {
    p->exit.code = (uint32_t)proc_exit_code(status);
    p->exit.wall_usec = now_wall_usec();
    p->state = PROCESS_EXITED;
    p->pidfd = fd_close(p->pidfd);
    p->tty_peer = fd_close(p->tty_peer);
    log_debug("process %s, pid %d, ended with %u", name_of(p), (int)p->pid, p->exit.code);
    reader_end(&p->out);
    reader_end(&p->err_out);
    if (p->exited)
        p->exited(p, p->userdata);
    if (!p->held)
        answer_waiters(p, NULL);
}

static void on_exit_status(struct child *child, int status, void *userdata) {
    (void)child;
    ended(userdata, status);
}

static int open_terminal(struct process *p, int tty, struct err *err) {
    cleanup_fd int in = fcntl(tty, F_DUPFD_CLOEXEC, 3);
    if (in < 0) {
        fd_close(tty);
        return err_errno(err, errno, "cannot duplicate the terminal");
    }
    /* So that its output does not end when the process closes it and opens it again later, as an init does. */
    p->tty_peer = tty_open_peer(tty);
    /* A size or a mode that cannot be set does not keep the process from running. */
    (void)tty_resize(tty, p->streams.width, p->streams.height, NULL);
    if (p->streams.relayed)
        (void)tty_keep_newlines(tty, NULL);
    int r = reader_open(&p->out, p->event, tty, err);
    if (r == 0)
        r = writer_open(&p->in, p->event, TAKE_FD(in), err);
    return r;
}

int process_started(struct process *p, pid_t pid, int tty, struct err *err) {
    int r = tty >= 0 ? open_terminal(p, tty, err) : 0;
    if (r < 0)
        return r;
    int status = PROCESS_EXIT_LOST << 8;
    p->pid = pid;
    p->state = PROCESS_RUNNING;
    r = children_watch(p->children, &p->child, pid, on_exit_status, p, &status);
    if (r == 0) {
        /* A signal goes to this process or to none, whatever becomes of the pid. */
        p->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        if (p->pidfd < 0)
            return err_errno(err, errno, "cannot open pid %d of process %s", (int)pid, name_of(p));
        return 0;
    }
    if (r < 0)
        log_warn("process %s: the exit status of pid %d is lost", name_of(p), (int)pid);
    ended(p, status);
    return 0;
}

int process_signal(struct process *p, int signal, struct err *err) {
    if (signal < 1 || signal >= NSIG)
        return err_set(err, EINVAL, "there is no signal %d", signal);
    if (p->state == PROCESS_EXITED)
        return err_set(err, ESRCH, "process %s has already ended", name_of(p));
    if (p->pidfd < 0)
        return err_set(err, EBUSY, "process %s has not started", name_of(p));
    if (syscall(SYS_pidfd_send_signal, p->pidfd, signal, NULL, 0) < 0)
        return err_errno(err, errno, "cannot send signal %d to process %s (pid %d)", signal, name_of(p), (int)p->pid);
    return 0;
}

int process_wait(struct process *p, process_wait_fn fn, void *userdata, struct err *err) {
    if (p->state == PROCESS_EXITED) {
        fn(userdata, &p->exit, NULL);
        return 0;
    }
    if (p->n_waiters == PROCESS_WAITERS_MAX)
        return err_set(err, EBUSY, "%d calls wait for process %s already", PROCESS_WAITERS_MAX, name_of(p));
    p->waiters[p->n_waiters++] = (struct process_waiter){.fn = fn, .userdata = userdata};
    return 0;
}

int process_resize(struct process *p, uint32_t width, uint32_t height, struct err *err) {
    if (!p->streams.terminal)
        return err_set(err, EINVAL, "process %s has no terminal", name_of(p));
    if (p->out.fd < 0)
        return err_set(err, ESRCH, "the terminal of process %s is closed", name_of(p));
    return tty_resize(p->out.fd, width, height, err);
}

void process_close_stdin(struct process *p) {
    if (!p->streams.terminal)
        writer_end(&p->in);
}

struct reader *process_reader(struct process *p, int stream) {
    return stream == STDOUT_FILENO ? &p->out : stream == STDERR_FILENO ? &p->err_out : NULL;
}

void process_close_output(struct process *p, int stream) {
    struct reader *r = process_reader(p, stream);
    if (!r)
        return;
    reader_close(r);
    /* The terminal hangs up when the last fd of its master is closed. */
    if (p->streams.terminal && stream == STDOUT_FILENO) {
        writer_close(&p->in);
        p->tty_peer = fd_close(p->tty_peer);
    }
}

void process_hold(struct process *p, bool on) {
    p->held = on;
    writer_hold(&p->in, on);
    reader_hold(&p->out, on);
    reader_hold(&p->err_out, on);
    if (!on && p->state == PROCESS_EXITED)
        answer_waiters(p, NULL);
}

void process_void(struct process *p) {
    writer_void(&p->in);
    reader_void(&p->out);
    reader_void(&p->err_out);
    abandon_waiters(p, "the call was abandoned");
}
