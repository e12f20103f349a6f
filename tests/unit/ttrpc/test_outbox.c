/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <sys/wait.h>

#include "ttrpc/outbox.h"

struct fixture {
    sd_event *event;
    struct transport *t;
    struct outbox o;
    int peer;
    uint32_t next_in; /* number expected in the next frame */
    size_t have;
    uint8_t buf[1 << 16];
};

static int on_data(struct transport *t, const uint8_t *buf, size_t len, void *userdata, struct err *err) {
    (void)t, (void)buf, (void)len, (void)userdata, (void)err;
    return 0;
}

static void on_drained(struct transport *t, void *userdata) {
    struct fixture *f = userdata;
    (void)t;
    outbox_push(&f->o);
}

static void on_closed(struct transport *t, const struct err *err, void *userdata) {
    (void)t, (void)err, (void)userdata;
}

static const struct transport_ops ops = {.data = on_data, .drained = on_drained, .closed = on_closed};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = ERR_INIT;
    int fds[2];
    f->event = new_event();
    new_pair(fds);
    f->peer = fds[0];
    assert_int_equal(transport_new_plain(f->event, fds[1], &ops, f, &f->t, &err), 0);
    outbox_init(&f->o, f->t);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    outbox_clear(&f->o);
    transport_free(f->t);
    fd_close(f->peer);
    sd_event_unref(f->event);
    free(f);
    return 0;
}

/* A frame of `len` bytes that are all its number. */
static int send_numbered(struct fixture *f, uint32_t number, size_t len, struct err *err) {
    uint32_t *p = malloc(len);
    assert_non_null(p);
    for (size_t i = 0; i < len / 4; i++)
        p[i] = number;
    return outbox_send(&f->o, (uint8_t *)p, len, NULL, 0, err);
}

static void receive(struct fixture *f, size_t frame) {
    for (;;) {
        size_t n = read_now(f->peer, f->buf + f->have % 4, sizeof(f->buf) - 4);
        if (n == 0)
            return;
        const uint8_t *p = f->buf;
        size_t left = f->have % 4 + n;
        for (; left >= 4; left -= 4, p += 4) {
            uint32_t v;
            memcpy(&v, p, 4);
            size_t at = f->have - f->have % 4 + (size_t)(p - f->buf);
            if (v != at / frame)
                fail_msg("frame %zu: %u", at / frame, v);
        }
        memmove(f->buf, p, left);
        f->have += n;
    }
}

/* Far more than the transport's queue takes: kept, and sent in order as the peer reads. */
static void keeps_and_sends_in_order(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    enum { FRAME = 1 << 20, COUNT = 30 };
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(send_numbered(f, i, FRAME, &err), 0);
    assert_int_equal(err.code, 0);
    assert_true(f->o.len > 0);
    assert_true(transport_queued(f->t) <= TRANSPORT_SEND_MAX);
    RUN_UNTIL(f->event, (receive(f, FRAME), f->have == (size_t)FRAME * COUNT));
    assert_int_equal(f->o.len, 0);
}

static void bound(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    size_t sent = 0;
    int r;
    while ((r = send_numbered(f, 0, 1 << 20, &err)) == 0)
        assert_true((sent += 1 << 20) < OUTBOX_MAX + TRANSPORT_SEND_MAX + (1 << 20));
    assert_int_equal(r, -ENOBUFS);
    assert_int_equal(err.code, ENOBUFS);
    assert_true(sent > OUTBOX_MAX);
    /* Small ones have a reserve, and count with what they cost. */
    while (send_numbered(f, 0, 4, NULL) == 0)
        assert_true(f->o.len <= OUTBOX_MAX + OUTBOX_RESERVE);
    assert_true(f->o.len > OUTBOX_MAX + OUTBOX_RESERVE - 100);
}

static void fds_are_not_kept(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    while (f->o.len == 0)
        assert_int_equal(send_numbered(f, 0, 1 << 20, &err), 0);
    assert_int_equal(outbox_send(&f->o, calloc(1, 8), 8, &f->peer, 1, &err), -ENOBUFS);
}

static void flush(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    for (uint32_t i = 0; i < 12; i++)
        assert_int_equal(send_numbered(f, i, 1 << 20, &err), 0);
    assert_true(f->o.len > 0);
    assert_int_equal(outbox_flush(&f->o, 10 * USEC_PER_MSEC), -ETIMEDOUT);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        size_t total = 0;
        ssize_t n;
        while (total < 12 << 20 && (n = read(f->peer, f->buf, sizeof(f->buf))) > 0)
            total += (size_t)n;
        _exit(total == 12 << 20 ? 0 : 1);
    }
    assert_int_equal(outbox_flush(&f->o, TEST_DEADLINE), 0);
    assert_int_equal(f->o.len, 0);
    assert_int_equal(transport_queued(f->t), 0);
    int status = 1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void over(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    while (f->o.len == 0)
        assert_int_equal(send_numbered(f, 0, 1 << 20, &err), 0);
    f->peer = fd_close(f->peer);
    run_idle(f->event);
    assert_true(outbox_flush(&f->o, USEC_PER_SEC) < 0);
    outbox_clear(&f->o);
    assert_int_equal(send_numbered(f, 0, 8, &err), -ENOTCONN);
    assert_int_equal(err.code, ENOTCONN);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keeps_and_sends_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(bound, setup, teardown),
        cmocka_unit_test_setup_teardown(fds_are_not_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(flush, setup, teardown),
        cmocka_unit_test_setup_teardown(over, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
