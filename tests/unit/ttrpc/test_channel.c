/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's role, and both roles against each other; the host's alone is in test_channel_host.c. */
#include "channel_support.h"

#include <fcntl.h>
#include <sys/time.h>
#include <termios.h>

static int setup(void **state) {
    struct end *e = end_new(NULL);
    int fds[2];
    new_pair(fds);
    e->peer = fds[0];
    end_start(e, fds[1], CHANNEL_GUEST, 0);
    *state = e;
    return 0;
}

static int teardown(void **state) {
    end_free(*state);
    return 0;
}

static void open_session(struct end *e, uint64_t session) {
    size_t before = e->n_ready;
    e->session = session;
    put_version(e, PACKET_SYNC, session);
    expect_packet(e, PACKET_ACK, session);
    RUN_UNTIL(e->event, e->n_ready == before + 1);
    assert_true(transport_is_ready(e->t));
}

static void expect_data(struct end *e, const char *text) {
    RUN_UNTIL(e->event, e->have >= strlen(text));
    assert_int_equal(e->have, strlen(text));
    assert_memory_equal(e->buf, text, e->have);
    e->have = 0;
}

/* ---- guest ---- */

static void guest_session(void **state) {
    struct end *e = *state;
    struct err err = ERR_INIT;
    expect_nothing(e);
    assert_false(transport_is_ready(e->t));
    assert_int_equal(transport_send(e->t, "x", 1, &err), -ENOTCONN);
    open_session(e, 77);

    put_packet(e, PACKET_DATA, 77, "hello", 5);
    expect_data(e, "hello");
    put_packet(e, PACKET_DATA, 77, "", 0);
    run_idle(e->event);
    assert_int_equal(e->n_closed, 0);

    /* A small send is one packet, there before the call returns. */
    assert_int_equal(transport_send(e->t, "world", 5, &err), 0);
    struct packet_header h = {0};
    uint8_t payload[CHANNEL_PAYLOAD_MAX];
    assert_true(get_packet_now(e, &h, payload));
    assert_int_equal(h.type, PACKET_DATA);
    assert_true(h.session == 77);
    assert_int_equal(h.length, 5);
    assert_memory_equal(payload, "world", 5);
    assert_int_equal(e->in_have, 0);
    assert_int_equal(transport_send_fds(e->t, "x", 1, &e->peer, 1, &err), -EOPNOTSUPP);
    expect_nothing(e);
}

static void byte_at_a_time(void **state) {
    struct end *e = *state;
    uint8_t p[2 * PACKET_SYNC_SIZE + PACKET_OVERHEAD + 3];
    packet_write_version(p, PACKET_SYNC, 5);
    packet_write_version(p + PACKET_SYNC_SIZE, PACKET_SYNC, 6);
    packet_write(p + 2 * PACKET_SYNC_SIZE, PACKET_DATA, 6, "abc", 3);
    for (size_t i = 0; i < sizeof(p); i++) {
        assert_int_equal(e->have, 0);
        put_bytes(e, p + i, 1);
        run_idle(e->event);
    }
    expect_data(e, "abc");
    assert_int_equal(e->n_ready, 2);
    expect_packet(e, PACKET_ACK, 5);
    expect_packet(e, PACKET_ACK, 6);
}

static void large_send_is_cut(void **state) {
    struct end *e = *state;
    static uint8_t big[200000], payload[CHANNEL_PAYLOAD_MAX];
    open_session(e, 1);
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (uint8_t)(i >> 3);
    assert_int_equal(transport_send(e->t, big, sizeof(big), NULL), 0);
    for (size_t off = 0; off < sizeof(big);) {
        struct packet_header h = get_packet(e, payload);
        assert_int_equal(h.length, MIN(CHANNEL_PAYLOAD_MAX, sizeof(big) - off));
        assert_memory_equal(payload, big + off, h.length);
        off += h.length;
    }
    RUN_UNTIL(e->event, transport_queued(e->t) == 0);
}

/* A flood of SYNCs of one session is answered, but neither by as many ACKs nor by beginning again. */
static void sync_repeated(void **state) {
    struct end *e = *state;
    open_session(e, 9);
    put_packet(e, PACKET_DATA, 9, "abc", 3);
    expect_data(e, "abc");
    uint8_t p[1000][PACKET_SYNC_SIZE];
    for (size_t i = 0; i < ARRAY_SIZE(p); i++)
        packet_write_version(p[i], PACKET_SYNC, 9);
    put_bytes(e, p, sizeof(p));
    expect_packet(e, PACKET_ACK, 9);
    run_idle(e->event);
    size_t more = 0;
    struct packet_header h = {0};
    while (get_packet_now(e, &h, NULL))
        more++;
    assert_true(more < 50);
    assert_int_equal(e->n_ready, 1);
    put_packet(e, PACKET_DATA, 9, "def", 3);
    expect_data(e, "def");
}

/* A new host: what was queued for the old one is gone. */
static void new_session_voids_the_old(void **state) {
    struct end *e = *state;
    static uint8_t big[1 << 20];
    open_session(e, 1);
    assert_int_equal(transport_send(e->t, big, sizeof(big), NULL), 0);
    assert_true(transport_queued(e->t) > 0);
    put_version(e, PACKET_SYNC, 2);
    RUN_UNTIL(e->event, e->n_ready == 2);
    assert_true(transport_queued(e->t) <= PACKET_SYNC_SIZE);
    put_packet(e, PACKET_DATA, 1, "old", 3);
    put_packet(e, PACKET_DATA, 2, "new", 3);
    expect_data(e, "new");
}

/* Somebody plays what an earlier host said, its SYNC included. */
static void replay(void **state) {
    struct end *e = *state;
    open_session(e, 1);
    put_packet(e, PACKET_DATA, 1, "one", 3);
    expect_data(e, "one");
    open_session(e, 2);
    put_version(e, PACKET_SYNC, 1);
    put_packet(e, PACKET_DATA, 1, "one", 3);
    put_packet(e, PACKET_DATA, 2, "two", 3);
    expect_data(e, "two");
    assert_int_equal(e->n_ready, 2);
    expect_nothing(e);
    put_version(e, PACKET_SYNC, 0); /* no session at all */
    expect_nothing(e);
    assert_int_equal(e->n_ready, 2);
}

static void other_session_ignored(void **state) {
    struct end *e = *state;
    put_packet(e, PACKET_DATA, 5, "before", 6);
    put_packet(e, PACKET_DATA, 0, "none", 4);
    run_idle(e->event);
    assert_int_equal(e->have, 0);
    open_session(e, 1);
    put_packet(e, PACKET_DATA, 5, "other", 5);
    put_packet(e, PACKET_ACK, 1, "", 0);
    put_packet(e, PACKET_RESET, 1, "", 0);
    put_packet(e, PACKET_DATA, 1, "mine", 4);
    expect_data(e, "mine");
    expect_nothing(e);
}

static void wrong_trailer(void **state) {
    struct end *e = *state;
    uint8_t p[PACKET_OVERHEAD + 3];
    open_session(e, 1);
    packet_write(p, PACKET_DATA, 1, "bad", 3);
    p[sizeof(p) - 1] ^= 1;
    put_bytes(e, p, sizeof(p));
    expect_packet(e, PACKET_RESET, 1);
    assert_int_equal(e->have, 0);
    assert_false(transport_is_ready(e->t));
    assert_int_equal(transport_send(e->t, "x", 1, NULL), -ENOTCONN);
    put_packet(e, PACKET_DATA, 1, "late", 4);
    expect_nothing(e);
    assert_int_equal(e->have, 0);
    assert_int_equal(e->n_closed, 0);
    open_session(e, 2);
    put_packet(e, PACKET_DATA, 2, "fresh", 5);
    expect_data(e, "fresh");
}

static void junk(void **state) {
    struct end *e = *state;
    uint8_t noise[100000];
    uint32_t seed = 1;
    for (size_t i = 0; i < sizeof(noise); i++) {
        seed = seed * 1103515245 + 12345;
        noise[i] = (uint8_t)(seed >> 16);
    }
    put_bytes(e, noise, sizeof(noise));
    put_bytes(e, "STP1STP1STSTP1", 14);
    open_session(e, 1);
    put_bytes(e, "?", 1);
    put_packet(e, PACKET_DATA, 1, "x", 1);
    expect_packet(e, PACKET_RESET, 1);
    open_session(e, 2);
}

/* The user refuses what came: the session ends, what was queued before still goes out whole, the host is told. */
static void data_refused(void **state) {
    struct end *e = *state;
    static uint8_t big[500000];
    open_session(e, 1);
    assert_int_equal(transport_send(e->t, big, sizeof(big), NULL), 0);
    e->data_result = -EPROTO;
    put_packet(e, PACKET_DATA, 1, "x", 1);
    RUN_UNTIL(e->event, !transport_is_ready(e->t));
    for (size_t got = 0; got < sizeof(big);) {
        struct packet_header h = get_packet(e, e->buf);
        assert_int_equal(h.type, PACKET_DATA);
        got += h.length;
    }
    expect_packet(e, PACKET_RESET, 1);
    assert_int_equal(e->n_closed, 0);
    e->data_result = 0;
    open_session(e, 2);
}

static void other_version(void **state) {
    struct end *e = *state;
    put_packet(e, PACKET_SYNC, 3, "\0\0\0\x09", 4);
    expect_packet(e, PACKET_ACK, 3); /* with our version */
    assert_int_equal(e->n_ready, 0);
    put_packet(e, PACKET_SYNC, 4, "", 0);
    expect_packet(e, PACKET_ACK, 4);
    assert_int_equal(e->n_ready, 0);
    open_session(e, 5);
}

static void guest_bound_and_drained(void **state) {
    struct end *e = *state;
    static uint8_t piece[1 << 20];
    struct err err = ERR_INIT;
    size_t sent = 0, got = 0;
    int r;
    open_session(e, 1);
    while ((r = transport_send(e->t, piece, sizeof(piece), &err)) == 0) {
        sent += sizeof(piece);
        assert_true(transport_queued(e->t) <= TRANSPORT_SEND_MAX);
    }
    assert_int_equal(r, -ENOBUFS);
    assert_true(sent >= 7 << 20);
    while (got < sent)
        got += get_packet(e, piece).length;
    RUN_UNTIL(e->event, transport_queued(e->t) == 0);
    assert_int_equal(e->n_drained, 1);
}

static void socket_end(void **state) {
    struct end *e = *state;
    open_session(e, 1);
    e->peer = fd_close(e->peer);
    RUN_UNTIL(e->event, e->n_closed == 1);
    assert_int_equal(e->closed.code, 0);
    assert_int_equal(transport_send(e->t, "x", 1, NULL), -ENOTCONN);
}

static void free_in_ready(void **state) {
    struct end *e = *state;
    uint8_t p[PACKET_SYNC_SIZE * 2];
    e->free_in = IN_READY;
    packet_write_version(p, PACKET_SYNC, 1);
    packet_write_version(p + PACKET_SYNC_SIZE, PACKET_SYNC, 2);
    put_bytes(e, p, sizeof(p));
    RUN_UNTIL(e->event, !e->t);
    run_idle(e->event);
    assert_int_equal(e->n_ready, 1);
}

static void free_in_data(void **state) {
    struct end *e = *state;
    uint8_t p[(PACKET_OVERHEAD + 1) * 2];
    open_session(e, 1);
    e->free_in = IN_DATA;
    e->data_result = -ECANCELED;
    packet_write(p, PACKET_DATA, 1, "a", 1);
    packet_write(p + sizeof(p) / 2, PACKET_DATA, 1, "b", 1);
    put_bytes(e, p, sizeof(p));
    RUN_UNTIL(e->event, !e->t);
    run_idle(e->event);
    assert_int_equal(e->have, 1);
    assert_int_equal(e->n_closed, 0);
}

static void free_in_closed(void **state) {
    struct end *e = *state;
    e->free_in = IN_CLOSED;
    e->peer = fd_close(e->peer);
    RUN_UNTIL(e->event, !e->t);
    run_idle(e->event);
    assert_int_equal(e->n_closed, 1);
}

/* ---- the guest on a device that stays while hosts come and go ---- */

/* A pseudoterminal's master is such a device: without a slave it hangs up, and a slave may be opened again. */
struct pty {
    int master;
    char slave[64];
};

static struct pty new_pty(void) {
    struct pty p = {.master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)};
    assert_true(p.master >= 0);
    assert_int_equal(grantpt(p.master), 0);
    assert_int_equal(unlockpt(p.master), 0);
    assert_int_equal(ptsname_r(p.master, p.slave, sizeof(p.slave)), 0);
    return p;
}

static int open_slave(const struct pty *p) {
    struct termios raw;
    int fd = open(p->slave, O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(tcgetattr(fd, &raw), 0);
    cfmakeraw(&raw);
    assert_int_equal(tcsetattr(fd, TCSANOW, &raw), 0);
    return fd;
}

static uint64_t cpu_usec(void) {
    struct timespec ts;
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts), 0);
    return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

static void expect_from(int fd, const uint8_t *want, size_t len) {
    uint8_t got[256];
    assert_true(len <= sizeof(got));
    for (size_t have = 0; have < len;) {
        ssize_t n = read(fd, got + have, len - have);
        assert_true(n > 0);
        have += (size_t)n;
    }
    assert_memory_equal(got, want, len);
}

static void slave_session(struct end *e, int slave, uint64_t session) {
    uint8_t p[PACKET_SYNC_SIZE];
    size_t before = e->n_ready;
    packet_write_version(p, PACKET_SYNC, session);
    assert_int_equal(fd_write_all(slave, p, sizeof(p)), 0);
    RUN_UNTIL(e->event, e->n_ready == before + 1);
    packet_write_version(p, PACKET_ACK, session);
    expect_from(slave, p, sizeof(p));
    assert_int_equal(transport_send(e->t, "bye", 3, NULL), 0);
    packet_write(p, PACKET_DATA, session, "bye", 3);
    expect_from(slave, p, PACKET_OVERHEAD + 3);
}

static void device_without_host(void **state) {
    (void)state;
    struct end *e = end_new(NULL);
    struct pty p = new_pty();
    fd_close(open_slave(&p)); /* from now on the master reports that it is hung up */
    end_start(e, p.master, CHANNEL_GUEST, 0);

    /* The guest must not spin while it waits: in a quarter of a second it wakes a few times, not thousands. */
    size_t turns = 0;
    uint64_t cpu = cpu_usec();
    for (uint64_t end = now_usec() + 250 * USEC_PER_MSEC; now_usec() < end; turns++)
        assert_true(sd_event_run(e->event, 50 * USEC_PER_MSEC) >= 0);
    assert_true(turns < 50);
    assert_true(cpu_usec() - cpu < 150 * USEC_PER_MSEC);
    assert_int_equal(e->n_closed, 0);

    for (uint64_t session = 1; session <= 3; session++) {
        int slave = open_slave(&p);
        slave_session(e, slave, session);
        assert_true(transport_is_ready(e->t));
        /* Leaves within a packet: its rest must not be missed by the next. */
        uint8_t part[PACKET_OVERHEAD + 100];
        packet_write(part, PACKET_DATA, session, e->buf, 100);
        assert_int_equal(fd_write_all(slave, part, 50), 0);
        run_idle(e->event);
        fd_close(slave);
        RUN_UNTIL(e->event, !transport_is_ready(e->t));
        assert_int_equal(e->n_closed, 0);
    }
    end_free(e);
}

/* The device may look hung up for a moment when a host connects (its bytes overtake the news of it): the session goes
 * on. When the host was really gone, the same number may open a session again. */
static void device_hangs_up_for_a_moment(void **state) {
    (void)state;
    struct end *e = end_new(NULL);
    struct pty p = new_pty();
    int slave = open_slave(&p);
    uint8_t packet[PACKET_OVERHEAD + 2];
    end_start(e, p.master, CHANNEL_GUEST, 0);
    slave_session(e, slave, 1);
    fd_close(slave);
    assert_true(sd_event_run(e->event, TEST_DEADLINE) > 0); /* it hears of that */
    slave = open_slave(&p);
    packet_write(packet, PACKET_DATA, 1, "on", 2);
    assert_int_equal(fd_write_all(slave, packet, sizeof(packet)), 0);
    RUN_UNTIL(e->event, e->have == 2);
    assert_int_equal(e->n_ready, 1);
    assert_int_equal(transport_send(e->t, "ok", 2, NULL), 0);
    packet_write(packet, PACKET_DATA, 1, "ok", 2);
    expect_from(slave, packet, sizeof(packet));

    fd_close(slave);
    RUN_UNTIL(e->event, !transport_is_ready(e->t));
    slave = open_slave(&p);
    slave_session(e, slave, 1);
    fd_close(slave);
    assert_int_equal(e->n_closed, 0);
    end_free(e);
}

/* ---- both roles ---- */

static struct end *start_host(struct end *guest) {
    struct end *host = end_new(guest->event);
    end_start(host, TAKE_FD(guest->peer), CHANNEL_HOST, TEST_DEADLINE);
    return host;
}

static void exchange(struct end *a, struct end *b) {
    a->have = b->have = 0;
    assert_int_equal(transport_send(a->t, "from a", 6, NULL), 0);
    assert_int_equal(transport_send(b->t, "from b", 6, NULL), 0);
    RUN_UNTIL(a->event, a->have == 6 && b->have == 6);
    assert_memory_equal(a->buf, "from b", 6);
    assert_memory_equal(b->buf, "from a", 6);
}

static void in_step_at_once(void **state) {
    struct end *guest = *state;
    struct end *host = start_host(guest);
    run_idle(guest->event); /* with the first SYNC: no timer is waited for */
    assert_int_equal(host->n_ready, 1);
    exchange(guest, host);

    static uint8_t big[5 << 20];
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (uint8_t)(i * 13 + (i >> 9));
    guest->have = host->have = 0;
    assert_int_equal(transport_send(guest->t, big, sizeof(big), NULL), 0);
    assert_int_equal(transport_send(host->t, big, sizeof(big), NULL), 0);
    RUN_UNTIL(guest->event, guest->have == sizeof(big) && host->have == sizeof(big));
    assert_memory_equal(guest->buf, big, sizeof(big));
    assert_memory_equal(host->buf, big, sizeof(big));
    end_free(host);
}

/* The old host went within a packet; the guest waits for the rest, at every place where that may be. */
static void resync_from_a_cut(void **state) {
    (void)state;
    static const size_t cuts[] = {1, 3, 4, 7, 11, 12, 19, 20, 21, 5000, 5019, 65535, 65555, 65556, 65557, 65563, 65564};
    static uint8_t packet[PACKET_MAX];
    for (size_t i = 0; i < ARRAY_SIZE(cuts); i++) {
        struct end *guest;
        setup((void **)&guest);
        open_session(guest, 42);
        memset(guest->buf, 'p', CHANNEL_PAYLOAD_MAX);
        packet_write(packet, PACKET_DATA, 42, guest->buf, CHANNEL_PAYLOAD_MAX);
        put_bytes(guest, packet, MIN(cuts[i], sizeof(packet)));
        run_idle(guest->event);
        struct end *host = start_host(guest);
        RUN_UNTIL(guest->event, host->n_ready == 1);
        assert_int_equal(host->n_closed, 0);
        exchange(guest, host);
        end_free(host);
        end_free(guest);
    }
}

/* A payload that looks like a SYNC: as data it is data, and in a packet that was cut off it opens nothing. */
static void forged_sync(void **state) {
    struct end *guest = *state;
    uint8_t forged[20 * PACKET_SYNC_SIZE], packet[PACKET_OVERHEAD + sizeof(forged)];
    for (size_t i = 0; i < 20; i++)
        packet_write_version(forged + i * PACKET_SYNC_SIZE, PACKET_SYNC, 666);
    open_session(guest, 1);
    put_packet(guest, PACKET_DATA, 1, forged, sizeof(forged));
    RUN_UNTIL(guest->event, guest->have == sizeof(forged));
    assert_memory_equal(guest->buf, forged, sizeof(forged));
    assert_int_equal(guest->n_ready, 1);
    expect_nothing(guest);

    packet_write(packet, PACKET_DATA, 1, forged, sizeof(forged));
    put_bytes(guest, packet, sizeof(packet) - PACKET_TRAILER_SIZE - 1);
    run_idle(guest->event);
    struct end *host = start_host(guest);
    RUN_UNTIL(guest->event, host->n_ready == 1);
    assert_int_equal(guest->n_ready, 2); /* 1, then the host's: never 666 */
    exchange(guest, host);
    end_free(host);
}

/* The guest was writing a packet when the new host came: the host gets past the part that is left. */
static void host_joins_within_a_packet(void **state) {
    struct end *guest = *state;
    static uint8_t big[3 << 20], skip[12345];
    open_session(guest, 1);
    assert_int_equal(transport_send(guest->t, big, sizeof(big), NULL), 0);
    size_t got = read_now(guest->peer, skip, sizeof(skip));
    assert_int_equal(got, sizeof(skip));
    struct end *host = start_host(guest);
    RUN_UNTIL(guest->event, host->n_ready == 1);
    exchange(guest, host);
    end_free(host);
}

static void reset_reaches_the_host(void **state) {
    struct end *guest = *state;
    struct end *host = start_host(guest);
    RUN_UNTIL(guest->event, host->n_ready == 1);
    guest->data_result = -EPROTO;
    assert_int_equal(transport_send(host->t, "x", 1, NULL), 0);
    RUN_UNTIL(guest->event, host->n_closed == 1);
    assert_int_equal(host->closed.code, ECONNRESET);
    end_free(host);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(guest_session),
        TEST(byte_at_a_time),
        TEST(large_send_is_cut),
        TEST(sync_repeated),
        TEST(new_session_voids_the_old),
        TEST(replay),
        TEST(other_session_ignored),
        TEST(wrong_trailer),
        TEST(junk),
        TEST(data_refused),
        TEST(other_version),
        TEST(guest_bound_and_drained),
        TEST(socket_end),
        TEST(free_in_ready),
        TEST(free_in_data),
        TEST(free_in_closed),
        cmocka_unit_test(device_without_host),
        cmocka_unit_test(device_hangs_up_for_a_moment),
        TEST(in_step_at_once),
        cmocka_unit_test(resync_from_a_cut),
        TEST(forged_sync),
        TEST(host_joins_within_a_packet),
        TEST(reset_reaches_the_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
