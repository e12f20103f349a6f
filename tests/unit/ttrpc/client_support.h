/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the client share: a client, and a raw server, which can answer what no real one would. */
#pragma once

#include "support.h"

#include "proto/agent.pb-c.h"
#include "proto/ttrpc.pb-c.h"
#include "ttrpc/client.h"
#include "ttrpc/frame.h"

#define SERVICE (&stasis__agent__v1__agent__descriptor)

struct result {
    struct fixture *f;
    size_t n;
    struct result *again;     /* for a call started from within the callback */
    struct ttrpc_call *other; /* cancelled from within the callback */
    ProtobufCMessage **keep;  /* takes the reply */
    struct err err;
    uint32_t version; /* of a Hello's reply */
    int again_result;
    bool free_client; /* from within the callback */
};

struct fixture {
    sd_event *event;
    struct ttrpc_client *c;
    int peer;
    size_t n_ready, n_closed;
    struct err closed;
    bool free_in_closed;
    size_t order; /* results before closed() */
    struct result *watched;
};

static inline void on_ready(struct ttrpc_client *c, void *userdata) {
    struct fixture *f = userdata;
    assert_true(ttrpc_client_is_ready(c));
    f->n_ready++;
}

static inline void on_closed(struct ttrpc_client *c, const struct err *err, void *userdata) {
    struct fixture *f = userdata;
    assert_false(ttrpc_client_is_ready(c));
    f->n_closed++;
    f->closed = *err;
    if (f->watched)
        f->order = f->watched->n;
    if (f->free_in_closed)
        f->c = ttrpc_client_free(f->c);
}

static const struct ttrpc_client_ops ops = {.ready = on_ready, .closed = on_closed};

static inline int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = ERR_INIT;
    int fds[2];
    f->event = new_event();
    new_pair(fds);
    f->peer = fds[0];
    assert_int_equal(ttrpc_client_new_plain(f->event, fds[1], &ops, f, &f->c, &err), 0);
    *state = f;
    return 0;
}

static inline int teardown(void **state) {
    struct fixture *f = *state;
    ttrpc_client_free(f->c);
    fd_close(f->peer);
    sd_event_unref(f->event);
    free(f);
    return 0;
}

static inline int hello(struct fixture *f, uint64_t timeout, struct result *r, struct ttrpc_call **ret);

static inline void on_reply(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct result *r = userdata;
    r->n++;
    if (err) {
        assert_true(err->code > 0);
        assert_null(*reply);
        r->err = *err;
    } else {
        assert_non_null(*reply);
        if ((*reply)->descriptor == &stasis__agent__v1__hello_response__descriptor)
            r->version = ((Stasis__Agent__V1__HelloResponse *)*reply)->version;
        if (r->keep)
            *r->keep = TAKE_PTR(*reply);
    }
    ttrpc_call_cancel(TAKE_PTR(r->other));
    if (r->again)
        r->again_result = hello(r->f, 0, r->again, NULL);
    if (r->free_client)
        r->f->c = ttrpc_client_free(r->f->c);
}

static inline int hello(struct fixture *f, uint64_t timeout, struct result *r, struct ttrpc_call **ret) {
    Stasis__Agent__V1__HelloRequest m = STASIS__AGENT__V1__HELLO_REQUEST__INIT;
    r->f = f;
    return ttrpc_client_call(f->c, SERVICE, "Hello", &m.base, timeout, on_reply, r, ret, &r->err);
}

/* ---- the raw server ---- */

/* Takes the next request; only what was sent already. */
static inline Ttrpc__Request *take_request(struct fixture *f, uint32_t *ret_stream) {
    uint8_t header[TTRPC_HEADER_SIZE], data[4096];
    struct ttrpc_header h;
    assert_int_equal(read_now(f->peer, header, sizeof(header)), sizeof(header));
    ttrpc_header_decode(header, &h);
    assert_int_equal(h.type, TTRPC_REQUEST);
    assert_int_equal(h.flags, 0);
    assert_true(h.length <= sizeof(data));
    assert_int_equal(read_now(f->peer, data, h.length), h.length);
    Ttrpc__Request *req = ttrpc__request__unpack(NULL, h.length, data);
    assert_non_null(req);
    *ret_stream = h.stream;
    return req;
}

static inline void skip_request(struct fixture *f, uint32_t expected) {
    uint32_t stream = 0;
    ttrpc__request__free_unpacked(take_request(f, &stream), NULL);
    assert_int_equal(stream, expected);
}

static inline void put_frame(struct fixture *f, uint8_t type, uint32_t stream, const void *data, size_t len) {
    uint8_t buf[4096];
    struct ttrpc_header h = {.length = (uint32_t)len, .stream = stream, .type = type};
    assert_true(len <= sizeof(buf) - TTRPC_HEADER_SIZE);
    ttrpc_header_encode(&h, buf);
    if (len > 0)
        memcpy(buf + TTRPC_HEADER_SIZE, data, len);
    assert_int_equal(fd_write_all(f->peer, buf, TTRPC_HEADER_SIZE + len), 0);
}

static inline void put_hello(struct fixture *f, uint32_t stream, uint32_t version) {
    Stasis__Agent__V1__HelloResponse m = STASIS__AGENT__V1__HELLO_RESPONSE__INIT;
    Ttrpc__Response resp = TTRPC__RESPONSE__INIT;
    uint8_t payload[64], data[128];
    m.version = version;
    resp.payload.data = payload;
    resp.payload.len = protobuf_c_message_pack(&m.base, payload);
    put_frame(f, TTRPC_RESPONSE, stream, data, ttrpc__response__pack(&resp, data));
}

static inline void put_status(struct fixture *f, uint32_t stream, int32_t code, const char *message) {
    Ttrpc__Status status = TTRPC__STATUS__INIT;
    Ttrpc__Response resp = TTRPC__RESPONSE__INIT;
    uint8_t data[512];
    status.code = code;
    status.message = (char *)message;
    resp.status = &status;
    put_frame(f, TTRPC_RESPONSE, stream, data, ttrpc__response__pack(&resp, data));
}

static inline void expect_closed(struct fixture *f, int code, const char *part) {
    RUN_UNTIL(f->event, f->n_closed == 1);
    assert_int_equal(f->closed.code, code);
    if (!strstr(f->closed.msg, part))
        fail_msg("\"%s\" is not in \"%s\"", part, f->closed.msg);
    struct result r = {0};
    assert_int_equal(hello(f, 0, &r, NULL), -ENOTCONN);
    assert_int_equal(r.err.code, ENOTCONN);
    assert_non_null(strstr(r.err.msg, "Agent/Hello"));
}
