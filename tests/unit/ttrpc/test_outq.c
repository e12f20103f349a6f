/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <fcntl.h>

#include "ttrpc/outq.h"

static void add(struct outq *q, const void *buf, size_t len) {
    uint8_t *p = outq_reserve(q, len);
    assert_non_null(p);
    memcpy(p, buf, len);
    outq_commit(q, len);
}

/* Whatever mixture of adding and writing: the bytes come out in order, and the memory does not grow with their sum. */
static void order(void **state) {
    (void)state;
    struct outq q = {0};
    int fds[2];
    uint8_t in[5000], out[65536], next_in = 0, next_out = 0;
    size_t added = 0, seen = 0;
    new_pair(fds);
    assert_int_equal(fd_set_nonblock(fds[0], true), 0);
    for (unsigned i = 0; seen < 4 << 20; i++) {
        size_t n = 1 + (i * 977) % sizeof(in);
        for (size_t k = 0; k < n; k++)
            in[k] = next_in++;
        add(&q, in, n);
        added += n;
        assert_int_equal(outq_write(&q, fds[0], true), 0);
        if (i % 3 == 0 || q.len > 200000) {
            n = read_now(fds[1], out, 1 + (i * 7919) % sizeof(out));
            for (size_t k = 0; k < n; k++)
                assert_int_equal(out[k], next_out++);
            seen += n;
        }
        assert_true(q.cap <= 1 << 20);
        assert_true(q.pos + q.len == added);
    }
    outq_clear(&q);
    assert_int_equal(q.len, 0);
    assert_null(q.buf);
    fd_close(fds[0]);
    fd_close(fds[1]);
}

static void empty_gives_memory_back(void **state) {
    (void)state;
    struct outq q = {0};
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    static uint8_t big[1 << 20];
    add(&q, big, 100);
    assert_int_equal(outq_write(&q, fd, false), 0);
    assert_non_null(q.buf); /* a small one stays: the next send needs no allocation */
    add(&q, big, sizeof(big));
    assert_int_equal(outq_write(&q, fd, false), 0);
    assert_null(q.buf);
    add(&q, big, 10); /* and can be used again */
    assert_int_equal(outq_write(&q, fd, false), 0);
    outq_clear(&q);
    fd_close(fd);
}

/* Each lot of fds arrives with the byte it was put beside, not earlier. */
static void fds_stay_in_place(void **state) {
    (void)state;
    struct outq q = {0};
    int fds[2], null = open("/dev/null", O_RDONLY | O_CLOEXEC), got[FD_PASS_MAX];
    uint8_t buf[64];
    size_t n = 0;
    new_pair(fds);
    add(&q, "aaaa", 4);
    assert_int_equal(outq_add_fds(&q, (int[]){null, null}, 2), 0);
    add(&q, "bb", 2);
    add(&q, "cc", 2);
    assert_int_equal(outq_add_fds(&q, &null, 1), 0);
    add(&q, "d", 1);
    assert_int_equal(q.n_fds, 3);
    assert_int_equal(outq_write(&q, fds[0], true), 0);
    assert_int_equal(q.n_fds, 0);

    assert_int_equal(fd_receive(fds[1], buf, 4, got, &n), 4);
    assert_int_equal(n, 0);
    assert_int_equal(fd_receive(fds[1], buf, sizeof(buf), got, &n), 4);
    assert_memory_equal(buf, "bbcc", 4);
    assert_int_equal(n, 2);
    fd_close(got[0]);
    fd_close(got[1]);
    assert_int_equal(fd_receive(fds[1], buf, sizeof(buf), got, &n), 1);
    assert_int_equal(n, 1);
    fd_close(got[0]);
    fd_close(null);
    outq_clear(&q);
    fd_close(fds[0]);
    fd_close(fds[1]);
}

static void fds_are_bounded_and_closed(void **state) {
    (void)state;
    struct outq q = {0};
    int pipes[2];
    uint8_t b;
    assert_int_equal(pipe2(pipes, O_CLOEXEC | O_NONBLOCK), 0);
    for (size_t i = 0; i < OUTQ_FDS_MAX; i++)
        assert_int_equal(outq_add_fds(&q, &pipes[1], 1), 0);
    assert_int_equal(outq_add_fds(&q, &pipes[1], 1), -ENOBUFS);
    assert_int_equal(outq_add_fds(&q, (int[]){-1}, 1), -ENOBUFS);
    fd_close(pipes[1]);
    assert_int_equal(read(pipes[0], &b, 1), -1); /* the duplicates keep it open */
    outq_clear(&q);
    assert_int_equal(read(pipes[0], &b, 1), 0);
    assert_int_equal(q.n_fds, 0);
    assert_int_equal(outq_add_fds(&q, (int[]){pipes[0], -1}, 2), -EBADF);
    assert_int_equal(q.n_fds, 0);
    fd_close(pipes[0]);
}

static void errors(void **state) {
    (void)state;
    struct outq q = {0};
    int fds[2];
    new_pair(fds);
    fd_close(fds[1]);
    add(&q, "x", 1);
    assert_int_equal(outq_write(&q, fds[0], true), -EPIPE); /* and no SIGPIPE */
    outq_clear(&q);
    fd_close(fds[0]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order),
        cmocka_unit_test(empty_gives_memory_back),
        cmocka_unit_test(fds_stay_in_place),
        cmocka_unit_test(fds_are_bounded_and_closed),
        cmocka_unit_test(errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
