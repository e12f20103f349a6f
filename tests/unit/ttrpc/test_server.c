/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <fcntl.h>

#include "proto/agent.pb-c.h"
#include "proto/ttrpc.pb-c.h"
#include "ttrpc/client.h"
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
};

/* Answers with what the client said, so that the test sees both ways. */
static void on_hello(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
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

static void on_start(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const Stasis__Agent__V1__ContainerRequest *c = (const void *)in;
    struct err err = ERR_INIT;
    (void)userdata;
    err_set(&err, ENOENT, "container %s is not here", c->id);
    ttrpc_fail(req, &err);
}

static void on_cancel(struct ttrpc_request *req, void *userdata) {
    struct fixture *f = userdata;
    f->n_cancelled++;
    ttrpc_reply(req, NULL);
}

static void on_wait(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct fixture *f = userdata;
    (void)in;
    assert_true(f->n_held < ARRAY_SIZE(f->held));
    f->held[f->n_held++] = req;
    ttrpc_request_on_cancel(req, on_cancel, f);
}

static void on_shutdown(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct fixture *f = userdata;
    (void)in;
    f->fd_taken = ttrpc_request_take_fd(req);
    ttrpc_reply(req, NULL);
}

static void on_read(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
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
                                               {"Shutdown", on_shutdown},
                                               {"Read", on_read},
                                               {NULL, NULL}},
};

static void count(void *userdata) {
    (*(size_t *)userdata)++;
}

static int setup(void **state) {
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

static int teardown(void **state) {
    struct fixture *f = *state;
    ttrpc_server_free(f->server);
    fd_close(f->peer);
    fd_close(f->fd_taken);
    sd_event_unref(f->event);
    free(f);
    return 0;
}

/* ---- raw frames ---- */

static void send_frame(struct fixture *f, uint8_t type, uint32_t stream, const void *data, size_t len) {
    uint8_t header[TTRPC_HEADER_SIZE];
    struct ttrpc_header h = {.length = (uint32_t)len, .stream = stream, .type = type};
    ttrpc_header_encode(&h, header);
    assert_int_equal(fd_write_all(f->peer, header, sizeof(header)), 0);
    if (len > 0)
        assert_int_equal(fd_write_all(f->peer, data, len), 0);
}

static void send_request(struct fixture *f, uint32_t stream, const char *svc, const char *method,
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

static void send_method(struct fixture *f, uint32_t stream, const char *method, const ProtobufCMessage *m) {
    send_request(f, stream, SERVICE->name, method, m, 0);
}

struct response {
    uint32_t stream;
    Ttrpc__Response *r;
    size_t frame_len;
};

/* Runs the loop until a whole response is there. */
static struct response get_response(struct fixture *f) {
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

static void expect_failure(struct fixture *f, uint32_t stream, int code, const char *part) {
    struct response r = get_response(f);
    assert_int_equal(r.stream, stream);
    assert_non_null(r.r->status);
    assert_int_equal(r.r->status->code, code);
    if (!strstr(r.r->status->message, part))
        fail_msg("\"%s\" is not in \"%s\"", part, r.r->status->message);
    ttrpc__response__free_unpacked(r.r, NULL);
}

static void expect_success(struct fixture *f, uint32_t stream) {
    struct response r = get_response(f);
    assert_int_equal(r.stream, stream);
    assert_null(r.r->status);
    ttrpc__response__free_unpacked(r.r, NULL);
}

/* ---- tests ---- */

static void answers(void **state) {
    struct fixture *f = *state;
    Stasis__Agent__V1__HelloRequest hello = STASIS__AGENT__V1__HELLO_REQUEST__INIT;
    hello.hostname = (char *)"guest";
    send_request(f, 1, SERVICE->name, "Hello", &hello.base, 2 * INT64_C(1000000000));
    struct response r = get_response(f);
    assert_int_equal(r.stream, 1);
    assert_null(r.r->status);
    Stasis__Agent__V1__HelloResponse *out =
        stasis__agent__v1__hello_response__unpack(NULL, r.r->payload.len, r.r->payload.data);
    assert_non_null(out);
    assert_int_equal(out->version, 7);
    assert_string_equal(out->agent_version, "hello guest");
    stasis__agent__v1__hello_response__free_unpacked(out, NULL);
    ttrpc__response__free_unpacked(r.r, NULL);
    assert_in_range(f->deadline, now_usec(), now_usec() + 2 * USEC_PER_SEC);
}

static void status_from_err(void **state) {
    struct fixture *f = *state;
    Stasis__Agent__V1__ContainerRequest c = STASIS__AGENT__V1__CONTAINER_REQUEST__INIT;
    c.id = (char *)"web";
    send_method(f, 1, "StartContainer", &c.base);
    expect_failure(f, 1, TTRPC_NOT_FOUND, "container web is not here");
}

static void empty_reply(void **state) {
    struct fixture *f = *state;
    send_method(f, 1, "Shutdown", NULL);
    struct response r = get_response(f);
    assert_int_equal(r.frame_len, 0);
    ttrpc__response__free_unpacked(r.r, NULL);
}

static void unimplemented(void **state) {
    struct fixture *f = *state;
    send_request(f, 1, "no.Such", "Hello", NULL, 0);
    expect_failure(f, 1, TTRPC_UNIMPLEMENTED, "no.Such/Hello");
    send_method(f, 3, "Bogus", NULL);
    expect_failure(f, 3, TTRPC_UNIMPLEMENTED, "stasis.agent.v1.Agent/Bogus");
    send_method(f, 5, "Resize", NULL); /* in the descriptor, without a handler */
    expect_failure(f, 5, TTRPC_UNIMPLEMENTED, "stasis.agent.v1.Agent/Resize");
    send_request(f, 7, "", "", NULL, 0);
    expect_failure(f, 7, TTRPC_UNIMPLEMENTED, "no such service");
    char name[3000];
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    send_request(f, 9, name, name, NULL, 0);
    expect_failure(f, 9, TTRPC_UNIMPLEMENTED, "nnn/nnn");
}

static void undecodable(void **state) {
    struct fixture *f = *state;
    send_frame(f, TTRPC_REQUEST, 1, "\xff\xff", 2);
    expect_failure(f, 1, TTRPC_INVALID_ARGUMENT, "decoded");
    send_frame(f, TTRPC_REQUEST, 3, NULL, 0); /* valid: empty names */
    expect_failure(f, 3, TTRPC_UNIMPLEMENTED, "");

    Ttrpc__Request req = TTRPC__REQUEST__INIT;
    uint8_t buf[256];
    req.service = (char *)SERVICE->name;
    req.method = (char *)"Hello";
    req.payload.data = (uint8_t *)"\x12\x7f";
    req.payload.len = 2;
    send_frame(f, TTRPC_REQUEST, 5, buf, ttrpc__request__pack(&req, buf));
    expect_failure(f, 5, TTRPC_INVALID_ARGUMENT, "HelloRequest");
}

static void stream_ids(void **state) {
    struct fixture *f = *state;
    send_method(f, 2, "Shutdown", NULL);
    expect_failure(f, 2, TTRPC_INVALID_ARGUMENT, "odd");
    send_method(f, 5, "Shutdown", NULL);
    expect_success(f, 5);
    static const uint32_t bad[] = {5, 3, 1, 0, 4};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        send_method(f, bad[i], "Shutdown", NULL);
        expect_failure(f, bad[i], TTRPC_INVALID_ARGUMENT, "rise");
    }
    /* After the largest they begin again. */
    static const uint32_t good[] = {0x7fffffff, 0xfffffffd, 0xffffffff, 1, 3};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        send_method(f, good[i], "Shutdown", NULL);
        expect_success(f, good[i]);
    }
}

static void expect_cut_off(struct fixture *f) {
    RUN_UNTIL(f->event, f->n_disconnects == 1);
    assert_int_equal(ttrpc_server_connections(f->server), 0);
}

static void wrong_type(void **state) {
    struct fixture *f = *state;
    send_frame(f, TTRPC_DATA, 1, "late data of a stream we refused", 10);
    send_method(f, 1, "Shutdown", NULL);
    expect_success(f, 1);
    send_frame(f, TTRPC_RESPONSE, 3, NULL, 0);
    expect_cut_off(f);
    assert_true(has_ended(f->peer));
}

static void too_long(void **state) {
    struct fixture *f = *state;
    struct ttrpc_header h = {.length = UINT32_MAX, .stream = 1, .type = TTRPC_REQUEST};
    uint8_t header[TTRPC_HEADER_SIZE];
    ttrpc_header_encode(&h, header);
    assert_int_equal(fd_write_all(f->peer, header, sizeof(header)), 0);
    expect_cut_off(f);
}

/* A request that stays open delays no other, and is answered when its time comes. */
static void late_answers(void **state) {
    struct fixture *f = *state;
    for (uint32_t i = 0; i < 10; i++)
        send_method(f, 2 * i + 1, "Wait", NULL);
    RUN_UNTIL(f->event, f->n_held == 10);
    send_method(f, 21, "Shutdown", NULL);
    expect_success(f, 21);
    for (size_t i = 10; i > 0; i--) {
        ttrpc_reply(f->held[i - 1], NULL);
        expect_success(f, (uint32_t)(2 * i - 1));
    }
    assert_int_equal(f->n_cancelled, 0);
}

/* Half a request, then silence: others are served meanwhile. */
static void truncated_blocks_nobody(void **state) {
    struct fixture *f = *state;
    int fds[2], first = f->peer;
    struct err err = ERR_INIT;
    struct ttrpc_header h = {.length = 1000, .stream = 1, .type = TTRPC_REQUEST};
    uint8_t part[TTRPC_HEADER_SIZE + 20] = {0};
    ttrpc_header_encode(&h, part);
    assert_int_equal(fd_write_all(first, part, sizeof(part)), 0);
    run_idle(f->event);
    new_pair(fds);
    assert_int_equal(ttrpc_server_add_plain(f->server, fds[1], &err), 0);
    f->peer = fds[0];
    send_method(f, 1, "Shutdown", NULL);
    expect_success(f, 1);
    assert_int_equal(ttrpc_server_connections(f->server), 2);
    fd_close(first);
}

static void too_many_requests(void **state) {
    struct fixture *f = *state;
    for (uint32_t i = 0; i < TTRPC_SERVER_REQUESTS_MAX; i++) {
        send_method(f, 2 * i + 1, "Wait", NULL);
        if (i % 64 == 63)
            RUN_UNTIL(f->event, f->n_held == i + 1);
    }
    uint32_t next = 2 * TTRPC_SERVER_REQUESTS_MAX + 1;
    send_method(f, next, "Shutdown", NULL);
    expect_failure(f, next, TTRPC_RESOURCE_EXHAUSTED, "too many");
    ttrpc_reply(f->held[0], NULL);
    expect_success(f, 1);
    send_method(f, next + 2, "Shutdown", NULL);
    expect_success(f, next + 2);
    f->peer = fd_close(f->peer);
    RUN_UNTIL(f->event, f->n_cancelled == TTRPC_SERVER_REQUESTS_MAX - 1);
}

static void cancelled_when_the_peer_goes(void **state) {
    struct fixture *f = *state;
    send_method(f, 1, "Wait", NULL);
    send_method(f, 3, "Wait", NULL);
    RUN_UNTIL(f->event, f->n_held == 2);
    ttrpc_request_on_cancel(f->held[1], NULL, NULL);
    f->peer = fd_close(f->peer);
    expect_cut_off(f);
    assert_int_equal(f->n_cancelled, 1);
    /* Without the callback the request lives on; the answer goes nowhere. */
    assert_int_equal(ttrpc_request_take_fd(f->held[1]), -ENOENT);
    ttrpc_fail(f->held[1], NULL);
}

static void server_freed_with_requests(void **state) {
    struct fixture *f = *state;
    send_method(f, 1, "Wait", NULL);
    RUN_UNTIL(f->event, f->n_held == 1);
    f->server = ttrpc_server_free(f->server);
    assert_int_equal(f->n_cancelled, 1);
    assert_true(has_ended(f->peer));
    run_idle(f->event);
}

static void server_freed_in_handler(void **state) {
    struct fixture *f = *state;
    f->free_server_in_handler = true;
    Stasis__Agent__V1__HelloRequest hello = STASIS__AGENT__V1__HELLO_REQUEST__INIT;
    send_method(f, 1, "Hello", &hello.base);
    send_method(f, 3, "Shutdown", NULL);
    RUN_UNTIL(f->event, !f->server);
    run_idle(f->event);
    assert_int_equal(f->n_disconnects, 0);
}

static void reply_too_large(void **state) {
    struct fixture *f = *state;
    Stasis__Agent__V1__ReadRequest r = STASIS__AGENT__V1__READ_REQUEST__INIT;
    r.max = TTRPC_DATA_MAX;
    send_method(f, 1, "Read", &r.base);
    expect_failure(f, 1, TTRPC_RESOURCE_EXHAUSTED, "Read");
    r.max = TTRPC_DATA_MAX - 100;
    send_method(f, 3, "Read", &r.base);
    expect_success(f, 3);
}

/* Many large answers at once are more than the transport's queue: all arrive. */
static void many_large_replies(void **state) {
    struct fixture *f = *state;
    Stasis__Agent__V1__ReadRequest r = STASIS__AGENT__V1__READ_REQUEST__INIT;
    r.max = 1 << 20;
    for (uint32_t i = 0; i < 20; i++)
        send_method(f, 2 * i + 1, "Read", &r.base);
    for (uint32_t i = 0; i < 20; i++)
        expect_success(f, 2 * i + 1);
}

/* A peer that asks and does not listen: first the answers that do not fit are replaced by failures, which it finds when
 * it listens after all. */
static void listens_late(void **state) {
    struct fixture *f = *state;
    Stasis__Agent__V1__ReadRequest r = STASIS__AGENT__V1__READ_REQUEST__INIT;
    r.max = 4000000;
    enum { COUNT = 15 };
    for (uint32_t i = 0; i < COUNT; i++) {
        send_method(f, 2 * i + 1, "Read", &r.base);
        run_idle(f->event);
    }
    size_t failed = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        struct response resp = get_response(f);
        assert_int_equal(resp.stream, 2 * i + 1);
        if (resp.r->status) {
            assert_int_equal(resp.r->status->code, TTRPC_RESOURCE_EXHAUSTED);
            failed++;
        }
        ttrpc__response__free_unpacked(resp.r, NULL);
    }
    assert_in_range(failed, 1, COUNT - 9);
    assert_int_equal(f->n_disconnects, 0);
}

/* One that goes on like that is cut off. */
static void never_listens(void **state) {
    struct fixture *f = *state;
    Stasis__Agent__V1__ReadRequest r = STASIS__AGENT__V1__READ_REQUEST__INIT;
    Stasis__Agent__V1__ContainerRequest c = STASIS__AGENT__V1__CONTAINER_REQUEST__INIT;
    char id[3500];
    uint32_t stream = 1;
    r.max = 4000000;
    for (; stream < 30; stream += 2) {
        send_method(f, stream, "Read", &r.base);
        run_idle(f->event);
    }
    memset(id, 'i', sizeof(id) - 1);
    id[sizeof(id) - 1] = '\0';
    c.id = id; /* comes back in the message */
    for (; f->n_disconnects == 0; stream += 2) {
        assert_true(stream < 2000);
        send_method(f, stream, "StartContainer", &c.base);
        run_idle(f->event);
    }
    expect_cut_off(f);
}

static void fds_reach_the_handler(void **state) {
    struct fixture *f = *state;
    int pipes[2];
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    Ttrpc__Request req = TTRPC__REQUEST__INIT;
    uint8_t buf[256];
    req.service = (char *)SERVICE->name;
    req.method = (char *)"Shutdown";
    struct ttrpc_header h = {.stream = 1, .type = TTRPC_REQUEST};
    h.length = (uint32_t)ttrpc__request__pack(&req, buf + TTRPC_HEADER_SIZE);
    ttrpc_header_encode(&h, buf);
    assert_int_equal(fd_send(f->peer, buf, TTRPC_HEADER_SIZE + h.length, &pipes[1], 1), TTRPC_HEADER_SIZE + h.length);
    expect_success(f, 1);
    assert_true(f->fd_taken >= 0);
    assert_int_equal(fd_write_all(f->fd_taken, "x", 1), 0);
    char b = 0;
    assert_int_equal(read(pipes[0], &b, 1), 1);
    fd_close(pipes[0]);
    fd_close(pipes[1]);
}

static void services(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct ttrpc_service other = service;
    assert_int_equal(ttrpc_server_add(f->server, &other, f, &err), -EEXIST);
    other.name = "other.Name";
    assert_int_equal(ttrpc_server_add(f->server, &other, f, &err), 0);
    send_request(f, 1, "other.Name", "Shutdown", NULL, 0);
    expect_success(f, 1);
    send_request(f, 3, SERVICE->name, "Shutdown", NULL, 0);
    expect_success(f, 3);
    f->server = ttrpc_server_free(f->server); /* before `other` goes */
}

static void flush(void **state) {
    struct fixture *f = *state;
    Stasis__Agent__V1__ReadRequest r = STASIS__AGENT__V1__READ_REQUEST__INIT;
    assert_int_equal(ttrpc_server_flush(f->server, 0), 0);
    r.max = 1 << 20;
    send_method(f, 1, "Read", &r.base);
    run_idle(f->event);
    assert_int_equal(ttrpc_server_flush(f->server, 10 * USEC_PER_MSEC), -ETIMEDOUT);
    size_t got = 0;
    static uint8_t in[1 << 16];
    while (ttrpc_server_flush(f->server, 0) != 0)
        got += read_now(f->peer, in, sizeof(in));
    assert_true(got > 0);
}

/* ---- the channel ---- */

/* Requests that are held go on in their order; those whose time is over do not, nor those whose peer is gone. */
static void holds(void **state) {
    struct fixture *f = *state;
    static const char *const served[] = {"Shutdown", NULL};
    ttrpc_server_hold(f->server, served);
    send_method(f, 1, "StartContainer", NULL);
    send_request(f, 3, SERVICE->name, "Hello", NULL, 1);
    send_method(f, 5, "Wait", NULL);
    send_method(f, 7, "Shutdown", NULL);
    expect_success(f, 7);
    assert_int_equal(f->n_held, 0);
    ttrpc_server_hold(f->server, NULL);
    expect_failure(f, 1, TTRPC_NOT_FOUND, "is not here");
    expect_failure(f, 3, TTRPC_DEADLINE_EXCEEDED, "Hello: its time was over");
    RUN_UNTIL(f->event, f->n_held == 1);
    ttrpc_reply(f->held[0], NULL);
    expect_success(f, 5);
    ttrpc_server_hold(f->server, served);
    send_method(f, 9, "Wait", NULL);
    send_method(f, 11, "Shutdown", NULL);
    expect_success(f, 11);
    f->peer = fd_close(f->peer);
    expect_cut_off(f);
    ttrpc_server_hold(f->server, NULL);
    assert_int_equal(f->n_held, 1);
}

static void on_no_reply(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    (void)userdata, (void)reply, (void)err;
    fail_msg("a cancelled call was answered");
}

/* A new session voids the requests and the half frames of the one before, and stream ids begin again. */
static void channel_sessions(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    int fds[2];
    f->peer = fd_close(f->peer);
    expect_cut_off(f);
    new_pair(fds);
    assert_int_equal(ttrpc_server_add_channel(f->server, fds[1], &err), 0);
    for (size_t round = 1; round <= 3; round++) {
        struct ttrpc_client *c = NULL;
        int own = dup(fds[0]); /* the device stays when a host goes */
        Stasis__Agent__V1__ProcessId id = STASIS__AGENT__V1__PROCESS_ID__INIT;
        Stasis__Agent__V1__Empty e = STASIS__AGENT__V1__EMPTY__INIT;
        assert_int_equal(ttrpc_client_new_channel(f->event, own, TEST_DEADLINE, NULL, NULL, &c, &err), 0);
        RUN_UNTIL(f->event, ttrpc_client_is_ready(c));
        assert_int_equal(f->n_sessions, round);
        assert_int_equal(f->n_cancelled, round - 1);
        assert_int_equal(ttrpc_client_call_sync(c, SERVICE, "Shutdown", &e.base, NULL, 0, TEST_DEADLINE, NULL, &err),
                         0);
        f->n_held = 0;
        struct ttrpc_call *call = NULL;
        assert_int_equal(ttrpc_client_call(c, SERVICE, "Wait", &id.base, 0, on_no_reply, NULL, &call, &err), 0);
        RUN_UNTIL(f->event, f->n_held == 1);
        ttrpc_call_cancel(call);
        ttrpc_client_free(c);
    }
    assert_int_equal(f->n_disconnects, 1);
    fd_close(fds[0]);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(answers),
        TEST(status_from_err),
        TEST(empty_reply),
        TEST(unimplemented),
        TEST(undecodable),
        TEST(stream_ids),
        TEST(wrong_type),
        TEST(too_long),
        TEST(late_answers),
        TEST(truncated_blocks_nobody),
        TEST(too_many_requests),
        TEST(cancelled_when_the_peer_goes),
        TEST(server_freed_with_requests),
        TEST(server_freed_in_handler),
        TEST(reply_too_large),
        TEST(many_large_replies),
        TEST(listens_late),
        TEST(never_listens),
        TEST(fds_reach_the_handler),
        TEST(services),
        TEST(flush),
        TEST(holds),
        TEST(channel_sessions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
