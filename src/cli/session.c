/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/session.h"

#include <signal.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "cli/signals.h"
#include "proto/sandbox.pb-c.h"

static void on_closed(struct ttrpc_client *c, const struct err *err, void *userdata) {
    (void)c;
    struct session *s = userdata;
    s->closed = true;
    log_debug("connection to the sandbox daemon of %s closed: %s", s->dir->id, err && err->code ? err->msg : "EOF");
}

static const struct ttrpc_client_ops ops = {.closed = on_closed};

int session_open_fd(struct session *s, const struct sandbox_dir *dir, int fd_taken, uint64_t timeout, struct err *err) {
    cleanup_fd int fd = fd_taken;
    s->dir = dir;
    s->timeout = timeout;
    int r = sd_event_new(&s->event);
    if (r < 0)
        return err_errno(err, -r, "cannot create an event loop");
    return ttrpc_client_new_plain(s->event, TAKE_FD(fd), &ops, s, &s->client, err);
}

int session_open(struct session *s, const struct sandbox_dir *dir, uint64_t timeout, struct err *err) {
    int fd = sandbox_connect(dir, err);
    return fd < 0 ? fd : session_open_fd(s, dir, fd, timeout, err);
}

void session_close(struct session *s) {
    s->client = ttrpc_client_free(s->client);
    s->event = sd_event_unref(s->event);
}

int session_daemon_died(const struct session *s, struct err *err) {
    err_set(err, ECONNRESET, "the sandbox daemon of %s died", s->dir->id);
    sandbox_dir_add_log_tail(s->dir, err);
    char text[1024];
    ssize_t n = s->dir->stderr_fd >= 0 ? read(s->dir->stderr_fd, text, sizeof(text) - 1) : 0;
    if (n > 0) {
        text[n - (text[n - 1] == '\n')] = '\0';
        err_append(err, ": %s", text);
    }
    return -ECONNRESET;
}

static int run_once(struct session *s, uint64_t timeout, struct err *err) {
    int r = sd_event_run(s->event, timeout);
    return r < 0 ? err_errno(err, -r, "the event loop failed") : r;
}

int session_run_until(struct session *s, const bool *done, uint64_t timeout, struct err *err) {
    uint64_t end = timeout == SESSION_FOREVER ? UINT64_MAX : now_usec() + timeout;
    while (!*done) {
        uint64_t now = now_usec();
        if (s->closed)
            return session_daemon_died(s, err);
        if (now >= end)
            return err_set(err, ETIMEDOUT, "the sandbox daemon of %s did not answer in time", s->dir->id);
        int r = run_once(s, end == UINT64_MAX ? UINT64_MAX : end - now, err);
        if (r < 0)
            return r;
    }
    return 0;
}

struct pending {
    bool done;
    ProtobufCMessage *reply;
    struct err err;
};

static void on_reply(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct pending *p = userdata;
    p->done = true;
    if (err)
        err_copy(&p->err, err);
    else
        p->reply = TAKE_PTR(*reply);
}

static void on_signal(int sig, void *userdata) {
    struct session *s = userdata;
    if (signals_is_end(sig))
        s->interrupt = sig;
}

int session_cancel_on_signal(struct session *s, struct err *err) {
    int r = signals_watch(s->event, on_signal, s, err);
    s->cancels = r == 0;
    return r;
}

static void on_cancel_taken(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct session *s = userdata;
    if (err) { /* a daemon of an older release: it sees only the end of the connection */
        s->interrupt = s->cancelled;
        return;
    }
    const Stasis__Sandbox__V1__CancelResponse *a = (const void *)*reply;
    if (*a->note)
        log_warn("%s", a->note);
}

static void ask_to_cancel(struct session *s) {
    Stasis__Sandbox__V1__Empty req = STASIS__SANDBOX__V1__EMPTY__INIT;
    struct err err = ERR_INIT;
    s->cancelled = s->interrupt;
    s->interrupt = 0;
    log_warn("SIG%s: cancelling (a second signal does not wait for that)", sigabbrev_np(s->cancelled));
    if (ttrpc_client_call(s->client, &stasis__sandbox__v1__sandbox__descriptor, "Cancel", &req.base, s->timeout,
                          on_cancel_taken, s, NULL, &err) < 0)
        s->interrupt = s->cancelled;
}

int session_call(struct session *s, const ProtobufCServiceDescriptor *service, const char *method,
                 const ProtobufCMessage *request, const int *fds, size_t n_fds, uint64_t timeout,
                 ProtobufCMessage **ret, struct err *err) {
    struct pending p = {.done = false};
    struct ttrpc_call *call = NULL;
    uint64_t deadline = timeout == SESSION_FOREVER ? TTRPC_NO_DEADLINE : timeout ? timeout : s->timeout;
    if (s->closed)
        return session_daemon_died(s, err);
    int r = ttrpc_client_call_fds(s->client, service, method, request, fds, n_fds, deadline, on_reply, &p, &call, err);
    if (r < 0)
        return r == -ENOTCONN ? session_daemon_died(s, err) : r;
    for (;;) {
        while (r >= 0 && !p.done && !s->interrupt)
            r = run_once(s, UINT64_MAX, err);
        if (r < 0 || p.done || !s->cancels || s->cancelled)
            break;
        ask_to_cancel(s);
    }
    if (!p.done) {
        ttrpc_call_cancel(call);
        return r < 0 ? r : err_set(err, EINTR, "interrupted by SIG%s", sigabbrev_np(s->interrupt));
    }
    if (p.err.code) {
        /* Pending calls fail before closed() is called: one more turn of the loop tells a lost daemon from an answer.
         */
        if (!s->closed && (p.err.code == ECONNRESET || p.err.code == ENOTCONN || p.err.code == EPIPE))
            (void)sd_event_run(s->event, 0);
        return s->closed ? session_daemon_died(s, err) : err_copy(err, &p.err);
    }
    if (ret)
        *ret = p.reply;
    else
        protobuf_c_message_free_unpacked(p.reply, NULL);
    return 0;
}
