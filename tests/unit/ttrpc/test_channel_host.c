/* SPDX-License-Identifier: Apache-2.0 */
/* The host's role against a raw guest, which may be hostile. */
#include "channel_support.h"

static struct end *start(uint64_t timeout) {
    struct end *e = end_new(NULL);
    int fds[2];
    new_pair(fds);
    e->peer = fds[0];
    end_start(e, fds[1], CHANNEL_HOST, timeout);
    return e;
}

static int setup(void **state) {
    *state = start(TEST_DEADLINE);
    return 0;
}

static int teardown(void **state) {
    end_free(*state);
    return 0;
}

/* Takes the SYNC that is there from the start, without a turn of the loop. */
static void take_sync(struct end *e) {
    struct packet_header h = {0};
    assert_true(get_packet_now(e, &h, NULL));
    assert_int_equal(h.type, PACKET_SYNC);
    assert_true(h.session != 0);
    e->session = h.session;
}

static void in_step(struct end *e) {
    take_sync(e);
    assert_false(transport_is_ready(e->t));
    put_version(e, PACKET_ACK, e->session);
    RUN_UNTIL(e->event, e->n_ready == 1);
    assert_true(transport_is_ready(e->t));
}

static void expect_closed(struct end *e, int code, const char *part) {
    RUN_UNTIL(e->event, e->n_closed == 1);
    assert_int_equal(e->closed.code, code);
    if (!strstr(e->closed.msg, part))
        fail_msg("\"%s\" is not in \"%s\"", part, e->closed.msg);
    assert_int_equal(transport_send(e->t, "x", 1, NULL), -ENOTCONN);
}

static void session(void **state) {
    struct end *e = *state;
    assert_int_equal(transport_send(e->t, "x", 1, NULL), -ENOTCONN);
    in_step(e);
    put_packet(e, PACKET_DATA, e->session, "hello", 5);
    RUN_UNTIL(e->event, e->have == 5);
    assert_int_equal(transport_send(e->t, "world", 5, NULL), 0);
    struct packet_header h = {0};
    assert_true(get_packet_now(e, &h, NULL));
    assert_int_equal(h.length, 5);
    assert_true(h.session == e->session);
    put_version(e, PACKET_ACK, e->session); /* to a SYNC that crossed the first: no harm */
    run_idle(e->event);
    assert_int_equal(e->n_ready, 1);
    assert_int_equal(e->n_closed, 0);
}

static void sessions_differ(void **state) {
    struct end *a = *state, *b = start(0);
    take_sync(a);
    take_sync(b);
    assert_true(a->session != b->session);
    end_free(b);
}

static void host_byte_at_a_time(void **state) {
    struct end *e = *state;
    uint8_t p[PACKET_SYNC_SIZE + PACKET_OVERHEAD + 2];
    take_sync(e);
    packet_write_version(p, PACKET_ACK, e->session);
    packet_write(p + PACKET_SYNC_SIZE, PACKET_DATA, e->session, "hi", 2);
    for (size_t i = 0; i < sizeof(p); i++) {
        assert_int_equal(e->have, 0);
        put_bytes(e, p + i, 1);
        run_idle(e->event);
    }
    assert_int_equal(e->n_ready, 1);
    RUN_UNTIL(e->event, e->have == 2);
}

/* While nobody reads, one SYNC is enough: the guest may take its time to boot. */
static void patient_while_unread(void **state) {
    (void)state;
    struct end *e = start(400 * USEC_PER_MSEC);
    expect_closed(e, ETIMEDOUT, "does not read");
    struct packet_header h = {0};
    assert_true(get_packet_now(e, &h, NULL));
    assert_int_equal(e->in_have, 0);
    end_free(e);
}

/* One that reads and does not answer may be within an old packet: enough comes to get it out of there. */
static void flood_when_unanswered(void **state) {
    struct end *e = *state;
    uint64_t session = 0;
    take_sync(e);
    session = e->session;
    expect_packet(e, PACKET_SYNC, session);
    size_t got = PACKET_SYNC_SIZE;
    struct packet_header h = {0};
    for (; get_packet_now(e, &h, NULL); got += PACKET_SYNC_SIZE) /* the loop does not turn: one flood */
        assert_true(h.type == PACKET_SYNC && h.session == session);
    assert_true(got >= PACKET_MAX + PACKET_SYNC_SIZE);
    put_version(e, PACKET_ACK, session);
    RUN_UNTIL(e->event, e->n_ready == 1);
}

static void timeout(void **state) {
    (void)state;
    struct end *e = start(120 * USEC_PER_MSEC);
    uint64_t begin = now_usec();
    take_sync(e);
    put_bytes(e, "nonsense", 8);
    expect_closed(e, ETIMEDOUT, "did not answer");
    assert_true(now_usec() - begin >= 100 * USEC_PER_MSEC);
    assert_true(now_usec() - begin < 5 * USEC_PER_SEC);
    end_free(e);
}

/* The rest of what an older host was told, with packets, beginnings of packets and ACKs of others in it. */
static void older_stream_skipped(void **state) {
    struct end *e = *state;
    uint8_t cut[PACKET_OVERHEAD + 100], noise[5000];
    take_sync(e);
    memset(noise, 'S', sizeof(noise));
    put_bytes(e, noise, sizeof(noise));
    put_packet(e, PACKET_DATA, 12345, "old", 3);
    put_version(e, PACKET_ACK, 12345);
    put_version(e, PACKET_SYNC, e->session);
    put_packet(e, PACKET_DATA, e->session, "early", 5);
    packet_write_version(cut, PACKET_ACK, e->session);
    cut[PACKET_SYNC_SIZE - 1] ^= 1; /* ends disagree */
    put_bytes(e, cut, PACKET_SYNC_SIZE);
    run_idle(e->event);
    assert_int_equal(e->n_ready, 0);
    /* The head of a packet that promises 64 KiB, cut off: the ACK right after it must be seen. */
    packet_write(cut, PACKET_DATA, 12345, noise, 100);
    cut[9] = 1, cut[10] = cut[11] = 0;
    put_bytes(e, cut, 60);
    put_version(e, PACKET_ACK, e->session);
    RUN_UNTIL(e->event, e->n_ready == 1);
    assert_int_equal(e->have, 0);
    put_packet(e, PACKET_DATA, e->session, "now", 3);
    RUN_UNTIL(e->event, e->have == 3);
}

static void discard_bound(void **state) {
    struct end *e = *state;
    static uint8_t junk[1 << 20];
    take_sync(e);
    memset(junk, 'S', sizeof(junk));
    for (size_t sent = 0; sent < CHANNEL_DISCARD_MAX; sent += sizeof(junk)) {
        put_bytes(e, junk, sizeof(junk));
        run_idle(e->event);
        assert_int_equal(e->n_closed, 0);
        e->in_have = 0;
        while (read_now(e->peer, e->in, sizeof(e->in)) > 0) /* the SYNCs that came meanwhile */
            continue;
    }
    put_bytes(e, junk, 100);
    expect_closed(e, EPROTO, "something else");
}

static void host_other_version(void **state) {
    struct end *e = *state;
    take_sync(e);
    put_packet(e, PACKET_ACK, e->session, "\0\0\0\x07", 4);
    expect_closed(e, EPROTO, "version 7");
}

/* Before its ACK nothing the guest sends ends the wait; after it every fault ends the session. */
static void faults_in_step(void **state) {
    (void)state;
    static const struct {
        enum packet_type type;
        int code;
        size_t flip; /* byte of the packet to spoil; SIZE_MAX: none */
        const char *part;
    } rows[] = {
        {PACKET_DATA, EPROTO, 0, "broken"},        {PACKET_DATA, EPROTO, 4, "broken"},
        {PACKET_DATA, EPROTO, 8, "broken"},        {PACKET_DATA, EPROTO, PACKET_OVERHEAD + 2, "broken"},
        {PACKET_SYNC, EPROTO, SIZE_MAX, "type 1"}, {PACKET_RESET, ECONNRESET, SIZE_MAX, "ended the session"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct end *e = start(TEST_DEADLINE);
        uint8_t p[PACKET_OVERHEAD + 3];
        in_step(e);
        packet_write(p, rows[i].type, e->session, "abc", 3);
        if (rows[i].flip != SIZE_MAX)
            p[rows[i].flip] ^= 0x40;
        put_bytes(e, p, sizeof(p));
        expect_closed(e, rows[i].code, rows[i].part);
        assert_int_equal(e->have, 0);
        end_free(e);
    }
}

/* What an old session said does not count, even whole; without end it is no replay but an attack. */
static void stale_packets(void **state) {
    struct end *e = *state;
    static uint8_t payload[CHANNEL_PAYLOAD_MAX];
    in_step(e);
    put_packet(e, PACKET_DATA, e->session + 1, "old", 3);
    put_packet(e, PACKET_RESET, e->session + 1, "", 0);
    put_packet(e, PACKET_DATA, e->session, "new", 3);
    RUN_UNTIL(e->event, e->have == 3);
    assert_memory_equal(e->buf, "new", 3);
    for (size_t sent = 0; sent <= CHANNEL_DISCARD_MAX && e->n_closed == 0; sent += sizeof(payload))
        put_packet(e, PACKET_DATA, 5, payload, sizeof(payload));
    expect_closed(e, EPROTO, "something else");
}

/* The head of a packet, and then nothing more: it takes nothing from others, and the wait is the caller's. */
static void truncated_then_silence(void **state) {
    struct end *e = *state;
    struct end *other = end_new(e->event);
    int fds[2];
    new_pair(fds);
    other->peer = fds[0];
    end_start(other, fds[1], CHANNEL_HOST, TEST_DEADLINE);
    in_step(e);
    uint8_t p[PACKET_OVERHEAD + 100];
    packet_write(p, PACKET_DATA, e->session, e->buf, 100);
    put_bytes(e, p, 70);
    run_idle(e->event);
    in_step(other);
    put_packet(other, PACKET_DATA, other->session, "fine", 4);
    RUN_UNTIL(e->event, other->have == 4);
    assert_int_equal(e->have, 0);
    put_bytes(e, p + 70, sizeof(p) - 70);
    RUN_UNTIL(e->event, e->have == 100);
    end_free(other);
}

static void data_refused(void **state) {
    struct end *e = *state;
    in_step(e);
    e->data_result = -EBADMSG;
    put_packet(e, PACKET_DATA, e->session, "x", 1);
    expect_closed(e, EBADMSG, "not liked");
}

static void guest_gone(void **state) {
    struct end *e = *state;
    in_step(e);
    put_packet(e, PACKET_DATA, e->session, "last", 4);
    e->peer = fd_close(e->peer);
    expect_closed(e, 0, "closed");
    assert_int_equal(e->have, 4);
}

static void gone_before_the_ack(void **state) {
    struct end *e = *state;
    take_sync(e);
    e->peer = fd_close(e->peer);
    expect_closed(e, 0, "closed");
}

static void free_anywhere(void **state) {
    (void)state;
    for (enum where where = IN_READY; where <= IN_CLOSED; where++) {
        struct end *e = start(TEST_DEADLINE);
        e->free_in = where;
        take_sync(e);
        put_version(e, PACKET_ACK, e->session);
        put_packet(e, PACKET_DATA, e->session, "a", 1);
        put_packet(e, PACKET_RESET, e->session, "", 0);
        RUN_UNTIL(e->event, !e->t);
        run_idle(e->event);
        assert_int_equal(e->n_ready, 1);
        assert_int_equal(e->have, where == IN_READY ? 0 : 1);
        assert_int_equal(e->n_closed, where == IN_CLOSED ? 1 : 0);
        end_free(e);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(session),
        TEST(sessions_differ),
        TEST(host_byte_at_a_time),
        cmocka_unit_test(patient_while_unread),
        TEST(flood_when_unanswered),
        cmocka_unit_test(timeout),
        TEST(older_stream_skipped),
        TEST(discard_bound),
        TEST(host_other_version),
        cmocka_unit_test(faults_in_step),
        TEST(stale_packets),
        TEST(truncated_then_silence),
        TEST(data_refused),
        TEST(guest_gone),
        TEST(gone_before_the_ack),
        cmocka_unit_test(free_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
