/* SPDX-License-Identifier: Apache-2.0 */
/* The server's connections: peers that break the protocol, ask for too much, do not listen or go, and what becomes of
 * their requests. */
#include "server_support.h"

#include "ttrpc/client.h"

/* ---- hostile peers ---- */

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

/* ---- the end of a connection ---- */

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

/* ---- answers that nobody wants any more ---- */

static void abandoned_when_the_peer_goes(void **state) {
    struct fixture *f = *state;
    send_method(f, 1, "Signal", NULL);
    RUN_UNTIL(f->event, f->n_held == 1);
    f->peer = fd_close(f->peer);
    expect_cut_off(f);
    assert_int_equal(f->abandoned[TTRPC_ABANDONED_LOST], 1);
    ttrpc_reply(f->held[0], NULL); /* it is still the handler's */
}

static void abandoned_when_late(void **state) {
    struct fixture *f = *state;
    send_request(f, 1, SERVICE->name, "Signal", NULL, 20 * 1000000);
    RUN_UNTIL(f->event, f->abandoned[TTRPC_ABANDONED_LATE] == 1);
    ttrpc_reply(f->held[0], NULL);
    expect_success(f, 1); /* perhaps its clock is slower than ours */
    /* One that is answered in time is not. */
    send_request(f, 3, SERVICE->name, "Signal", NULL, 20 * 1000000);
    RUN_UNTIL(f->event, f->n_held == 2);
    ttrpc_reply(f->held[1], NULL);
    expect_success(f, 3);
    uint64_t end = now_usec() + 40 * USEC_PER_MSEC;
    while (now_usec() < end)
        (void)sd_event_run(f->event, USEC_PER_MSEC);
    assert_int_equal(f->abandoned[TTRPC_ABANDONED_LATE], 1);
}

static void cancels_what_can_be(void **state) {
    struct fixture *f = *state;
    f->answer_abandoned = true;
    send_method(f, 1, "Signal", NULL);
    send_method(f, 3, "Wait", NULL);
    send_method(f, 5, "Signal", NULL);
    RUN_UNTIL(f->event, f->n_held == 3);
    send_method(f, 7, "Pause", NULL);
    expect_failure(f, 5, TTRPC_CANCELLED, "cancelled");
    expect_failure(f, 1, TTRPC_CANCELLED, "cancelled");
    expect_success(f, 7);
    assert_int_equal(f->abandoned[TTRPC_ABANDONED_CANCELLED], 2);
    assert_int_equal(f->n_cancelled, 0);
    ttrpc_reply(f->held[1], NULL);
    expect_success(f, 3);
}

/* ---- the channel ---- */

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
        TEST(wrong_type),
        TEST(too_long),
        TEST(truncated_blocks_nobody),
        TEST(too_many_requests),
        TEST(listens_late),
        TEST(never_listens),
        TEST(cancelled_when_the_peer_goes),
        TEST(server_freed_with_requests),
        TEST(server_freed_in_handler),
        TEST(abandoned_when_the_peer_goes),
        TEST(abandoned_when_late),
        TEST(cancels_what_can_be),
        TEST(channel_sessions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
