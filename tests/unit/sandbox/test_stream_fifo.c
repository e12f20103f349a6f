/* SPDX-License-Identifier: Apache-2.0 */
/* fifo.c and what stream.c makes of FIFOs and loggers: peers that come and go. */
#include "sandbox/fifo.h"
#include "stream_fixture.h"

#include <sys/resource.h>

#define SHORT_USEC (50 * USEC_PER_MSEC)

static int setup(void **state) {
    if (fixture_setup(state) < 0)
        return -1;
    struct fixture *f = *state;
    if (tmpdir_setup((void **)&f->t) < 0)
        return -1;
    f->fifo = tmpdir_path(f->t, "fifo");
    f->spec.kind = STDIO_FIFO;
    return mkfifo(f->fifo, 0600);
}

/* Takes fd. */
static void start(struct fixture *f, int fd) {
    new_stream(f, fd);
    stream_start(f->stream);
}

static void start_output(struct fixture *f) {
    struct err err = ERR_INIT;
    int fd = fifo_open(f->fifo, false, &err);
    if (fd < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(fcntl(fd, F_SETPIPE_SZ, PIPE_SIZE), PIPE_SIZE);
    start(f, fd);
}

static void start_input(struct fixture *f, bool reopen) {
    f->spec.which = IN;
    f->spec.reopen = reopen;
    start(f, fifo_open(f->fifo, true, NULL));
    run_idle(f->event);
    assert_int_equal(f->agent->n_close_stdin, 0); /* nobody has come, so nobody has left */
}

static void come(struct fixture *f) {
    assert_int_equal(f->peer, -1);
    f->peer = open(f->fifo, (f->spec.which == IN ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_CLOEXEC);
    assert_true(f->peer >= 0);
}

static void leave(struct fixture *f) {
    f->peer = fd_close(f->peer);
}

/* ---- fifo.c ---- */

static void test_open(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    cleanup_fd int out = fifo_open(f->fifo, false, &err);
    assert_true(out >= 0);
    assert_int_equal(fcntl(out, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_WRONLY | O_NONBLOCK);
    assert_int_equal(fcntl(out, F_GETFD), FD_CLOEXEC);
    assert_false(fifo_has_reader(out));
    assert_int_equal(fifo_pending(out), 0);
    cleanup_fd int in = fifo_open(f->fifo, true, &err);
    assert_true(in >= 0);
    assert_int_equal(fcntl(in, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDONLY | O_NONBLOCK);
    assert_true(fifo_has_reader(out));
    assert_int_equal(write(out, "abc", 3), 3);
    assert_int_equal(fifo_pending(out), 3);
}

static void test_open_wrong_type(void **state) {
    struct fixture *f = *state;
    cleanup_free char *file = tmpdir_path(f->t, "file"), *link = tmpdir_path(f->t, "link"),
                      *none = tmpdir_path(f->t, "none");
    tmpdir_write(f->t, "file", "x");
    assert_int_equal(symlink(f->fifo, link), 0);
    const struct {
        const char *path;
        int code;
        const char *says;
    } bad[] = {{file, -EINVAL, "is a regular file, not a FIFO"},
               {f->t->path, -EINVAL, "is a directory, not a FIFO"},
               {link, -EINVAL, "is a symbolic link, not a FIFO"},
               {"/dev/null", -EINVAL, "is a device, not a FIFO"},
               {none, -ENOENT, "cannot open FIFO"}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        for (int input = 0; input < 2; input++) {
            struct err err = ERR_INIT;
            assert_int_equal(fifo_open(bad[i].path, input, &err), bad[i].code);
            ASSERT_SAYS(&err, bad[i].says);
            ASSERT_SAYS(&err, bad[i].path);
        }
}

static void count_open(void *userdata) {
    ++*(size_t *)userdata;
}

/* Without inotify the FIFO is looked at from time to time. */
static void test_watch_without_inotify(void **state) {
    struct fixture *f = *state;
    size_t n = 0;
    struct fifo_watch *w = NULL;
    cleanup_fd int out = fifo_open(f->fifo, false, NULL);
    sd_event_source *timer = NULL; /* so that sd-event has its timerfd */
    assert_true(sd_event_add_time_relative(f->event, &timer, CLOCK_MONOTONIC, TEST_DEADLINE, 0, NULL, NULL) >= 0);
    /* No fd is left, so no inotify instance can be had. */
    struct rlimit old, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    int next = dup(out);
    assert_true(next >= 0);
    close(next);
    none = (struct rlimit){.rlim_cur = (rlim_t)next, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int r = fifo_watch_new(f->event, out, count_open, &n, &w, NULL);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(r, 0);
    run_idle(f->event);
    assert_int_equal(n, 0);
    come(f);
    RUN_UNTIL(f->event, n >= 2);
    fifo_watch_free(w);
    sd_event_source_disable_unref(timer);
}

/* ---- output ---- */

static void test_output(void **state) {
    struct fixture *f = *state;
    come(f);
    start_output(f);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    expect_output(f, f->data, DATA_LEN, false);
    mock_output_end(f->agent, OUT);
    expect_output(f, NULL, 0, true);
    RUN_UNTIL(f->event, f->n_done);
    run_idle(f->event);
    assert_int_equal(f->n_done, 1);
    assert_int_equal(f->agent->output[OUT].n_closed, 0);
}

/* Nobody reads at first: the process is not told, and is held up once one answer is here. */
static void test_reader_comes_late(void **state) {
    struct fixture *f = *state;
    const struct mock_output *o = &f->agent->output[OUT];
    start_output(f);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    RUN_UNTIL(f->event, o->n_reads == 1);
    run_idle(f->event);
    assert_int_equal(o->n_reads, 1);
    assert_int_equal(o->len, DATA_LEN - STREAM_CHUNK);
    come(f);
    expect_output(f, f->data, DATA_LEN, false);
    mock_output_end(f->agent, OUT);
    expect_output(f, NULL, 0, true);
    RUN_UNTIL(f->event, f->n_done);
    assert_int_equal(o->n_closed, 0);
}

/* A reader that goes away while the process is silent, or in the middle of what it writes, and others after it:
 * together they get all of it once. */
static void test_readers_come_and_go(void **state) {
    struct fixture *f = *state;
    come(f);
    start_output(f);
    RUN_UNTIL(f->event, f->agent->output[OUT].n_reads == 1);
    leave(f);
    run_idle(f->event);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    size_t have = 0;
    for (size_t part = 1000; have < DATA_LEN; part += 50000) {
        run_idle(f->event);
        come(f);
        part = MIN(part, DATA_LEN - have);
        expect_output(f, f->data + have, part, false);
        have += part;
        leave(f);
    }
    run_idle(f->event);
    assert_int_equal(f->n_done, 0);
    assert_int_equal(f->agent->output[OUT].n_closed, 0);
    mock_output_end(f->agent, OUT);
    RUN_UNTIL(f->event, f->n_done);
}

/* Somebody who opens the FIFO and is no reader changes nothing. */
static void test_no_reader_opens(void **state) {
    struct fixture *f = *state;
    start_output(f);
    mock_output(f->agent, OUT, "hello", 5);
    RUN_UNTIL(f->event, f->agent->output[OUT].n_reads == 1);
    run_idle(f->event);
    cleanup_fd int other = fifo_open(f->fifo, false, NULL);
    assert_true(other >= 0);
    run_idle(f->event);
    assert_int_equal(fifo_pending(other), 0);
    assert_int_equal(f->n_done, 0);
    come(f);
    expect_output(f, (const uint8_t *)"hello", 5, false);
}

/* The process has exited and nobody reads: its exit is not held up for ever. */
static void test_exit_without_reader(void **state) {
    struct fixture *f = *state;
    f->spec.absent_usec = SHORT_USEC;
    start_output(f);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    RUN_UNTIL(f->event, f->agent->output[OUT].n_reads == 1);
    uint64_t start = now_usec();
    stream_process_exited(f->stream);
    stream_process_exited(f->stream);
    RUN_UNTIL(f->event, f->n_done);
    assert_true(now_usec() - start >= SHORT_USEC);
    assert_true(now_usec() - start < STREAM_STALL_USEC / 3);
    run_idle(f->event);
    assert_int_equal(f->n_done, 1);
}

/* The exit is known before the output is here. */
static void test_exit_before_output(void **state) {
    struct fixture *f = *state;
    f->spec.absent_usec = SHORT_USEC;
    start_output(f);
    RUN_UNTIL(f->event, f->agent->output[OUT].n_reads == 1);
    stream_process_exited(f->stream);
    run_idle(f->event);
    assert_int_equal(f->n_done, 0); /* nothing is held, and there may be more */
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    RUN_UNTIL(f->event, f->n_done);
}

static void test_exit_reader_stalls(void **state) {
    struct fixture *f = *state;
    f->spec.stall_usec = 4 * SHORT_USEC;
    come(f);
    start_output(f);
    stream_process_exited(f->stream);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    uint64_t start = now_usec();
    expect_output(f, f->data, 5000, false);
    RUN_UNTIL(f->event, f->n_done);
    assert_true(now_usec() - start >= f->spec.stall_usec);
}

/* One that comes and goes without reading is not waited for longer. */
static void test_exit_reader_flaps(void **state) {
    struct fixture *f = *state;
    f->spec.stall_usec = 4 * SHORT_USEC;
    f->spec.absent_usec = 2 * SHORT_USEC;
    start_output(f);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    RUN_UNTIL(f->event, f->agent->output[OUT].n_reads == 1);
    stream_process_exited(f->stream);
    uint64_t end = now_usec() + TEST_DEADLINE;
    while (!f->n_done) {
        assert_true(now_usec() < end);
        if (f->peer < 0)
            come(f);
        else
            leave(f);
        assert_true(sd_event_run(f->event, 5 * USEC_PER_MSEC) >= 0);
    }
}

/* A reader that comes in time gets everything, however long it takes in all. */
static void test_exit_reader_in_time(void **state) {
    struct fixture *f = *state;
    start_output(f);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    mock_output_end(f->agent, OUT);
    RUN_UNTIL(f->event, f->agent->output[OUT].n_reads == 1);
    stream_process_exited(f->stream);
    run_idle(f->event);
    come(f);
    expect_output(f, f->data, DATA_LEN, true);
    RUN_UNTIL(f->event, f->n_done);
    assert_int_equal(f->agent->output[OUT].n_closed, 0);
}

/* What the last reader left in the FIFO is there for the next, also after the end. */
static void test_end_with_unread(void **state) {
    struct fixture *f = *state;
    come(f);
    start_output(f);
    mock_output(f->agent, OUT, f->data, 1000);
    expect_output(f, f->data, 400, false);
    leave(f);
    mock_output_end(f->agent, OUT);
    run_idle(f->event);
    stream_process_exited(f->stream);
    run_idle(f->event);
    assert_int_equal(f->n_done, 0);
    come(f);
    RUN_UNTIL(f->event, f->n_done);
    expect_output(f, f->data + 400, 600, true);
}

static void test_free_while_absent(void **state) {
    struct fixture *f = *state;
    start_output(f);
    mock_output(f->agent, OUT, f->data, 1000);
    RUN_UNTIL(f->event, f->agent->output[OUT].n_reads == 1);
    run_idle(f->event);
    stream_process_exited(f->stream);
    f->stream = stream_free(f->stream);
    come(f);
    run_idle(f->event);
    assert_int_equal(f->n_done, 0);
}

/* ---- loggers ---- */

/* A logger that dies takes no more; the process goes on. */
static void test_logger_dies(void **state) {
    struct fixture *f = *state;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    f->peer = fds[0];
    f->spec.kind = STDIO_LOG;
    start(f, fds[1]);
    assert_int_equal(fd_set_nonblock(f->peer, true), 0);
    mock_output(f->agent, OUT, "before", 6);
    expect_output(f, (const uint8_t *)"before", 6, false);
    leave(f);
    run_idle(f->event);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    RUN_UNTIL(f->event, f->agent->output[OUT].len == 0);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    mock_output_end(f->agent, OUT);
    RUN_UNTIL(f->event, f->n_done);
    assert_int_equal(f->agent->output[OUT].n_closed, 0);
}

static void test_logger_hangs_after_exit(void **state) {
    struct fixture *f = *state;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    f->peer = fds[0];
    f->spec.kind = STDIO_LOG;
    f->spec.stall_usec = SHORT_USEC;
    start(f, fds[1]);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    RUN_UNTIL(f->event, f->agent->output[OUT].n_reads == 1);
    run_idle(f->event);
    stream_process_exited(f->stream);
    RUN_UNTIL(f->event, f->n_done);
}

/* A full disk costs log lines, not the container. */
static void test_log_file_full(void **state) {
    struct fixture *f = *state;
    f->spec.kind = STDIO_LOG;
    start(f, open("/dev/full", O_WRONLY | O_CLOEXEC));
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    mock_output_end(f->agent, OUT);
    RUN_UNTIL(f->event, f->n_done);
    assert_int_equal(f->agent->output[OUT].len, 0);
    assert_int_equal(f->agent->output[OUT].n_closed, 0);
}

/* ---- input ---- */

/* The process of a pipe sees the end when the writers have left. */
static void test_input_ends(void **state) {
    struct fixture *f = *state;
    start_input(f, false);
    come(f);
    run_idle(f->event);
    assert_int_equal(f->agent->n_close_stdin, 0);
    assert_int_equal(write(f->peer, "hello", 5), 5);
    leave(f);
    RUN_UNTIL(f->event, f->agent->n_close_stdin == 1);
    expect_input(f, "hello", 5);
    assert_true(stream_is_done(f->stream));
}

/* A writer that left without a word is one too. */
static void test_input_ends_empty(void **state) {
    struct fixture *f = *state;
    start_input(f, false);
    come(f);
    leave(f);
    RUN_UNTIL(f->event, f->agent->n_close_stdin == 1);
    assert_int_equal(f->agent->n_writes, 0);
}

/* A terminal is attached to again and again. */
static void test_input_reopened(void **state) {
    struct fixture *f = *state;
    start_input(f, true);
    for (size_t i = 0; i < 3; i++) {
        come(f);
        assert_int_equal(write(f->peer, f->data + i * 100, 100), 100);
        expect_input(f, f->data, (i + 1) * 100);
        leave(f);
        run_idle(f->event);
    }
    /* One that comes and goes within a turn of the loop. */
    come(f);
    assert_int_equal(write(f->peer, f->data + 300, 100), 100);
    leave(f);
    come(f);
    assert_int_equal(write(f->peer, f->data + 400, 100), 100);
    leave(f);
    expect_input(f, f->data, 500);
    run_idle(f->event);
    assert_int_equal(f->agent->n_close_stdin, 0);
    assert_false(stream_is_done(f->stream));
    stream_close_input(f->stream);
    RUN_UNTIL(f->event, f->agent->n_close_stdin == 1);
}

/* The writer left while the process did not read. */
static void test_input_reopened_while_held(void **state) {
    struct fixture *f = *state;
    start_input(f, true);
    f->agent->hold_write = true;
    come(f);
    assert_int_equal(write(f->peer, f->data, 100), 100);
    RUN_UNTIL(f->event, f->agent->n_writes == 1);
    leave(f);
    run_idle(f->event);
    come(f);
    assert_int_equal(write(f->peer, f->data + 100, 100), 100);
    f->agent->hold_write = false;
    mock_answer_write(f->agent, 100);
    expect_input(f, f->data, 200);
    leave(f);
    run_idle(f->event);
    assert_int_equal(f->agent->n_close_stdin, 0);
}

/* CloseIO while a writer never stops: what is in the FIFO then is the rest. */
static void test_close_endless_input(void **state) {
    struct fixture *f = *state;
    start_input(f, true);
    f->agent->hold_write = true;
    come(f);
    assert_int_equal(write(f->peer, f->data, 100), 100);
    RUN_UNTIL(f->event, f->agent->n_writes == 1);
    assert_int_equal(write(f->peer, f->data + 100, 900), 900);
    stream_close_input(f->stream);
    assert_int_equal(write(f->peer, f->data + 1000, 1000), 1000);
    f->agent->hold_write = false;
    mock_answer_write(f->agent, 100);
    uint64_t end = now_usec() + TEST_DEADLINE;
    while (!f->agent->n_close_stdin) {
        assert_true(now_usec() < end);
        ssize_t n = write(f->peer, f->data, 1000);
        assert_true(n > 0 || errno == EAGAIN || errno == EPIPE);
        assert_true(sd_event_run(f->event, 0) >= 0);
    }
    expect_input(f, f->data, 1000);
}

/* The same for a device that never ends and does not say what it holds. */
static void test_close_endless_device(void **state) {
    struct fixture *f = *state;
    f->spec.which = IN;
    f->spec.kind = STDIO_FD;
    start(f, open("/dev/zero", O_RDONLY | O_CLOEXEC));
    RUN_UNTIL(f->event, f->agent->n_writes >= 3);
    size_t before = f->agent->n_writes;
    stream_close_input(f->stream);
    RUN_UNTIL(f->event, f->agent->n_close_stdin == 1);
    assert_true(f->agent->n_writes <= before + 2);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_open),
        TEST(test_open_wrong_type),
        TEST(test_watch_without_inotify),
        TEST(test_output),
        TEST(test_reader_comes_late),
        TEST(test_readers_come_and_go),
        TEST(test_no_reader_opens),
        TEST(test_exit_without_reader),
        TEST(test_exit_before_output),
        TEST(test_exit_reader_stalls),
        TEST(test_exit_reader_flaps),
        TEST(test_exit_reader_in_time),
        TEST(test_end_with_unread),
        TEST(test_free_while_absent),
        TEST(test_logger_dies),
        TEST(test_logger_hangs_after_exit),
        TEST(test_log_file_full),
        TEST(test_input_ends),
        TEST(test_input_ends_empty),
        TEST(test_input_reopened),
        TEST(test_input_reopened_while_held),
        TEST(test_close_endless_input),
        TEST(test_close_endless_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
