/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the server share: a server with a handler for each way to answer, and a raw client, which can ask
 * what no real one would. */
#pragma once

#include "support.h"

#include "proto/agent.pb-c.h"
#include "proto/ttrpc.pb-c.h"
#include "ttrpc/frame.h"
#include "ttrpc/server.h"
#include "ttrpc/status.h"

#define SERVICE (&stasis__agent__v1__agent__descriptor)

struct fixture {
    sd_event *event;
    struct ttrpc_server *server;
    int peer; /* raw end of a connection */
    struct ttrpc_request *held[TTRPC_SERVER_REQUESTS_MAX + 1];
    size_t n_held;
    size_t n_cancelled, n_sessions, n_disconnects;
    bool free_server_in_handler;
    int fd_taken;
    uint64_t deadline;
    int abandoned[4]; /* how often, by why */
    bool answer_abandoned;
};

/* Answers with what the client said, so that the test sees both ways. */
static inline void on_hello(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct fixture *f = userdata;
    const Stasis__Agent__V1__HelloRequest *hello = (const void *)in;
    Stasis__Agent__V1__HelloResponse out = STASIS__AGENT__V1__HELLO_RESPONSE__INIT;
    char text[64];
    f->deadline = ttrpc_request_deadline(req);
    snprintf(text, sizeof(text), "hello %.40s", hello->hostname);
    out.version = 7;
    out.agent_version = text;
    if (f->free_server_in_handler)
        f->server = ttrpc_server_free(f->server);
    ttrpc_reply(req, &out.base);
}

static inline void on_start(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const Stasis__Agent__V1__ContainerRequest *c = (const void *)in;
    struct err err = ERR_INIT;
    (void)userdata;
    err_set(&err, ENOENT, "container %s is not here", c->id);
    ttrpc_fail(req, &err);
}

static inline void on_cancel(struct ttrpc_request *req, void *userdata) {
    struct fixture *f = userdata;
    f->n_cancelled++;
    ttrpc_reply(req, NULL);
}

static inline void on_wait(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct fixture *f = userdata;
    (void)in;
    assert_true(f->n_held < ARRAY_SIZE(f->held));
    f->held[f->n_held++] = req;
    ttrpc_request_on_cancel(req, on_cancel, f);
}

static inline void on_abandoned(struct ttrpc_request *req, enum ttrpc_abandoned why, void *userdata) {
    struct fixture *f = userdata;
    struct err err = ERR_INIT;
    f->abandoned[why]++;
    err_set(&err, ECANCELED, "%s", ttrpc_abandoned_text(why));
    if (f->answer_abandoned)
        ttrpc_fail(req, &err);
}

static inline void on_signal(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct fixture *f = userdata;
    (void)in;
    f->held[f->n_held++] = req;
    assert_int_equal(ttrpc_request_on_abandoned(req, on_abandoned, f, NULL), 0);
}

/* Cancels what else was asked for on its connection. */
static inline void on_pause(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    (void)in;
    (void)userdata;
    ttrpc_request_cancel_others(req);
    ttrpc_reply(req, NULL);
}

static inline void on_shutdown(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct fixture *f = userdata;
    (void)in;
    f->fd_taken = ttrpc_request_take_fd(req);
    ttrpc_reply(req, NULL);
}

static inline void on_read(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const Stasis__Agent__V1__ReadRequest *r = (const void *)in;
    Stasis__Agent__V1__ReadResponse out = STASIS__AGENT__V1__READ_RESPONSE__INIT;
    (void)userdata;
    cleanup_free uint8_t *data = malloc(r->max);
    assert_non_null(data);
    memset(data, 'x', r->max);
    out.data.data = data;
    out.data.len = r->max;
    ttrpc_reply(req, &out.base);
}

static const struct ttrpc_service service = {
    .desc = SERVICE,
    .handlers = (const struct ttrpc_handler[]){{"Hello", on_hello},
                                               {"StartContainer", on_start},
                                               {"Wait", on_wait},
                                               {"Signal", on_signal},
                                               {"Pause", on_pause},
                                               {"Shutdown", on_shutdown},
                                               {"Read", on_read},
                                               {NULL, NULL}},
};

static inline void count(void *userdata) {
    (*(size_t *)userdata)++;
}

static inline int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = ERR_INIT;
    int fds[2];
    f->event = new_event();
    f->fd_taken = -1;
    assert_int_equal(ttrpc_server_new(f->event, &f->server, &err), 0);
    assert_int_equal(ttrpc_server_add(f->server, &service, f, &err), 0);
    ttrpc_server_on_session(f->server, count, &f->n_sessions);
    ttrpc_server_on_disconnect(f->server, count, &f->n_disconnects);
    new_pair(fds);
    f->peer = fds[0];
    assert_int_equal(ttrpc_server_add_plain(f->server, fds[1], &err), 0);
    *state = f;
    return 0;
}

static inline int teardown(void **state) {
    struct fixture *f = *state;
    ttrpc_server_free(f->server);
    fd_close(f->peer);
    fd_close(f->fd_taken);
    sd_event_unref(f->event);
    free(f);
    return 0;
}

/* ---- raw frames ---- */

static inline void send_frame(struct fixture *f, uint8_t type, uint32_t stream, const void *data, size_t len) {
    uint8_t header[TTRPC_HEADER_SIZE];
    struct ttrpc_header h = {.length = (uint32_t)len, .stream = stream, .type = type};
    ttrpc_header_encode(&h, header);
    assert_int_equal(fd_write_all(f->peer, header, sizeof(header)), 0);
    if (len > 0)
        assert_int_equal(fd_write_all(f->peer, data, len), 0);
}

static inline void send_request(struct fixture *f, uint32_t stream, const char *svc, const char *method,
                                const ProtobufCMessage *m, int64_t timeout_nano) {
    Ttrpc__Request req = TTRPC__REQUEST__INIT;
    uint8_t payload[4096], buf[8192];
    req.service = (char *)svc;
    req.method = (char *)method;
    req.timeout_nano = timeout_nano;
    if (m) {
        req.payload.data = payload;
        req.payload.len = protobuf_c_message_pack(m, payload);
    }
    send_frame(f, TTRPC_REQUEST, stream, buf, ttrpc__request__pack(&req, buf));
}

static inline void send_method(struct fixture *f, uint32_t stream, const char *method, const ProtobufCMessage *m) {
    send_request(f, stream, SERVICE->name, method, m, 0);
}

struct response {
    uint32_t stream;
    Ttrpc__Response *r;
    size_t frame_len;
};

/* Runs the loop until a whole response is there. */
static inline struct response get_response(struct fixture *f) {
    static uint8_t buf[TTRPC_HEADER_SIZE + TTRPC_DATA_MAX];
    size_t have = 0, want = TTRPC_HEADER_SIZE;
    struct ttrpc_header h = {0};
    while (have < want) {
        size_t n = 0;
        RUN_UNTIL(f->event, (n = read_now(f->peer, buf + have, want - have)) > 0);
        have += n;
        if (have == TTRPC_HEADER_SIZE && want == TTRPC_HEADER_SIZE) {
            ttrpc_header_decode(buf, &h);
            assert_int_equal(h.type, TTRPC_RESPONSE);
            want += h.length;
        }
    }
    struct response r = {.stream = h.stream, .frame_len = h.length};
    r.r = ttrpc__response__unpack(NULL, h.length, buf + TTRPC_HEADER_SIZE);
    assert_non_null(r.r);
    return r;
}

static inline void expect_failure(struct fixture *f, uint32_t stream, int code, const char *part) {
    struct response r = get_response(f);
    assert_int_equal(r.stream, stream);
    assert_non_null(r.r->status);
    assert_int_equal(r.r->status->code, code);
    const char *message = r.r->status->message;
    assert_non_null(message);
    if (!message || !strstr(message, part)) /* gcc does not know that the assertion above ends the test */
        fail_msg("\"%s\" is not in \"%s\"", part, message ? message : "");
    ttrpc__response__free_unpacked(r.r, NULL);
}

static inline void expect_success(struct fixture *f, uint32_t stream) {
    struct response r = get_response(f);
    assert_int_equal(r.stream, stream);
    assert_null(r.r->status);
    ttrpc__response__free_unpacked(r.r, NULL);
}

static inline void expect_cut_off(struct fixture *f) {
    RUN_UNTIL(f->event, f->n_disconnects == 1);
    assert_int_equal(ttrpc_server_connections(f->server), 0);
}
