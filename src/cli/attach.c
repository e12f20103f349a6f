/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/attach.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "cli/monitor.h"
#include "cli/signals.h"
#include "cli/task.h"

static void resize(struct attach *a) {
    uint32_t width, height;
    if (!a->io || a->io->terminal.fd < 0)
        return;
    terminal_size(a->io->terminal.fd, &width, &height);
    if (width && height)
        task_resize_async(a->session, a->id, a->exec_id, width, height);
}

static void on_signal(int sig, void *userdata) {
    struct attach *a = userdata;
    if (a->ending)
        return;
    if (sig == SIGCONT)
        pump_retry(a->in);
    if (!a->running) {
        if (signals_is_end(sig))
            a->session->interrupt = sig;
    } else if (a->exited) {
        /* What is left to relay finds no reader. */
        if (signals_is_end(sig))
            a->drained = true;
    } else if (sig == SIGWINCH) {
        resize(a);
    } else if (a->keep_signals) {
        if (signals_is_end(sig)) {
            a->signal = sig;
            a->detached = a->exited = true;
        }
    } else {
        task_kill_async(a->session, a->id, a->exec_id, sig);
    }
}

int attach_begin(struct attach *a, struct err *err) {
    return signals_watch(a->session->event, on_signal, a, err);
}

/* A pipe ends by closing it; of the socket pair only one direction ends. */
static void end_direction(int *fd, int how) {
    (void)shutdown(*fd, how);
    *fd = fd_close(*fd);
}

static bool on_input(char *buf, size_t *len, void *userdata) {
    struct attach *a = userdata;
    if (a->filter && a->filter(buf, len, a->userdata))
        a->detached = a->exited = true;
    return a->detached;
}

static void on_input_done(struct pump *p, void *userdata) {
    (void)p;
    struct attach *a = userdata;
    end_direction(&a->io->to_process, SHUT_WR);
}

static void on_output_done(struct pump *p, void *userdata) {
    (void)p;
    struct attach *a = userdata;
    end_direction(&a->io->from_process, SHUT_RD);
    a->drained = true;
}

static const struct pump_ops input_ops = {.filter = on_input, .done = on_input_done};
static const struct pump_ops output_ops = {.done = on_output_done};

static void take_exit(struct attach *a, const Containerd__Task__V2__WaitResponse *r) {
    a->status = r->exit_status;
    if (a->status == MONITOR_LOST && *r->vm_death) {
        err_set(&a->vm_death, ECONNRESET, "the virtual machine of %s died: %s", a->session->dir->id, r->vm_death);
        sandbox_dir_add_log_tail(a->session->dir, &a->vm_death);
    }
}

static void on_exit_status(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct attach *a = userdata;
    if (err && (err->code == ECONNRESET || err->code == ENOTCONN || err->code == EPIPE || err->code == ECANCELED))
        return; /* the session notices that the daemon is gone, and says more about it */
    a->exited = true;
    if (err)
        err_copy(&a->err, err);
    else
        take_exit(a, (const void *)*reply);
}

int attach_run(struct attach *a, struct err *err) {
    struct session *s = a->session;
    int r = task_wait_async(s, a->id, a->exec_id, on_exit_status, a, err);
    if (r < 0)
        return r;
    a->running = true;
    a->drained = !a->io || a->io->from_process < 0;
    if (a->io && a->io->terminal.fd >= 0) {
        uint32_t width, height;
        r = terminal_set_raw(&a->io->terminal, err);
        terminal_size(a->io->terminal.fd, &width, &height);
        if (width != a->io->pass.width || height != a->io->pass.height)
            resize(a);
    }
    if (r == 0 && a->io && a->io->to_process >= 0)
        r = pump_new(s->event, STDIN_FILENO, a->io->to_process, &input_ops, a, &a->in, err);
    if (r == 0 && a->io && a->io->from_process >= 0)
        r = pump_new(s->event, a->io->from_process, STDOUT_FILENO, &output_ops, a, &a->out, err);
    return r;
}

int attach_wait(struct attach *a, uint32_t *ret_status, struct err *err) {
    int r = session_run_until(a->session, &a->exited, SESSION_FOREVER, err);
    if (r < 0)
        return r;
    if (a->detached)
        return 1;
    if (a->err.code)
        return err_copy(err, &a->err);
    a->in = pump_free(a->in);
    /* The daemon tells of the exit when all output is in the socket pair, and closes its end of it. */
    while (!a->drained && sd_event_run(a->session->event, UINT64_MAX) >= 0)
        ;
    *ret_status = a->status;
    return 0;
}

void attach_end(struct attach *a) {
    a->ending = true;
    if (a->session)
        a->session->interrupt = 0;
    a->in = pump_free(a->in);
    a->out = pump_free(a->out);
    if (a->io)
        terminal_close(&a->io->terminal);
}
