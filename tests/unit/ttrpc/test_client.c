/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <fcntl.h>

#include "proto/agent.pb-c.h"
#include "proto/ttrpc.pb-c.h"
#include "ttrpc/client.h"
#include "ttrpc/frame.h"
#include "ttrpc/packet.h"
#include "ttrpc/server.h"

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

static void on_ready(struct ttrpc_client *c, void *userdata) {
    struct fixture *f = userdata;
    assert_true(ttrpc_client_is_ready(c));
    f->n_ready++;
}

static void on_closed(struct ttrpc_client *c, const struct err *err, void *userdata) {
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

static int setup(void **state) {
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

static int teardown(void **state) {
    struct fixture *f = *state;
    ttrpc_client_free(f->c);
    fd_close(f->peer);
    sd_event_unref(f->event);
    free(f);
    return 0;
}

static int hello(struct fixture *f, uint64_t timeout, struct result *r, struct ttrpc_call **ret);

static void on_reply(void *userdata, ProtobufCMessage **reply, const struct err *err) {
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

static int hello(struct fixture *f, uint64_t timeout, struct result *r, struct ttrpc_call **ret) {
    Stasis__Agent__V1__HelloRequest m = STASIS__AGENT__V1__HELLO_REQUEST__INIT;
    r->f = f;
    return ttrpc_client_call(f->c, SERVICE, "Hello", &m.base, timeout, on_reply, r, ret, &r->err);
}

/* ---- the raw server ---- */

/* Takes the next request; only what was sent already. */
static Ttrpc__Request *take_request(struct fixture *f, uint32_t *ret_stream) {
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

static void skip_request(struct fixture *f, uint32_t expected) {
    uint32_t stream = 0;
    ttrpc__request__free_unpacked(take_request(f, &stream), NULL);
    assert_int_equal(stream, expected);
}

static void put_frame(struct fixture *f, uint8_t type, uint32_t stream, const void *data, size_t len) {
    uint8_t buf[4096];
    struct ttrpc_header h = {.length = (uint32_t)len, .stream = stream, .type = type};
    assert_true(len <= sizeof(buf) - TTRPC_HEADER_SIZE);
    ttrpc_header_encode(&h, buf);
    if (len > 0)
        memcpy(buf + TTRPC_HEADER_SIZE, data, len);
    assert_int_equal(fd_write_all(f->peer, buf, TTRPC_HEADER_SIZE + len), 0);
}

static void put_hello(struct fixture *f, uint32_t stream, uint32_t version) {
    Stasis__Agent__V1__HelloResponse m = STASIS__AGENT__V1__HELLO_RESPONSE__INIT;
    Ttrpc__Response resp = TTRPC__RESPONSE__INIT;
    uint8_t payload[64], data[128];
    m.version = version;
    resp.payload.data = payload;
    resp.payload.len = protobuf_c_message_pack(&m.base, payload);
    put_frame(f, TTRPC_RESPONSE, stream, data, ttrpc__response__pack(&resp, data));
}

static void put_status(struct fixture *f, uint32_t stream, int32_t code, const char *message) {
    Ttrpc__Status status = TTRPC__STATUS__INIT;
    Ttrpc__Response resp = TTRPC__RESPONSE__INIT;
    uint8_t data[512];
    status.code = code;
    status.message = (char *)message;
    resp.status = &status;
    put_frame(f, TTRPC_RESPONSE, stream, data, ttrpc__response__pack(&resp, data));
}

static void expect_closed(struct fixture *f, int code, const char *part) {
    RUN_UNTIL(f->event, f->n_closed == 1);
    assert_int_equal(f->closed.code, code);
    if (!strstr(f->closed.msg, part))
        fail_msg("\"%s\" is not in \"%s\"", part, f->closed.msg);
    struct result r = {0};
    assert_int_equal(hello(f, 0, &r, NULL), -ENOTCONN);
    assert_int_equal(r.err.code, ENOTCONN);
    assert_non_null(strstr(r.err.msg, "Agent/Hello"));
}

/* ---- calls and answers ---- */

static void request_on_the_wire(void **state) {
    struct fixture *f = *state;
    struct result r = {0};
    uint32_t stream = 0;
    assert_int_equal(hello(f, 1500 * USEC_PER_MSEC, &r, NULL), 0);
    Ttrpc__Request *req = take_request(f, &stream); /* no turn of the loop was needed */
    assert_int_equal(stream, 1);
    assert_string_equal(req->service, "stasis.agent.v1.Agent");
    assert_string_equal(req->method, "Hello");
    assert_int_equal(req->timeout_nano, 1500000000);
    assert_int_equal(req->payload.len, 0);
    ttrpc__request__free_unpacked(req, NULL);
    put_hello(f, 1, 4);
    assert_int_equal(r.n, 0);
    RUN_UNTIL(f->event, r.n == 1);
    assert_int_equal(r.version, 4);
    assert_int_equal(r.err.code, 0);
    assert_int_equal(f->n_ready, 1);
}

static void answers_in_any_order(void **state) {
    struct fixture *f = *state;
    struct result r[10] = {0};
    for (uint32_t i = 0; i < 10; i++) {
        assert_int_equal(hello(f, 0, &r[i], NULL), 0);
        skip_request(f, 2 * i + 1);
    }
    for (uint32_t i = 10; i > 0; i--) {
        put_hello(f, 2 * i - 1, i);
        RUN_UNTIL(f->event, r[i - 1].n == 1);
        assert_int_equal(r[i - 1].version, i);
    }
}

static void byte_at_a_time(void **state) {
    struct fixture *f = *state;
    struct result r = {0};
    uint8_t frame[] = {0, 0, 0, 4, 0, 0, 0, 1, TTRPC_RESPONSE, 0, 0x12, 2, 8, 42};
    assert_int_equal(hello(f, 0, &r, NULL), 0);
    for (size_t i = 0; i < sizeof(frame); i++) {
        assert_int_equal(r.n, 0);
        assert_int_equal(fd_write_all(f->peer, frame + i, 1), 0);
        run_idle(f->event);
    }
    assert_int_equal(r.n, 1);
    assert_int_equal(r.version, 42);
}

static void reply_can_be_kept(void **state) {
    struct fixture *f = *state;
    ProtobufCMessage *kept = NULL;
    struct result r = {.keep = &kept};
    assert_int_equal(hello(f, 0, &r, NULL), 0);
    put_hello(f, 1, 8);
    RUN_UNTIL(f->event, r.n == 1);
    assert_int_equal(((Stasis__Agent__V1__HelloResponse *)kept)->version, 8);
    protobuf_c_message_free_unpacked(kept, NULL);
}

static void status(void **state) {
    struct fixture *f = *state;
    static const struct {
        int32_t status;
        int code;
        const char *message, *want;
    } rows[] = {{5, ENOENT, "no such container", "no such container"},
                {12, ENOSYS, "nope", "nope"},
                {9, EBUSY, "", "without a message"},
                {-7, EIO, "odd", "odd"},
                {2, EIO, "bell \a", "bell ?"}};
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct result r = {0};
        assert_int_equal(hello(f, 0, &r, NULL), 0);
        put_status(f, (uint32_t)(2 * i + 1), rows[i].status, rows[i].message);
        RUN_UNTIL(f->event, r.n == 1);
        assert_int_equal(r.err.code, rows[i].code);
        assert_non_null(strstr(r.err.msg, rows[i].want));
    }
    struct result r = {0};
    assert_int_equal(hello(f, 0, &r, NULL), 0);
    put_status(f, 2 * ARRAY_SIZE(rows) + 1, 0, "all is well");
    RUN_UNTIL(f->event, r.n == 1);
    assert_int_equal(r.err.code, 0);
}

static void refused_calls(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    Stasis__Agent__V1__HelloRequest m = STASIS__AGENT__V1__HELLO_REQUEST__INIT;
    Stasis__Agent__V1__WriteRequest w = STASIS__AGENT__V1__WRITE_REQUEST__INIT;
    struct result r = {0};
    assert_int_equal(ttrpc_client_call(f->c, SERVICE, "Nothing", &m.base, 0, on_reply, &r, NULL, &err), -EINVAL);
    assert_non_null(strstr(err.msg, "Agent/Nothing"));
    assert_int_equal(ttrpc_client_call(f->c, SERVICE, "Write", &m.base, 0, on_reply, &r, NULL, &err), -EINVAL);
    w.data.len = TTRPC_DATA_MAX;
    w.data.data = calloc(1, w.data.len);
    assert_int_equal(ttrpc_client_call(f->c, SERVICE, "Write", &w.base, 0, on_reply, &r, NULL, &err), -EMSGSIZE);
    free(w.data.data);
    assert_int_equal(r.n, 0);
    assert_int_equal(hello(f, 0, &r, NULL), 0); /* no harm done */
    put_hello(f, 3, 1);                         /* the id of the one that was too large is not used again */
    RUN_UNTIL(f->event, r.n == 1);
    assert_int_equal(r.version, 1);
}

/* Thousands of open calls are no burden, one more than the bound is refused, and all end with the connection. */
static void pending_bound(void **state) {
    struct fixture *f = *state;
    static struct result r[TTRPC_PENDING_MAX + 1];
    static uint8_t in[1 << 16];
    memset(r, 0, sizeof(r));
    for (size_t i = 0; i < TTRPC_PENDING_MAX; i++) {
        assert_int_equal(hello(f, 0, &r[i], NULL), 0);
        (void)read_now(f->peer, in, sizeof(in));
    }
    assert_int_equal(hello(f, 0, &r[TTRPC_PENDING_MAX], NULL), -ENOBUFS);
    assert_int_equal(r[TTRPC_PENDING_MAX].n, 0);
    put_hello(f, 5001, 6);
    RUN_UNTIL(f->event, r[2500].n == 1);
    assert_int_equal(r[2500].version, 6);
    f->peer = fd_close(f->peer);
    RUN_UNTIL(f->event, f->n_closed == 1);
    for (size_t i = 0; i < TTRPC_PENDING_MAX; i++)
        assert_int_equal(r[i].n, 1);
}

static void send_bound(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct result r = {0};
    Stasis__Agent__V1__WriteRequest w = STASIS__AGENT__V1__WRITE_REQUEST__INIT;
    w.data.len = 1 << 20;
    w.data.data = calloc(1, w.data.len);
    size_t sent = 0;
    int result;
    while ((result = ttrpc_client_call(f->c, SERVICE, "Write", &w.base, 0, on_reply, &r, NULL, &err)) == 0)
        assert_true(++sent < 64);
    assert_int_equal(result, -ENOBUFS);
    free(w.data.data);
    f->c = ttrpc_client_free(f->c);
    assert_int_equal(r.n, sent);
}

/* ---- deadlines and cancelling ---- */

static void timeouts(void **state) {
    struct fixture *f = *state;
    struct result fast = {0}, slow = {0}, never = {0};
    uint64_t start = now_usec();
    assert_int_equal(hello(f, 0, &never, NULL), 0);
    assert_int_equal(hello(f, 60 * USEC_PER_MSEC, &slow, NULL), 0);
    assert_int_equal(hello(f, 20 * USEC_PER_MSEC, &fast, NULL), 0); /* earlier than the one before */
    RUN_UNTIL(f->event, fast.n == 1);
    assert_true(now_usec() - start >= 20 * USEC_PER_MSEC);
    assert_int_equal(slow.n, 0);
    assert_int_equal(fast.err.code, ETIMEDOUT);
    assert_non_null(strstr(fast.err.msg, "stasis.agent.v1.Agent/Hello"));
    RUN_UNTIL(f->event, slow.n == 1);
    assert_true(now_usec() - start >= 60 * USEC_PER_MSEC);
    assert_int_equal(slow.err.code, ETIMEDOUT);
    /* Late answers are dropped, once each; the rest goes on. */
    put_hello(f, 3, 1);
    put_hello(f, 5, 1);
    put_hello(f, 1, 9);
    RUN_UNTIL(f->event, never.n == 1);
    assert_int_equal(never.version, 9);
    assert_int_equal(f->n_closed, 0);
    assert_int_equal(fast.n + slow.n, 2);
}

static void timeout_of_many(void **state) {
    struct fixture *f = *state;
    static struct result r[1000];
    static uint8_t in[1 << 16];
    memset(r, 0, sizeof(r));
    for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
        assert_int_equal(hello(f, (10 + i % 50) * USEC_PER_MSEC, &r[i], NULL), 0);
        (void)read_now(f->peer, in, sizeof(in));
    }
    RUN_UNTIL(f->event, r[999].n == 1 && r[49].n == 1);
    for (size_t i = 0; i < ARRAY_SIZE(r); i++)
        RUN_UNTIL(f->event, r[i].n == 1 && r[i].err.code == ETIMEDOUT);
}

static void cancel(void **state) {
    struct fixture *f = *state;
    struct result a = {0}, b = {0};
    struct ttrpc_call *call = NULL;
    assert_int_equal(hello(f, 10 * USEC_PER_MSEC, &a, &call), 0);
    assert_int_equal(hello(f, 0, &b, NULL), 0);
    ttrpc_call_cancel(call);
    ttrpc_call_cancel(NULL);
    put_hello(f, 1, 1);
    put_hello(f, 3, 2);
    RUN_UNTIL(f->event, b.n == 1);
    assert_int_equal(a.n, 0);
    put_hello(f, 1, 1); /* the second is one too many */
    expect_closed(f, EPROTO, "stream 1");
}

/* What is remembered of cancelled calls is bounded: the oldest go first. */
static void cancelled_are_forgotten(void **state) {
    struct fixture *f = *state;
    struct result r = {0};
    static uint8_t in[1 << 16];
    enum { MANY = 5000 };
    for (size_t i = 0; i < MANY; i++) {
        struct ttrpc_call *call = NULL;
        assert_int_equal(hello(f, 0, &r, &call), 0);
        ttrpc_call_cancel(call);
        (void)read_now(f->peer, in, sizeof(in));
    }
    put_hello(f, 2 * MANY - 1, 1);
    put_hello(f, 2 * MANY - 2 * 4096 + 1, 1);
    run_idle(f->event);
    assert_int_equal(f->n_closed, 0);
    put_hello(f, 1, 1);
    expect_closed(f, EPROTO, "stream 1");
}

/* ---- protocol errors ---- */

static void wrong_answers(void **state) {
    (void)state;
    static const struct {
        uint8_t type;
        uint32_t stream;
        const char *data;
        size_t len;
        const char *part;
    } rows[] = {
        {TTRPC_RESPONSE, 3, "", 0, "stream 3"},              /* never asked for */
        {TTRPC_RESPONSE, 0, "", 0, "stream 0"},              /* 0 is what free slots hold */
        {TTRPC_REQUEST, 1, "", 0, "type 1"},                 /* of the wrong type */
        {TTRPC_DATA, 1, "", 0, "type 3"},                    /* of the wrong type */
        {99, 1, "", 0, "type 99"},                           /* of no type */
        {TTRPC_RESPONSE, 1, "\xff", 1, "Agent/Hello"},       /* no response */
        {TTRPC_RESPONSE, 1, "\x12\x02\x12\x7f", 4, "Hello"}, /* no HelloResponse */
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct fixture *f;
        setup((void **)&f);
        struct result r = {0}, cancelled = {0};
        struct ttrpc_call *call = NULL;
        f->watched = &r;
        assert_int_equal(hello(f, 0, &r, NULL), 0);
        if (i != 0) {
            assert_int_equal(hello(f, 0, &cancelled, &call), 0);
            ttrpc_call_cancel(call);
        }
        put_frame(f, rows[i].type, rows[i].stream, rows[i].data, rows[i].len);
        expect_closed(f, EPROTO, rows[i].part);
        assert_int_equal(r.n, 1);
        assert_int_equal(f->order, 1); /* before closed() */
        assert_int_equal(r.err.code, EPROTO);
        assert_true(has_ended(f->peer) || recv(f->peer, &i, 0, MSG_DONTWAIT) <= 0);
        teardown((void **)&f);
    }
}

static void answered_twice(void **state) {
    struct fixture *f = *state;
    struct result r = {0};
    assert_int_equal(hello(f, 0, &r, NULL), 0);
    put_hello(f, 1, 1);
    put_hello(f, 1, 2);
    expect_closed(f, EPROTO, "stream 1");
    assert_int_equal(r.n, 1);
    assert_int_equal(r.version, 1);
}

static void too_long(void **state) {
    struct fixture *f = *state;
    struct result r = {0};
    struct ttrpc_header h = {.length = TTRPC_DATA_MAX + 1, .stream = 1, .type = TTRPC_RESPONSE};
    uint8_t header[TTRPC_HEADER_SIZE];
    assert_int_equal(hello(f, 0, &r, NULL), 0);
    ttrpc_header_encode(&h, header);
    assert_int_equal(fd_write_all(f->peer, header, sizeof(header)), 0);
    expect_closed(f, EMSGSIZE, "4194305");
    assert_int_equal(r.err.code, EMSGSIZE);
}

static void peer_gone(void **state) {
    struct fixture *f = *state;
    struct result r = {0};
    assert_int_equal(hello(f, 0, &r, NULL), 0);
    f->peer = fd_close(f->peer);
    expect_closed(f, 0, "");
    assert_int_equal(r.n, 1);
    assert_int_equal(r.err.code, ECONNRESET);
    assert_non_null(strstr(r.err.msg, "Agent/Hello"));
}

/* ---- inside callbacks ---- */

static void call_inside(void **state) {
    struct fixture *f = *state;
    struct result second = {0}, first = {.again = &second};
    assert_int_equal(hello(f, 0, &first, NULL), 0);
    put_hello(f, 1, 1);
    RUN_UNTIL(f->event, first.n == 1);
    assert_int_equal(first.again_result, 0);
    put_hello(f, 3, 2);
    RUN_UNTIL(f->event, second.n == 1);
    /* When the connection is over the call is refused, and the loop over the rest goes on. */
    struct result never = {0}, a = {.again = &never}, b = {0};
    assert_int_equal(hello(f, 0, &a, NULL), 0);
    assert_int_equal(hello(f, 0, &b, NULL), 0);
    f->peer = fd_close(f->peer);
    RUN_UNTIL(f->event, f->n_closed == 1);
    assert_int_equal(a.n + b.n, 2);
    assert_int_equal(a.again_result, -ENOTCONN);
    assert_int_equal(never.n, 0);
}

static void cancel_inside(void **state) {
    struct fixture *f = *state;
    struct result a = {0}, b = {0};
    assert_int_equal(hello(f, 0, &a, NULL), 0);
    assert_int_equal(hello(f, 0, &b, &a.other), 0);
    f->peer = fd_close(f->peer);
    RUN_UNTIL(f->event, f->n_closed == 1);
    assert_int_equal(a.n, 1);
    assert_int_equal(b.n, 0);
}

enum way { BY_REPLY, BY_STATUS, BY_TIMEOUT, BY_CLOSE };

static void free_inside(void **state) {
    (void)state;
    for (enum way way = BY_REPLY; way <= BY_CLOSE; way++) {
        struct fixture *f;
        setup((void **)&f);
        struct result a = {.free_client = true}, b = {0};
        assert_int_equal(hello(f, way == BY_TIMEOUT ? 1 : 0, &a, NULL), 0);
        assert_int_equal(hello(f, way == BY_TIMEOUT ? 1 : 0, &b, NULL), 0);
        if (way == BY_REPLY)
            put_hello(f, 1, 1);
        else if (way == BY_STATUS)
            put_status(f, 1, 5, "x");
        else if (way == BY_CLOSE)
            f->peer = fd_close(f->peer);
        if (way <= BY_STATUS)
            put_hello(f, 3, 1);
        RUN_UNTIL(f->event, a.n == 1);
        assert_null(f->c);
        assert_int_equal(b.n, 1); /* failed while the client was freed */
        assert_true(b.err.code == ECANCELED || b.err.code == ECONNRESET);
        run_idle(f->event);
        assert_int_equal(f->n_closed, 0);
        teardown((void **)&f);
    }
}

static void free_in_closed(void **state) {
    struct fixture *f = *state;
    f->free_in_closed = true;
    f->peer = fd_close(f->peer);
    RUN_UNTIL(f->event, f->n_closed == 1);
    assert_null(f->c);
    run_idle(f->event);
}

static void freed_calls_fail(void **state) {
    struct fixture *f = *state;
    struct result r = {0};
    assert_int_equal(hello(f, 0, &r, NULL), 0);
    f->c = ttrpc_client_free(f->c);
    assert_int_equal(r.n, 1);
    assert_int_equal(r.err.code, ECANCELED);
    assert_int_equal(f->n_closed, 0);
}

/* ---- against the real server ---- */

static void serve_hello(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    Stasis__Agent__V1__HelloResponse out = STASIS__AGENT__V1__HELLO_RESPONSE__INIT;
    size_t *n = userdata;
    (void)in;
    out.version = (uint32_t)++ * n;
    ttrpc_reply(req, &out.base);
}

static void serve_wait(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct err err = ERR_INIT;
    (void)in, (void)userdata;
    int fd = ttrpc_request_take_fd(req);
    if (fd < 0) {
        err_set(&err, ENOENT, "no fd came");
        ttrpc_fail(req, &err);
        return;
    }
    assert_int_equal(fd_write_all(fd, "x", 1), 0);
    fd_close(fd);
    ttrpc_reply(req, NULL);
}

static void on_cancel(struct ttrpc_request *req, void *userdata) {
    (void)userdata;
    ttrpc_fail(req, NULL);
}

static void serve_never(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    (void)in, (void)userdata;
    ttrpc_request_on_cancel(req, on_cancel, NULL);
}

static const struct ttrpc_service service = {
    .desc = SERVICE,
    .handlers =
        (const struct ttrpc_handler[]){
            {"Hello", serve_hello}, {"Shutdown", serve_wait}, {"Wait", serve_never}, {NULL, NULL}},
};

static void end_to_end(bool channel) {
    sd_event *event = new_event();
    struct err err = ERR_INIT;
    struct ttrpc_server *s = NULL;
    struct ttrpc_client *c = NULL;
    Stasis__Agent__V1__HelloRequest m = STASIS__AGENT__V1__HELLO_REQUEST__INIT;
    Stasis__Agent__V1__Empty empty = STASIS__AGENT__V1__EMPTY__INIT;
    Stasis__Agent__V1__ProcessId id = STASIS__AGENT__V1__PROCESS_ID__INIT;
    Stasis__Agent__V1__ContainerRequest container = STASIS__AGENT__V1__CONTAINER_REQUEST__INIT;
    size_t n = 0;
    int fds[2], pipes[2];
    char b = 0;
    new_pair(fds);
    assert_int_equal(ttrpc_server_new(event, &s, &err), 0);
    assert_int_equal(ttrpc_server_add(s, &service, &n, &err), 0);
    if (channel) {
        assert_int_equal(ttrpc_server_add_channel(s, fds[0], &err), 0);
        assert_int_equal(ttrpc_client_new_channel(event, fds[1], TEST_DEADLINE, NULL, NULL, &c, &err), 0);
        assert_int_equal(ttrpc_client_call_sync(c, SERVICE, "Hello", &m.base, NULL, 0, 0, NULL, &err), -ENOTCONN);
        RUN_UNTIL(event, ttrpc_client_is_ready(c));
    } else {
        assert_int_equal(ttrpc_server_add_plain(s, fds[0], &err), 0);
        assert_int_equal(ttrpc_client_new_plain(event, fds[1], NULL, NULL, &c, &err), 0);
    }
    for (uint32_t i = 1; i <= 100; i++) {
        ProtobufCMessage *reply = NULL;
        assert_int_equal(ttrpc_client_call_sync(c, SERVICE, "Hello", &m.base, NULL, 0, TEST_DEADLINE, &reply, &err), 0);
        assert_int_equal(((Stasis__Agent__V1__HelloResponse *)reply)->version, i);
        protobuf_c_message_free_unpacked(reply, NULL);
    }
    assert_int_equal(ttrpc_client_call_sync(c, SERVICE, "Stats", &container.base, NULL, 0, TEST_DEADLINE, NULL, &err),
                     -ENOSYS);
    assert_non_null(strstr(err.msg, "stasis.agent.v1.Agent/Stats"));
    assert_int_equal(ttrpc_client_call_sync(c, SERVICE, "Wait", &id.base, NULL, 0, 20 * USEC_PER_MSEC, NULL, &err),
                     -ETIMEDOUT);

    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_int_equal(
        ttrpc_client_call_sync(c, SERVICE, "Shutdown", &empty.base, &pipes[1], 1, TEST_DEADLINE, NULL, &err),
        channel ? -EOPNOTSUPP : 0);
    if (!channel)
        assert_int_equal(read(pipes[0], &b, 1), 1);
    assert_int_equal(ttrpc_client_call_sync(c, SERVICE, "Shutdown", &empty.base, NULL, 0, TEST_DEADLINE, NULL, &err),
                     -ENOENT);
    assert_string_equal(err.msg, "no fd came");
    fd_close(pipes[0]);
    fd_close(pipes[1]);
    ttrpc_client_free(c);
    ttrpc_server_free(s);
    sd_event_unref(event);
}

static void end_to_end_plain(void **state) {
    (void)state;
    end_to_end(false);
}

static void end_to_end_channel(void **state) {
    (void)state;
    end_to_end(true);
}

/* The guest ends the session (or the VM its channel): pending calls fail at once. */
static void channel_lost(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct result r = {0};
    uint8_t p[PACKET_SYNC_SIZE];
    struct packet_header h;
    int fds[2];
    ttrpc_client_free(f->c);
    fd_close(f->peer);
    new_pair(fds);
    f->peer = fds[0];
    f->n_ready = 0;
    assert_int_equal(ttrpc_client_new_channel(f->event, fds[1], TEST_DEADLINE, &ops, f, &f->c, &err), 0);
    assert_int_equal(read_now(f->peer, p, sizeof(p)), sizeof(p));
    assert_true(packet_read_header(p, &h));
    packet_write_version(p, PACKET_ACK, h.session);
    assert_int_equal(fd_write_all(f->peer, p, sizeof(p)), 0);
    RUN_UNTIL(f->event, f->n_ready == 1);
    assert_int_equal(hello(f, 0, &r, NULL), 0);
    packet_write(p, PACKET_RESET, h.session, NULL, 0);
    assert_int_equal(fd_write_all(f->peer, p, PACKET_OVERHEAD), 0);
    expect_closed(f, ECONNRESET, "ended the session");
    assert_int_equal(r.err.code, ECONNRESET);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(request_on_the_wire),
        TEST(answers_in_any_order),
        TEST(byte_at_a_time),
        TEST(reply_can_be_kept),
        TEST(status),
        TEST(refused_calls),
        TEST(pending_bound),
        TEST(send_bound),
        TEST(timeouts),
        TEST(timeout_of_many),
        TEST(cancel),
        TEST(cancelled_are_forgotten),
        cmocka_unit_test(wrong_answers),
        TEST(answered_twice),
        TEST(too_long),
        TEST(peer_gone),
        TEST(call_inside),
        TEST(cancel_inside),
        cmocka_unit_test(free_inside),
        TEST(free_in_closed),
        TEST(freed_calls_fail),
        cmocka_unit_test(end_to_end_plain),
        cmocka_unit_test(end_to_end_channel),
        TEST(channel_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
