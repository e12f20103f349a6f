/* SPDX-License-Identifier: Apache-2.0 */
/* The client's calls: what goes out, what comes back and when, and the real server at the other end. */
#include "client_support.h"

#include <fcntl.h>

#include "ttrpc/server.h"

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
        cmocka_unit_test(end_to_end_plain),
        cmocka_unit_test(end_to_end_channel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
