/* SPDX-License-Identifier: Apache-2.0 */
/* The client's connection: peers that break the protocol or go, and what callbacks may do to it while it ends. */
#include "client_support.h"

#include "ttrpc/packet.h"

/* ---- the peer breaks the protocol, or goes ---- */

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

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_answers),
        TEST(answered_twice),
        TEST(too_long),
        TEST(peer_gone),
        TEST(channel_lost),
        TEST(call_inside),
        TEST(cancel_inside),
        cmocka_unit_test(free_inside),
        TEST(free_in_closed),
        TEST(freed_calls_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
