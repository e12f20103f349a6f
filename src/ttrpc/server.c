/* SPDX-License-Identifier: Apache-2.0 */
#include "ttrpc/server.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fd.h"
#include "base/log.h"
#include "proto/ttrpc.pb-c.h"
#include "ttrpc/server_impl.h"
#include "ttrpc/status.h"
#include "ttrpc/transport_impl.h"
#include "ttrpc/wire.h"

#define NAME_SHOWN_MAX 128 /* of a service or method that a peer asked for, in messages */

static void server_unref(struct ttrpc_server *s) {
    if (--s->refs > 0)
        return;
    sd_event_unref(s->event);
    free(s);
}

/* ---- requests ---- */

static void unlink_request(struct ttrpc_request *req) {
    struct ttrpc_conn *c = req->conn;
    if (!c)
        return;
    if (req->prev)
        req->prev->next = req->next;
    else
        c->requests = req->next;
    if (req->next)
        req->next->prev = req->prev;
    req->prev = req->next = NULL;
    req->conn = NULL;
    c->n_requests--;
}

static void request_free(struct ttrpc_request *req) {
    unlink_request(req);
    sd_event_source_disable_unref(req->late);
    if (req->in)
        protobuf_c_message_free_unpacked(req->in, NULL);
    free(req);
}

/* May answer the request, which frees it. */
static void abandon(struct ttrpc_request *req, enum ttrpc_abandoned why) {
    void (*fn)(struct ttrpc_request * req, enum ttrpc_abandoned why, void *userdata) = TAKE_PTR(req->abandoned);
    req->late = sd_event_source_disable_unref(req->late);
    if (fn)
        fn(req, why, req->abandoned_userdata);
}

/* Nobody waits for the answers any more. */
static void cancel_requests(struct ttrpc_conn *c) {
    while (c->requests) {
        struct ttrpc_request *req = c->requests;
        unlink_request(req);
        if (req->cancel)
            req->cancel(req, req->cancel_userdata); /* may answer it, which frees it */
        else
            abandon(req, TTRPC_ABANDONED_LOST);
    }
}

static void send_failure(struct ttrpc_conn *c, uint32_t stream, enum ttrpc_code code, const char *message) {
    struct err err = ERR_INIT;
    uint8_t *frame = NULL;
    size_t len = 0;
    int r = wire_failure(stream, code, message, &frame, &len, &err);
    if (r >= 0)
        r = outbox_send(&c->outbox, frame, len, NULL, 0, &err);
    /* -ENOTCONN: the connection is ending, the answer has nowhere to go. Else there is no memory, or a peer that sends
     * requests but takes no answers: a caller left without an answer would wait for ever, so the connection ends. */
    if (r < 0 && r != -ENOTCONN)
        transport_abort(c->transport, &err);
}

void ttrpc_reply(struct ttrpc_request *req, const ProtobufCMessage *out) {
    struct ttrpc_conn *c = req->conn;
    if (c) {
        struct err err = ERR_INIT;
        uint8_t *frame = NULL;
        size_t len = 0;
        int r = wire_reply(req->stream, out, &frame, &len, &err);
        if (r >= 0)
            r = outbox_send(&c->outbox, frame, len, NULL, 0, &err);
        if (r < 0 && r != -ENOTCONN) {
            err_wrap(&err, "answer to %s", req->method->name);
            send_failure(c, req->stream, TTRPC_RESOURCE_EXHAUSTED, err.msg);
        }
    }
    request_free(req);
}

void ttrpc_fail(struct ttrpc_request *req, const struct err *err) {
    if (req->conn) {
        /* A failure must not look like success, even if the caller forgot to say which. */
        int code = err && err->code > 0 ? err->code : EIO;
        send_failure(req->conn, req->stream, ttrpc_code_from_errno(code), err ? err->msg : "");
    }
    request_free(req);
}

uint64_t ttrpc_request_deadline(const struct ttrpc_request *req) {
    return req->deadline;
}

int ttrpc_request_take_fd(struct ttrpc_request *req) {
    return req->conn ? transport_take_fd(req->conn->transport) : -ENOENT;
}

void ttrpc_request_on_cancel(struct ttrpc_request *req, void (*fn)(struct ttrpc_request *req, void *userdata),
                             void *userdata) {
    req->cancel = fn;
    req->cancel_userdata = userdata;
}

const char *ttrpc_abandoned_text(enum ttrpc_abandoned why) {
    switch (why) {
    case TTRPC_ABANDONED_LATE:
        return "the caller's deadline has passed";
    case TTRPC_ABANDONED_CANCELLED:
        return "cancelled";
    default:
        return "the caller is gone";
    }
}

static int on_late(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)source;
    (void)usec;
    abandon(userdata, TTRPC_ABANDONED_LATE);
    return 0;
}

int ttrpc_request_on_abandoned(struct ttrpc_request *req,
                               void (*fn)(struct ttrpc_request *req, enum ttrpc_abandoned why, void *userdata),
                               void *userdata, struct err *err) {
    /* A lost one has nobody to abandon it later: its handler is running just now. */
    if (req->deadline && req->conn) {
        int r =
            sd_event_add_time(req->conn->server->event, &req->late, CLOCK_MONOTONIC, req->deadline, 0, on_late, req);
        if (r < 0)
            return err_errno(err, -r, "cannot set a timer");
    }
    req->abandoned = fn;
    req->abandoned_userdata = userdata;
    return 0;
}

void ttrpc_request_cancel_others(struct ttrpc_request *req) {
    for (;;) {
        struct ttrpc_request *other = req->conn ? req->conn->requests : NULL;
        while (other && (other == req || !other->abandoned))
            other = other->next;
        if (!other)
            return;
        abandon(other, TTRPC_ABANDONED_CANCELLED); /* and with it perhaps the connection */
    }
}

/* ---- what comes in ---- */

static const struct service *find_service(const struct ttrpc_server *s, const char *name) {
    for (const struct service *i = s->services; i; i = i->next)
        if (strcmp(i->desc->name ? i->desc->name : i->desc->desc->name, name) == 0)
            return i;
    return NULL;
}

static ttrpc_handler_fn find_handler(const struct service *s, const char *method) {
    for (const struct ttrpc_handler *h = s->desc->handlers; h->method; h++)
        if (strcmp(h->method, method) == 0)
            return h->fn;
    return NULL;
}

static void unimplemented(struct ttrpc_conn *c, uint32_t stream, const Ttrpc__Request *env, const char *what) {
    char message[3 * NAME_SHOWN_MAX];
    snprintf(message, sizeof(message), "%.*s/%.*s: %s", NAME_SHOWN_MAX, env->service, NAME_SHOWN_MAX, env->method,
             what);
    send_failure(c, stream, TTRPC_UNIMPLEMENTED, message);
}

/* ---- requests that wait ---- */

static bool must_wait(const struct ttrpc_server *s, const char *method) {
    if (!s->hold)
        return false;
    for (const char *const *m = s->hold; *m; m++)
        if (strcmp(*m, method) == 0)
            return false;
    return true;
}

static void drop_held(struct ttrpc_request *req, void *userdata) {
    (void)userdata;
    request_free(req);
}

static void hold_request(struct ttrpc_request *req, ttrpc_handler_fn fn, void *userdata) {
    req->held = fn;
    req->held_userdata = userdata;
    req->cancel = drop_held; /* no handler owns it */
}

/* The one that came first on its connection; NULL: none waits. */
static struct ttrpc_request *first_held(const struct ttrpc_server *s) {
    struct ttrpc_request *found = NULL;
    for (const struct ttrpc_conn *c = s->conns; c && !found; c = c->next)
        for (struct ttrpc_request *req = c->requests; req; req = req->next)
            if (req->held)
                found = req;
    return found;
}

void ttrpc_server_hold(struct ttrpc_server *s, const char *const *methods) {
    struct ttrpc_request *req;
    s->hold = methods;
    s->refs++;
    /* Each may end its connection, or begin another hold. */
    while (!s->hold && (req = first_held(s))) {
        struct err err = ERR_INIT;
        ttrpc_handler_fn fn = TAKE_PTR(req->held);
        req->cancel = NULL;
        if (!req->deadline || now_usec() < req->deadline) {
            fn(req, req->in, req->held_userdata);
            continue;
        }
        err_set(&err, ETIMEDOUT, "%s: its time was over before it could begin", req->method->name);
        ttrpc_fail(req, &err);
    }
    server_unref(s);
}

/* Calls the handler for a request, or answers why not. */
static void dispatch(struct ttrpc_conn *c, uint32_t stream, const Ttrpc__Request *env) {
    const struct service *s = find_service(c->server, env->service);
    if (!s) {
        unimplemented(c, stream, env, "no such service here");
        return;
    }
    const ProtobufCMethodDescriptor *m = protobuf_c_service_descriptor_get_method_by_name(s->desc->desc, env->method);
    ttrpc_handler_fn fn = m ? find_handler(s, env->method) : NULL;
    if (!fn) {
        unimplemented(c, stream, env, m ? "not implemented" : "no such method");
        return;
    }
    if (c->n_requests >= TTRPC_SERVER_REQUESTS_MAX) {
        send_failure(c, stream, TTRPC_RESOURCE_EXHAUSTED, "too many requests of this connection are unanswered");
        return;
    }
    ProtobufCMessage *in = wire_unpack(m->input, env->payload.data, env->payload.len);
    struct ttrpc_request *req = in ? calloc(1, sizeof(*req)) : NULL;
    if (!req) {
        char message[3 * NAME_SHOWN_MAX];
        snprintf(message, sizeof(message), "%s: the request is no valid %s", m->name, m->input->name);
        send_failure(c, stream, in ? TTRPC_RESOURCE_EXHAUSTED : TTRPC_INVALID_ARGUMENT, message);
        if (in)
            protobuf_c_message_free_unpacked(in, NULL);
        return;
    }
    *req = (struct ttrpc_request){.conn = c, .stream = stream, .method = m, .in = in, .next = c->requests};
    if (env->timeout_nano > 0)
        req->deadline = now_usec() + (uint64_t)env->timeout_nano / 1000;
    if (c->requests)
        c->requests->prev = req;
    c->requests = req;
    c->n_requests++;
    if (must_wait(c->server, m->name))
        hold_request(req, fn, s->userdata);
    else
        fn(req, in, s->userdata);
}

/* Ids rise, and begin again at 1 after the largest: compared as serial numbers. */
static bool stream_ok(const struct ttrpc_conn *c, uint32_t stream) {
    return stream % 2 == 1 && (int32_t)(stream - c->last_stream) > 0;
}

static int on_frame(const struct ttrpc_header *h, const uint8_t *data, void *userdata, struct err *err) {
    struct ttrpc_conn *c = userdata;
    /* Data belongs to streaming methods. We have none, so it follows a request that was answered with UNIMPLEMENTED. */
    if (h->type == TTRPC_DATA)
        return 0;
    if (h->type != TTRPC_REQUEST)
        return err_set(err, EPROTO, "ttrpc: frame of type %u on stream %u where requests belong", h->type, h->stream);
    if (!stream_ok(c, h->stream)) {
        send_failure(c, h->stream, TTRPC_INVALID_ARGUMENT, "stream ids must be odd and rise");
        return 0;
    }
    c->last_stream = h->stream;
    Ttrpc__Request *env = (Ttrpc__Request *)wire_unpack(&ttrpc__request__descriptor, data, h->length);
    if (!env) {
        send_failure(c, h->stream, TTRPC_INVALID_ARGUMENT, "the request cannot be decoded");
        return 0;
    }
    dispatch(c, h->stream, env);
    ttrpc__request__free_unpacked(env, NULL);
    return c->ended ? -ECANCELED : 0;
}

/* ---- connections ---- */

static void conn_unref(struct ttrpc_conn *c) {
    if (--c->refs > 0)
        return;
    ttrpc_decoder_reset(&c->decoder);
    outbox_clear(&c->outbox);
    free(c);
}

/* Ends a connection of either side's will. The caller holds a reference to the server. */
static void conn_end(struct ttrpc_conn *c) {
    struct ttrpc_server *s = c->server;
    if (c->ended)
        return;
    c->ended = true;
    struct ttrpc_conn **p = &s->conns;
    while (*p != c)
        p = &(*p)->next;
    *p = c->next;
    s->n_conns--;
    c->transport = transport_free(c->transport);
    cancel_requests(c);
    conn_unref(c);
}

static void on_ready(struct transport *t, void *userdata) {
    struct ttrpc_conn *c = userdata;
    struct ttrpc_server *s = c->server;
    (void)t;
    if (!c->is_channel)
        return;
    c->refs++;
    s->refs++;
    ttrpc_decoder_reset(&c->decoder);
    outbox_clear(&c->outbox);
    c->last_stream = 0;
    cancel_requests(c);
    if (!s->dead && s->session)
        s->session(s->session_userdata);
    server_unref(s);
    conn_unref(c);
}

static int on_data(struct transport *t, const uint8_t *buf, size_t len, void *userdata, struct err *err) {
    struct ttrpc_conn *c = userdata;
    struct ttrpc_server *s = c->server;
    (void)t;
    c->refs++;
    s->refs++;
    int r = ttrpc_decoder_feed(&c->decoder, buf, len, on_frame, c, err);
    if (r < 0 && !c->ended && c->is_channel)
        log_warn("%s: the session is over", err->msg); /* a channel's end is told to nobody else */
    server_unref(s);
    conn_unref(c);
    return r;
}

static void on_drained(struct transport *t, void *userdata) {
    struct ttrpc_conn *c = userdata;
    (void)t;
    outbox_push(&c->outbox);
}

static void on_closed(struct transport *t, const struct err *err, void *userdata) {
    struct ttrpc_conn *c = userdata;
    struct ttrpc_server *s = c->server;
    (void)t;
    if (err->code == EPROTO || err->code == EMSGSIZE || err->code == ENOBUFS || c->is_channel)
        log_warn("ttrpc connection ended: %s", err->msg);
    else
        log_debug("ttrpc connection ended: %s", err->msg);
    s->refs++;
    conn_end(c);
    if (!s->dead && s->disconnect)
        s->disconnect(s->disconnect_userdata);
    server_unref(s);
}

static const struct transport_ops transport_ops = {
    .ready = on_ready, .data = on_data, .drained = on_drained, .closed = on_closed};

static int add_conn(struct ttrpc_server *s, int fd, bool is_channel, struct err *err) {
    if (s->n_conns >= TTRPC_SERVER_CONNS_MAX) {
        fd_close(fd);
        return err_set(err, ENOBUFS, "%d connections are open already", TTRPC_SERVER_CONNS_MAX);
    }
    struct ttrpc_conn *c = calloc(1, sizeof(*c));
    if (!c) {
        fd_close(fd);
        return err_errno(err, ENOMEM, "ttrpc connection");
    }
    c->refs = 1;
    c->server = s;
    c->is_channel = is_channel;
    int r = is_channel ? transport_new_channel(s->event, fd, CHANNEL_GUEST, 0, &transport_ops, c, &c->transport, err)
                       : transport_new_plain(s->event, fd, &transport_ops, c, &c->transport, err);
    if (r < 0) {
        free(c);
        return r;
    }
    outbox_init(&c->outbox, c->transport);
    c->next = s->conns;
    s->conns = c;
    s->n_conns++;
    return 0;
}

int ttrpc_server_add_plain(struct ttrpc_server *s, int fd, struct err *err) {
    return add_conn(s, fd, false, err);
}

int ttrpc_server_add_channel(struct ttrpc_server *s, int fd, struct err *err) {
    return add_conn(s, fd, true, err);
}

/* ---- the server ---- */

int ttrpc_server_new(sd_event *event, struct ttrpc_server **ret, struct err *err) {
    struct ttrpc_server *s = calloc(1, sizeof(*s));
    if (!s)
        return err_errno(err, ENOMEM, "ttrpc server");
    s->refs = 1;
    s->event = sd_event_ref(event);
    *ret = s;
    return 0;
}

struct ttrpc_server *ttrpc_server_free(struct ttrpc_server *s) {
    if (!s || s->dead)
        return NULL;
    s->dead = true;
    while (s->listeners) {
        struct listener *l = s->listeners;
        s->listeners = l->next;
        listener_free(l);
    }
    while (s->conns)
        conn_end(s->conns);
    while (s->services) {
        struct service *i = s->services;
        s->services = i->next;
        free(i);
    }
    server_unref(s);
    return NULL;
}

int ttrpc_server_add(struct ttrpc_server *s, const struct ttrpc_service *service, void *userdata, struct err *err) {
    const char *name = service->name ? service->name : service->desc->name;
    if (find_service(s, name))
        return err_set(err, EEXIST, "ttrpc service %s is there already", name);
    struct service *i = calloc(1, sizeof(*i));
    if (!i)
        return err_errno(err, ENOMEM, "ttrpc service %s", name);
    *i = (struct service){.next = s->services, .desc = service, .userdata = userdata};
    s->services = i;
    return 0;
}

void ttrpc_server_on_session(struct ttrpc_server *s, void (*fn)(void *userdata), void *userdata) {
    s->session = fn;
    s->session_userdata = userdata;
}

void ttrpc_server_on_disconnect(struct ttrpc_server *s, void (*fn)(void *userdata), void *userdata) {
    s->disconnect = fn;
    s->disconnect_userdata = userdata;
}

size_t ttrpc_server_connections(const struct ttrpc_server *s) {
    return s->n_conns;
}

int ttrpc_server_flush(struct ttrpc_server *s, uint64_t timeout_usec) {
    uint64_t start = now_usec();
    int result = 0;
    for (struct ttrpc_conn *c = s->conns; c; c = c->next) {
        uint64_t passed = now_usec() - start;
        int r = outbox_flush(&c->outbox, passed < timeout_usec ? timeout_usec - passed : 0);
        if (r < 0 && result == 0)
            result = r;
    }
    return result;
}
