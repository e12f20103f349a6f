/* SPDX-License-Identifier: Apache-2.0 */
/* The server's requests: how they reach their handlers, and what is answered. */
#include "server_support.h"

#include <fcntl.h>

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

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(answers),
        TEST(status_from_err),
        TEST(empty_reply),
        TEST(unimplemented),
        TEST(undecodable),
        TEST(stream_ids),
        TEST(late_answers),
        TEST(reply_too_large),
        TEST(many_large_replies),
        TEST(fds_reach_the_handler),
        TEST(services),
        TEST(flush),
        TEST(holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
