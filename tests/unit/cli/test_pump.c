/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/pump.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "support.h"
#include "tmpdir.h"

struct end {
    bool done;
    size_t seen; /* by the filter */
    size_t stop_at;
};

static void on_done(struct pump *p, void *userdata) {
    (void)p;
    ((struct end *)userdata)->done = true;
}

static bool on_filter(char *buf, size_t *len, void *userdata) {
    (void)buf;
    struct end *e = userdata;
    e->seen += *len;
    return e->stop_at && e->seen >= e->stop_at;
}

static const struct pump_ops ops = {.filter = on_filter, .done = on_done};

static void run_until_done(sd_event *event, const struct end *e) {
    uint64_t end = now_usec() + TEST_DEADLINE;
    while (!e->done) {
        assert_true(now_usec() < end);
        assert_true(sd_event_run(event, 100 * USEC_PER_MSEC) >= 0);
    }
}

static int write_pattern(const struct tmpdir *t, const char *name, size_t size) {
    cleanup_free char *path = tmpdir_path(t, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    cleanup_free unsigned char *buf = malloc(size);
    for (size_t i = 0; i < size; i++)
        buf[i] = (unsigned char)(i * 31 + i / 251);
    assert_int_equal(fd_write_all(fd, buf, size), 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static void assert_same(int a, int b, size_t size) {
    cleanup_free char *one = NULL;
    cleanup_free char *two = NULL;
    size_t n1, n2;
    lseek(a, 0, SEEK_SET);
    lseek(b, 0, SEEK_SET);
    assert_int_equal(fd_read_all(a, size + 1, &one, &n1, NULL), 0);
    assert_int_equal(fd_read_all(b, size + 1, &two, &n2, NULL), 0);
    assert_int_equal(n1, size);
    assert_int_equal(n2, size);
    assert_memory_equal(one, two, size);
}

/* File to socket to file: regular files cannot be polled, the socket's buffer is smaller than the data. */
static void moves_everything(void **state) {
    const struct tmpdir *t = *state;
    const size_t size = 3 * PUMP_BUFFER * 7 + 5;
    sd_event *event = NULL;
    int pair[2];
    assert_true(sd_event_new(&event) >= 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    cleanup_fd int in = write_pattern(t, "in", size), out = write_pattern(t, "out", 0);
    struct end a = {0}, b = {0};
    struct pump *first = NULL, *second = NULL;
    assert_int_equal(pump_new(event, in, pair[0], &ops, &a, &first, NULL), 0);
    assert_int_equal(pump_new(event, pair[1], out, &ops, &b, &second, NULL), 0);
    run_until_done(event, &a);
    assert_false(b.done);
    shutdown(pair[0], SHUT_WR);
    run_until_done(event, &b);
    assert_true(*pump_done(first) && *pump_done(second));
    assert_int_equal(a.seen, size);
    assert_same(in, out, size);
    pump_free(first);
    pump_free(second);
    sd_event_unref(event);
    close(pair[0]);
    close(pair[1]);
}

static void ends_when_the_reader_is_gone(void **state) {
    const struct tmpdir *t = *state;
    sd_event *event = NULL;
    int p[2];
    assert_true(sd_event_new(&event) >= 0);
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    close(p[0]);
    cleanup_fd int in = write_pattern(t, "in", 100), to = p[1];
    struct end e = {0};
    struct pump *pump = NULL;
    assert_int_equal(pump_new(event, in, to, &ops, &e, &pump, NULL), 0);
    run_until_done(event, &e);
    pump_free(pump);
    sd_event_unref(event);
}

static void stops_for_the_filter(void **state) {
    const struct tmpdir *t = *state;
    sd_event *event = NULL;
    assert_true(sd_event_new(&event) >= 0);
    cleanup_fd int in = write_pattern(t, "in", 2 * PUMP_BUFFER), out = write_pattern(t, "out", 0);
    struct end e = {.stop_at = PUMP_BUFFER + 1};
    struct pump *pump = NULL;
    assert_int_equal(pump_new(event, in, out, &ops, &e, &pump, NULL), 0);
    run_until_done(event, &e);
    assert_int_equal(lseek(out, 0, SEEK_END), PUMP_BUFFER); /* what stopped it was dropped */
    pump_free(pump);
    sd_event_unref(event);
}

/* While nobody takes what was read, nothing more is read. */
static void is_held_back_by_a_slow_reader(void **state) {
    (void)state;
    sd_event *event = NULL;
    int a[2], b[2];
    assert_true(sd_event_new(&event) >= 0);
    assert_int_equal(pipe2(a, O_CLOEXEC | O_NONBLOCK), 0);
    assert_int_equal(pipe2(b, O_CLOEXEC), 0);
    struct end e = {0};
    struct pump *pump = NULL;
    assert_int_equal(pump_new(event, a[0], b[1], &ops, &e, &pump, NULL), 0);
    char buf[4096] = "";
    size_t total = 0;
    /* Fill until the source is full and the loop has nothing left to do. */
    for (;;) {
        ssize_t n = write(a[1], buf, sizeof(buf));
        if (n > 0)
            total += (size_t)n;
        int r = sd_event_run(event, 0);
        assert_true(r >= 0);
        if (n < 0 && r == 0)
            break;
        assert_true(total < 64 * PUMP_BUFFER);
    }
    assert_true(e.seen <= 3 * PUMP_BUFFER);
    assert_true(e.seen < total);
    pump_free(pump);
    sd_event_unref(event);
    for (int i = 0; i < 2; i++) {
        close(a[i]);
        close(b[i]);
    }
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(moves_everything, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(ends_when_the_reader_is_gone, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(stops_for_the_filter, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test(is_held_back_by_a_slow_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
