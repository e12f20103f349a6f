/* SPDX-License-Identifier: Apache-2.0 */
#include "ttrpc/client.h"

#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "proto/ttrpc.pb-c.h"
#include "ttrpc/frame.h"
#include "ttrpc/outbox.h"
#include "ttrpc/status.h"
#include "ttrpc/wire.h"

#define BUCKETS 256
/* Stream ids of calls that were given up and whose late response is to be dropped. When more are open, the oldest is
 * forgotten and its response, should it still come, is a protocol error. */
#define GIVEN_UP_MAX 4096

struct ttrpc_call {
    struct ttrpc_call *next; /* in its bucket */
    struct ttrpc_client *client;
    const ProtobufCServiceDescriptor *service;
    const ProtobufCMethodDescriptor *method;
    uint32_t stream;
    uint64_t deadline; /* 0: none */
    uint64_t timeout;
    ttrpc_reply_fn fn;
    void *userdata;
};

struct ttrpc_client {
    unsigned refs;
    bool dead;   /* ttrpc_client_free() was called */
    bool closed; /* the transport is over */
    const struct ttrpc_client_ops *ops;
    void *userdata;
    sd_event *event;
    sd_event_source *timer; /* for the earliest deadline, or one that is past */
    uint64_t timer_at;      /* 0: not set */
    struct transport *transport;
    struct outbox outbox;
    struct ttrpc_decoder decoder;
    uint32_t next_stream;
    struct ttrpc_call *calls[BUCKETS]; /* by stream id */
    size_t n_calls;
    uint32_t *given_up; /* GIVEN_UP_MAX, from the first on; 0: empty */
    size_t next_given_up;
};

/* ---- bookkeeping ---- */

static void client_unref(struct ttrpc_client *c) {
    if (--c->refs > 0)
        return;
    ttrpc_decoder_reset(&c->decoder);
    outbox_clear(&c->outbox);
    sd_event_unref(c->event);
    free(c->given_up);
    free(c);
}

static size_t bucket(uint32_t stream) {
    return (stream >> 1) % BUCKETS;
}

static struct ttrpc_call *find_call(struct ttrpc_client *c, uint32_t stream) {
    struct ttrpc_call *call = c->calls[bucket(stream)];
    while (call && call->stream != stream)
        call = call->next;
    return call;
}

static void link_call(struct ttrpc_client *c, struct ttrpc_call *call) {
    struct ttrpc_call **b = &c->calls[bucket(call->stream)];
    call->next = *b;
    *b = call;
    c->n_calls++;
}

/* Takes out the call that a link of a bucket's chain leads to. */
static struct ttrpc_call *unlink_at(struct ttrpc_client *c, struct ttrpc_call **link) {
    struct ttrpc_call *call = *link;
    *link = call->next;
    c->n_calls--;
    return call;
}

static void unlink_call(struct ttrpc_call *call) {
    struct ttrpc_call **p = &call->client->calls[bucket(call->stream)];
    while (*p != call)
        p = &(*p)->next;
    unlink_at(call->client, p);
}

/* Frees a call that was taken out and tells its owner. The caller holds a reference to the client and looks at
 * c->dead afterwards. */
static void finish(struct ttrpc_call *call, ProtobufCMessage **reply, const struct err *err) {
    ttrpc_reply_fn fn = call->fn;
    void *userdata = call->userdata;
    free(call);
    fn(userdata, reply, err);
}

static void finish_error(struct ttrpc_call *call, const struct err *err) {
    struct err own = *err;
    ProtobufCMessage *none = NULL;
    err_wrap(&own, "%s/%s", call->service->name, call->method->name);
    finish(call, &none, &own);
}

/* The connection is over, so that callbacks cannot start other calls. They may cancel some, or free the client. */
static void fail_all(struct ttrpc_client *c, const struct err *err) {
    for (size_t i = 0; i < BUCKETS; i++)
        while (c->calls[i])
            finish_error(unlink_at(c, &c->calls[i]), err);
}

static bool was_given_up(struct ttrpc_client *c, uint32_t stream) {
    for (size_t i = 0; c->given_up && stream != 0 && i < GIVEN_UP_MAX; i++) {
        if (c->given_up[i] == stream) {
            c->given_up[i] = 0;
            return true;
        }
    }
    return false;
}

static void give_up(struct ttrpc_client *c, uint32_t stream) {
    if (!c->given_up)
        c->given_up = calloc(GIVEN_UP_MAX, sizeof(*c->given_up));
    /* Without memory a late response ends the connection; that is better than no bound. */
    if (c->given_up)
        c->given_up[c->next_given_up++ % GIVEN_UP_MAX] = stream;
}

/* ---- deadlines ---- */

static void timer_set(struct ttrpc_client *c, uint64_t at) {
    if (c->timer_at != 0 && c->timer_at <= at)
        return;
    c->timer_at = at;
    /* Fail only for a source that is gone. */
    (void)sd_event_source_set_time(c->timer, at);
    (void)sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
}

/* Takes out a call whose time is up. Without one, *ret_next is the next deadline (0: none). */
static struct ttrpc_call *take_expired(struct ttrpc_client *c, uint64_t now, uint64_t *ret_next) {
    *ret_next = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct ttrpc_call **p = &c->calls[i]; *p; p = &(*p)->next) {
            uint64_t deadline = (*p)->deadline;
            if (deadline == 0)
                continue;
            if (deadline <= now)
                return unlink_at(c, p);
            if (*ret_next == 0 || deadline < *ret_next)
                *ret_next = deadline;
        }
    }
    return NULL;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
    struct ttrpc_client *c = userdata;
    (void)source, (void)usec;
    c->refs++;
    c->timer_at = 0;
    uint64_t now = now_usec(), next = 0;
    struct ttrpc_call *call;
    while (!c->dead && (call = take_expired(c, now, &next))) {
        struct err err = ERR_INIT;
        err_set(&err, ETIMEDOUT, "no answer within %.3f s", (double)call->timeout / (double)USEC_PER_SEC);
        give_up(c, call->stream);
        finish_error(call, &err);
    }
    if (!c->dead && next != 0)
        timer_set(c, next);
    client_unref(c);
    return 0;
}

/* ---- responses ---- */

/* The status as an error; 0 if it says all is well. */
static int status_error(const Ttrpc__Status *status, struct err *err) {
    if (!status || status->code == TTRPC_OK)
        return 0;
    const char *message = status->message[0] ? status->message : "failed without a message";
    return err_set(err, ttrpc_code_to_errno(status->code), "%s", message);
}

static int on_frame(const struct ttrpc_header *h, const uint8_t *data, void *userdata, struct err *err) {
    struct ttrpc_client *c = userdata;
    if (h->type != TTRPC_RESPONSE)
        return err_set(err, EPROTO, "ttrpc: frame of type %u on stream %u where only responses belong", h->type,
                       h->stream);
    struct ttrpc_call *call = find_call(c, h->stream);
    if (!call) {
        if (was_given_up(c, h->stream))
            return 0;
        return err_set(err, EPROTO, "ttrpc: response on stream %u, where no call is under way", h->stream);
    }
    const char *service = call->service->name, *method = call->method->name;
    Ttrpc__Response *resp = (Ttrpc__Response *)wire_unpack(&ttrpc__response__descriptor, data, h->length);
    if (!resp)
        return err_set(err, EPROTO, "ttrpc: the response to %s/%s cannot be decoded", service, method);

    struct err status = ERR_INIT;
    int r = status_error(resp->status, &status);
    ProtobufCMessage *reply = NULL;
    if (r == 0)
        reply = wire_unpack(call->method->output, resp->payload.data, resp->payload.len);
    ttrpc__response__free_unpacked(resp, NULL);
    if (r == 0 && !reply)
        return err_set(err, EPROTO, "ttrpc: the response to %s/%s is no %s", service, method,
                       call->method->output->name);

    /* The peer's message is for the end user as it is. */
    unlink_call(call);
    finish(call, &reply, r < 0 ? &status : NULL);
    if (reply)
        protobuf_c_message_free_unpacked(reply, NULL);
    return c->dead ? -ECANCELED : 0;
}

/* ---- transport ---- */

static void on_ready(struct transport *t, void *userdata) {
    struct ttrpc_client *c = userdata;
    (void)t;
    if (c->ops && c->ops->ready)
        c->ops->ready(c, c->userdata);
}

static int on_data(struct transport *t, const uint8_t *buf, size_t len, void *userdata, struct err *err) {
    struct ttrpc_client *c = userdata;
    (void)t;
    c->refs++;
    int r = ttrpc_decoder_feed(&c->decoder, buf, len, on_frame, c, err);
    client_unref(c);
    return r;
}

static void on_drained(struct transport *t, void *userdata) {
    struct ttrpc_client *c = userdata;
    (void)t;
    outbox_push(&c->outbox);
}

static void on_closed(struct transport *t, const struct err *err, void *userdata) {
    struct ttrpc_client *c = userdata;
    struct err lost = *err;
    (void)t;
    c->refs++;
    c->closed = true;
    outbox_clear(&c->outbox);
    if (lost.code == 0) /* the peer's own decision, but not what the callers wanted */
        lost.code = ECONNRESET;
    fail_all(c, &lost);
    if (!c->dead && c->ops && c->ops->closed)
        c->ops->closed(c, err, c->userdata);
    client_unref(c);
}

static const struct transport_ops transport_ops = {
    .ready = on_ready, .data = on_data, .drained = on_drained, .closed = on_closed};

/* ---- interface ---- */

static struct ttrpc_client *client_alloc(sd_event *event, const struct ttrpc_client_ops *ops, void *userdata,
                                         struct err *err) {
    struct ttrpc_client *c = calloc(1, sizeof(*c));
    if (!c) {
        err_errno(err, ENOMEM, "ttrpc client");
        return NULL;
    }
    c->refs = 1;
    c->ops = ops;
    c->userdata = userdata;
    c->event = sd_event_ref(event);
    c->next_stream = 1;
    outbox_init(&c->outbox, NULL);
    /* Accuracy 1 µs: the default of 250 ms is longer than many deadlines. */
    int r = sd_event_add_time(event, &c->timer, CLOCK_MONOTONIC, UINT64_MAX, 1, on_timer, c);
    if (r >= 0)
        r = sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
    if (r < 0) {
        err_errno(err, -r, "ttrpc client: timer");
        return ttrpc_client_free(c);
    }
    return c;
}

int ttrpc_client_new_plain(sd_event *event, int fd, const struct ttrpc_client_ops *ops, void *userdata,
                           struct ttrpc_client **ret, struct err *err) {
    struct ttrpc_client *c = client_alloc(event, ops, userdata, err);
    if (!c) {
        fd_close(fd);
        return -ENOMEM;
    }
    int r = transport_new_plain(event, fd, &transport_ops, c, &c->transport, err);
    if (r < 0) {
        ttrpc_client_free(c);
        return r;
    }
    outbox_init(&c->outbox, c->transport);
    *ret = c;
    return 0;
}

int ttrpc_client_new_channel(sd_event *event, int fd, uint64_t sync_timeout_usec, const struct ttrpc_client_ops *ops,
                             void *userdata, struct ttrpc_client **ret, struct err *err) {
    struct ttrpc_client *c = client_alloc(event, ops, userdata, err);
    if (!c) {
        fd_close(fd);
        return -ENOMEM;
    }
    int r = transport_new_channel(event, fd, CHANNEL_HOST, sync_timeout_usec, &transport_ops, c, &c->transport, err);
    if (r < 0) {
        ttrpc_client_free(c);
        return r;
    }
    outbox_init(&c->outbox, c->transport);
    *ret = c;
    return 0;
}

struct ttrpc_client *ttrpc_client_free(struct ttrpc_client *c) {
    if (!c || c->dead)
        return NULL;
    c->dead = true;
    c->timer = sd_event_source_disable_unref(c->timer);
    c->transport = transport_free(c->transport);
    struct err err = ERR_INIT;
    err_set(&err, ECANCELED, "the connection was closed on this side");
    fail_all(c, &err);
    client_unref(c);
    return NULL;
}

bool ttrpc_client_is_ready(const struct ttrpc_client *c) {
    return !c->dead && !c->closed && transport_is_ready(c->transport);
}

bool ttrpc_client_is_closed(const struct ttrpc_client *c) {
    return c->closed;
}

/* Odd, rising, and after the largest again from 1 past those that still wait: a client lives as long as its VM, and a
 * stream of output takes a call for each piece. */
static uint32_t take_stream(struct ttrpc_client *c) {
    uint32_t stream;
    do {
        stream = c->next_stream;
        c->next_stream += 2;
    } while (find_call(c, stream));
    return stream;
}

static int start_call(struct ttrpc_client *c, struct ttrpc_call *call, const ProtobufCMessage *request, const int *fds,
                      size_t n_fds, struct err *err) {
    if (!ttrpc_client_is_ready(c)) {
        err_set(err, ENOTCONN, "not connected");
        return -ENOTCONN;
    }
    if (c->n_calls >= TTRPC_PENDING_MAX) {
        err_set(err, ENOBUFS, "%d calls are under way already", TTRPC_PENDING_MAX);
        return -ENOBUFS;
    }
    uint8_t *frame = NULL;
    size_t len = 0;
    call->stream = take_stream(c);
    int r =
        wire_request(call->stream, call->service->name, call->method->name, request, call->timeout, &frame, &len, err);
    if (r < 0)
        return r;
    r = outbox_send(&c->outbox, frame, len, fds, n_fds, err);
    if (r < 0)
        return r;
    link_call(c, call);
    if (call->deadline != 0)
        timer_set(c, call->deadline);
    return 0;
}

int ttrpc_client_call_fds(struct ttrpc_client *c, const ProtobufCServiceDescriptor *service, const char *method,
                          const ProtobufCMessage *request, const int *fds, size_t n_fds, uint64_t timeout_usec,
                          ttrpc_reply_fn fn, void *userdata, struct ttrpc_call **ret_call, struct err *err) {
    const ProtobufCMethodDescriptor *m = protobuf_c_service_descriptor_get_method_by_name(service, method);
    if (!m || request->descriptor != m->input)
        return err_set(err, EINVAL, "%s/%s: no such method for a %s", service->name, method, request->descriptor->name);
    struct ttrpc_call *call = calloc(1, sizeof(*call));
    if (!call)
        return err_errno(err, ENOMEM, "%s/%s", service->name, method);
    uint64_t now = now_usec();
    *call = (struct ttrpc_call){
        .client = c, .service = service, .method = m, .timeout = timeout_usec, .fn = fn, .userdata = userdata};
    if (timeout_usec != TTRPC_NO_DEADLINE && timeout_usec < UINT64_MAX - now)
        call->deadline = now + timeout_usec;
    int r = start_call(c, call, request, fds, n_fds, err);
    if (r < 0) {
        free(call);
        err_wrap(err, "%s/%s", service->name, method);
        return r;
    }
    if (ret_call)
        *ret_call = call;
    return 0;
}

int ttrpc_client_call(struct ttrpc_client *c, const ProtobufCServiceDescriptor *service, const char *method,
                      const ProtobufCMessage *request, uint64_t timeout_usec, ttrpc_reply_fn fn, void *userdata,
                      struct ttrpc_call **ret_call, struct err *err) {
    return ttrpc_client_call_fds(c, service, method, request, NULL, 0, timeout_usec, fn, userdata, ret_call, err);
}

void ttrpc_call_cancel(struct ttrpc_call *call) {
    if (!call)
        return;
    give_up(call->client, call->stream);
    unlink_call(call);
    free(call);
}

struct sync_call {
    bool done;
    ProtobufCMessage *reply;
    struct err err;
};

static void on_sync_reply(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct sync_call *s = userdata;
    s->done = true;
    if (err)
        s->err = *err;
    else
        s->reply = TAKE_PTR(*reply);
}

int ttrpc_client_call_sync(struct ttrpc_client *c, const ProtobufCServiceDescriptor *service, const char *method,
                           const ProtobufCMessage *request, const int *fds, size_t n_fds, uint64_t timeout_usec,
                           ProtobufCMessage **ret, struct err *err) {
    struct sync_call s = {.done = false};
    struct ttrpc_call *call = NULL;
    int r = ttrpc_client_call_fds(c, service, method, request, fds, n_fds, timeout_usec, on_sync_reply, &s, &call, err);
    if (r < 0)
        return r;
    /* The deadline is the call's: it ends the loop too. */
    sd_event *event = sd_event_ref(c->event);
    while (!s.done && r >= 0)
        r = sd_event_run(event, UINT64_MAX);
    sd_event_unref(event);
    if (!s.done) {
        ttrpc_call_cancel(call);
        return err_errno(err, -r, "%s/%s: event loop", service->name, method);
    }
    if (s.err.code != 0)
        return err_copy(err, &s.err);
    if (ret)
        *ret = s.reply;
    else
        protobuf_c_message_free_unpacked(s.reply, NULL);
    return 0;
}
