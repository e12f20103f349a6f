/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "ttrpc/transport.h"

enum where { NOWHERE, IN_READY, IN_DATA, IN_DRAINED, IN_CLOSED };

struct fixture {
    sd_event *event;
    struct transport *t;
    int peer;
    size_t n_ready, n_data, n_drained, n_closed;
    uint8_t buf[1 << 20];
    size_t have;
    struct err closed;
    enum where free_in; /* the callback that frees the transport */
    int data_result;    /* of the data callback */
    bool echo;
};

static void visit(struct fixture *f, enum where where) {
    if (f->free_in == where)
        f->t = transport_free(f->t);
}

static void on_ready(struct transport *t, void *userdata) {
    struct fixture *f = userdata;
    assert_true(transport_is_ready(t));
    f->n_ready++;
    visit(f, IN_READY);
}

static int on_data(struct transport *t, const uint8_t *buf, size_t len, void *userdata, struct err *err) {
    struct fixture *f = userdata;
    f->n_data++;
    assert_true(f->have + len <= sizeof(f->buf));
    memcpy(f->buf + f->have, buf, len);
    f->have += len;
    if (f->echo)
        assert_int_equal(transport_send(t, buf, len, err), 0);
    visit(f, IN_DATA);
    return f->data_result ? err_set(err, -f->data_result, "not liked") : 0;
}

static void on_drained(struct transport *t, void *userdata) {
    struct fixture *f = userdata;
    assert_true(transport_queued(t) < TRANSPORT_SEND_MAX / 2);
    f->n_drained++;
    visit(f, IN_DRAINED);
}

static void on_closed(struct transport *t, const struct err *err, void *userdata) {
    struct fixture *f = userdata;
    assert_false(transport_is_ready(t));
    f->n_closed++;
    f->closed = *err;
    visit(f, IN_CLOSED);
}

static const struct transport_ops ops = {
    .ready = on_ready, .data = on_data, .drained = on_drained, .closed = on_closed};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = ERR_INIT;
    int fds[2];
    f->event = new_event();
    new_pair(fds);
    f->peer = fds[0];
    assert_int_equal(transport_new_plain(f->event, fds[1], &ops, f, &f->t, &err), 0);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    transport_free(f->t);
    fd_close(f->peer);
    sd_event_unref(f->event);
    free(f);
    return 0;
}

static void ready_comes_from_the_loop(void **state) {
    struct fixture *f = *state;
    assert_int_equal(f->n_ready, 0);
    assert_true(transport_is_ready(f->t)); /* and yet sending works at once */
    run_idle(f->event);
    assert_int_equal(f->n_ready, 1);
    run_idle(f->event);
    assert_int_equal(f->n_ready, 1);
}

static void both_ways(void **state) {
    struct fixture *f = *state;
    char buf[16];
    assert_int_equal(transport_send(f->t, "ping", 4, NULL), 0);
    assert_int_equal(read_now(f->peer, buf, sizeof(buf)), 4); /* no turn of the loop was needed */
    assert_memory_equal(buf, "ping", 4);
    assert_int_equal(transport_queued(f->t), 0);
    for (size_t i = 0; i < 50; i++) {
        assert_int_equal(fd_write_all(f->peer, &"0123456789"[i % 10], 1), 0);
        RUN_UNTIL(f->event, f->have == i + 1);
        assert_int_equal(f->buf[i], '0' + i % 10);
    }
    assert_int_equal(transport_send(f->t, "", 0, NULL), 0);
    assert_int_equal(read_now(f->peer, buf, sizeof(buf)), 0);
}

static void large(void **state) {
    struct fixture *f = *state;
    static uint8_t out[3 << 20], in[3 << 20];
    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (uint8_t)(i * 31 + (i >> 11));
    assert_int_equal(transport_send(f->t, out, sizeof(out), NULL), 0);
    assert_true(transport_queued(f->t) > 0);
    size_t have = 0;
    RUN_UNTIL(f->event, (have += read_now(f->peer, in + have, sizeof(in) - have)) == sizeof(in));
    assert_memory_equal(in, out, sizeof(in));
    RUN_UNTIL(f->event, transport_queued(f->t) == 0);
}

static void peer_closes(void **state) {
    struct fixture *f = *state;
    f->echo = false;
    assert_int_equal(fd_write_all(f->peer, "last", 4), 0);
    f->peer = fd_close(f->peer);
    assert_int_equal(f->n_closed, 0);
    RUN_UNTIL(f->event, f->n_closed == 1);
    assert_int_equal(f->closed.code, 0);
    assert_int_equal(f->have, 4); /* what was said before is heard */
    struct err err = ERR_INIT;
    assert_int_equal(transport_send(f->t, "x", 1, &err), -ENOTCONN);
    assert_int_equal(err.code, ENOTCONN);
    assert_int_equal(transport_flush(f->t, 0), -ENOTCONN);
    run_idle(f->event);
    assert_int_equal(f->n_closed, 1);
}

/* The peer answered and went away; then we write. The answer counts, then the end comes, from the loop. */
static void write_to_closed_peer(void **state) {
    struct fixture *f = *state;
    run_idle(f->event);
    assert_int_equal(fd_write_all(f->peer, "answer", 6), 0);
    f->peer = fd_close(f->peer);
    assert_int_equal(transport_send(f->t, "x", 1, NULL), 0);
    assert_int_equal(f->n_closed, 0);
    assert_int_equal(transport_send(f->t, "x", 1, NULL), -ENOTCONN);
    RUN_UNTIL(f->event, f->n_closed == 1);
    assert_int_equal(f->have, 6);
    assert_int_equal(f->closed.code, 0);
}

/* A peer that stops reading but holds the connection: the failure to write ends it. */
static void half_closed_peer(void **state) {
    struct fixture *f = *state;
    assert_int_equal(shutdown(f->peer, SHUT_RD), 0);
    assert_int_equal(transport_send(f->t, "x", 1, NULL), 0);
    RUN_UNTIL(f->event, f->n_closed == 1);
    assert_int_equal(f->closed.code, EPIPE);
    assert_non_null(strstr(f->closed.msg, "writing"));
}

static void data_refused(void **state) {
    struct fixture *f = *state;
    f->data_result = -EPROTO;
    assert_int_equal(fd_write_all(f->peer, "x", 1), 0);
    RUN_UNTIL(f->event, f->n_closed == 1);
    assert_int_equal(f->closed.code, EPROTO);
    assert_string_equal(f->closed.msg, "not liked");
    assert_true(has_ended(f->peer));
}

static void free_inside(void **state, enum where where) {
    struct fixture *f = *state;
    f->free_in = where;
    if (where != IN_READY)
        run_idle(f->event);
    assert_int_equal(fd_write_all(f->peer, "x", 1), 0);
    if (where == IN_CLOSED)
        f->data_result = -EPROTO;
    if (where == IN_DRAINED) {
        static uint8_t big[TRANSPORT_SEND_MAX], in[1 << 18];
        assert_int_equal(transport_send(f->t, big, sizeof(big), NULL), 0);
        RUN_UNTIL(f->event, (read_now(f->peer, in, sizeof(in)), !f->t));
    }
    RUN_UNTIL(f->event, !f->t);
    size_t calls = f->n_ready + f->n_data + f->n_drained + f->n_closed;
    run_idle(f->event);
    assert_int_equal(f->n_ready + f->n_data + f->n_drained + f->n_closed, calls);
    static uint8_t rest[1 << 16];
    while (read_now(f->peer, rest, sizeof(rest)) > 0)
        continue;
    assert_int_not_equal(recv(f->peer, rest, 1, MSG_DONTWAIT), 1); /* the fd is closed: end or reset */
}

static void free_in_ready(void **state) {
    free_inside(state, IN_READY);
}
static void free_in_data(void **state) {
    free_inside(state, IN_DATA);
}
static void free_in_drained(void **state) {
    free_inside(state, IN_DRAINED);
}
static void free_in_closed(void **state) {
    free_inside(state, IN_CLOSED);
}

/* A freed transport whose data callback also fails must not be closed on top. */
static void free_and_fail_in_data(void **state) {
    struct fixture *f = *state;
    f->data_result = -ECANCELED;
    free_inside(state, IN_DATA);
    assert_int_equal(f->n_closed, 0);
}

static void bound_and_drained(void **state) {
    struct fixture *f = *state;
    static uint8_t piece[1 << 20];
    struct err err = ERR_INIT;
    size_t sent = 0, got = 0;
    int r;
    run_idle(f->event);
    while ((r = transport_send(f->t, piece, sizeof(piece), &err)) == 0) {
        sent += sizeof(piece);
        assert_true(transport_queued(f->t) <= TRANSPORT_SEND_MAX);
        assert_true(sent <= TRANSPORT_SEND_MAX + (1 << 20));
    }
    assert_int_equal(r, -ENOBUFS);
    assert_int_equal(err.code, ENOBUFS);
    assert_int_equal(transport_is_ready(f->t), true); /* no harm done */
    run_idle(f->event);
    assert_int_equal(f->n_drained, 0);
    RUN_UNTIL(f->event, (got += read_now(f->peer, piece, sizeof(piece))) == sent);
    RUN_UNTIL(f->event, transport_queued(f->t) == 0);
    assert_int_equal(f->n_drained, 1);
    assert_int_equal(transport_send(f->t, piece, 100, &err), 0);
    run_idle(f->event);
    assert_int_equal(f->n_drained, 1);
    static uint8_t huge[TRANSPORT_SEND_MAX + 1];
    assert_int_equal(transport_send(f->t, huge, sizeof(huge), &err), -ENOBUFS);
}

/* Below half, but a send was refused: its owner waits for drained(), so it must come. */
static void drained_after_refusal_below_half(void **state) {
    struct fixture *f = *state;
    static uint8_t piece[TRANSPORT_SEND_MAX];
    size_t first = TRANSPORT_SEND_MAX / 2;
    assert_int_equal(transport_send(f->t, piece, first, NULL), 0);
    assert_in_range(transport_queued(f->t), 1, TRANSPORT_SEND_MAX / 2 - 1);
    assert_int_equal(transport_send(f->t, piece, sizeof(piece), NULL), -ENOBUFS);
    size_t got = 0;
    RUN_UNTIL(f->event, (got += read_now(f->peer, piece, sizeof(piece))) == first);
    RUN_UNTIL(f->event, f->n_drained == 1);
}

static bool same_file(int a, int b) {
    struct stat x, y;
    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static void fds_come_in(void **state) {
    struct fixture *f = *state;
    int pipes[2];
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_int_equal(transport_take_fd(f->t), -ENOENT);
    assert_int_equal(fd_send(f->peer, "a", 1, pipes, 2), 1);
    assert_int_equal(fd_send(f->peer, "b", 1, &f->peer, 1), 1);
    RUN_UNTIL(f->event, f->have == 2);
    for (int i = 0; i < 3; i++) {
        int fd = transport_take_fd(f->t);
        assert_true(fd >= 0);
        assert_true(same_file(fd, i < 2 ? pipes[i] : f->peer));
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        fd_close(fd);
    }
    assert_int_equal(transport_take_fd(f->t), -ENOENT);
    fd_close(pipes[0]);
    fd_close(pipes[1]);
}

static void too_many_fds(void **state) {
    struct fixture *f = *state;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (int i = 0; i < TRANSPORT_FDS_MAX; i++)
        assert_int_equal(fd_send(f->peer, "a", 1, &null, 1), 1);
    RUN_UNTIL(f->event, f->have == TRANSPORT_FDS_MAX);
    assert_int_equal(f->n_closed, 0);
    assert_int_equal(fd_send(f->peer, "a", 1, &null, 1), 1);
    RUN_UNTIL(f->event, f->n_closed == 1);
    assert_int_equal(f->closed.code, EMSGSIZE);
    fd_close(null);
}

/* At once, and from behind a full queue. */
static void fds_go_out(void **state) {
    struct fixture *f = *state;
    static uint8_t big[1 << 20];
    uint8_t buf[1 << 16];
    int got[FD_PASS_MAX], pipes[2];
    size_t n = 0, have = 0;
    struct err err = ERR_INIT;
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_int_equal(transport_send_fds(f->t, "hi", 2, pipes, 2, &err), 0);
    assert_int_equal(fd_receive(f->peer, buf, sizeof(buf), got, &n), 2);
    assert_int_equal(n, 2);
    assert_true(same_file(got[0], pipes[0]));
    assert_true(same_file(got[1], pipes[1]));
    fd_close(got[0]);
    fd_close(got[1]);

    assert_int_equal(fd_set_nonblock(f->peer, true), 0);
    assert_int_equal(transport_send(f->t, big, sizeof(big), &err), 0);
    assert_int_equal(transport_send_fds(f->t, "yo", 2, &pipes[1], 1, &err), 0);
    fd_close(pipes[1]); /* the transport has its own */
    while (have < sizeof(big) + 2) {
        ssize_t r = -EAGAIN;
        RUN_UNTIL(f->event, (r = fd_receive(f->peer, buf, sizeof(buf), got, &n)) != -EAGAIN);
        assert_true(r > 0);
        have += (size_t)r;
        assert_int_equal(n, have > sizeof(big) ? 1 : 0);
    }
    assert_true(same_file(got[0], pipes[0]));
    fd_close(got[0]);
    fd_close(pipes[0]);
    assert_int_equal(transport_send_fds(f->t, "", 0, &f->peer, 1, &err), -EINVAL);
    int many[FD_PASS_MAX + 1] = {0};
    assert_int_equal(transport_send_fds(f->t, "x", 1, many, ARRAY_SIZE(many), &err), -EINVAL);
}

static void flush(void **state) {
    struct fixture *f = *state;
    static uint8_t big[1 << 20], in[1 << 20];
    assert_int_equal(transport_flush(f->t, 0), 0);
    assert_int_equal(transport_send(f->t, big, sizeof(big), NULL), 0);
    uint64_t start = now_usec();
    assert_int_equal(transport_flush(f->t, 30 * USEC_PER_MSEC), -ETIMEDOUT);
    assert_true(now_usec() - start >= 30 * USEC_PER_MSEC);
    size_t got = 0;
    while (got < sizeof(in)) {
        got += read_now(f->peer, in, sizeof(in));
        (void)transport_flush(f->t, 0);
    }
    assert_int_equal(transport_flush(f->t, 0), 0);
    assert_int_equal(transport_send(f->t, big, sizeof(big), NULL), 0);
    f->peer = fd_close(f->peer);
    assert_true(transport_flush(f->t, TEST_DEADLINE) < 0); /* at once */
    assert_int_equal(f->n_closed, 0);
    RUN_UNTIL(f->event, f->n_closed == 1);
}

static void credentials(void **state) {
    struct fixture *f = *state;
    uid_t uid = (uid_t)-1;
    assert_int_equal(transport_peer_uid(f->t, &uid), 0);
    assert_int_equal(uid, getuid());
}

static void takes_fd_on_failure(void **state) {
    struct fixture *f = *state;
    struct transport *t = NULL;
    struct err err = ERR_INIT;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC); /* a file cannot be watched */
    assert_true(transport_new_plain(f->event, fd, &ops, f, &t, &err) < 0);
    assert_true(err.code > 0);
    assert_null(t);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(ready_comes_from_the_loop),
        TEST(both_ways),
        TEST(large),
        TEST(peer_closes),
        TEST(write_to_closed_peer),
        TEST(half_closed_peer),
        TEST(data_refused),
        TEST(free_in_ready),
        TEST(free_in_data),
        TEST(free_in_drained),
        TEST(free_in_closed),
        TEST(free_and_fail_in_data),
        TEST(bound_and_drained),
        TEST(drained_after_refusal_below_half),
        TEST(fds_come_in),
        TEST(too_many_fds),
        TEST(fds_go_out),
        TEST(flush),
        TEST(credentials),
        TEST(takes_fd_on_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
