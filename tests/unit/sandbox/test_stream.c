/* SPDX-License-Identifier: Apache-2.0 */
/* stream.c: output and input over each kind of fd a caller may have. */
#include "stream_fixture.h"

#include <pty.h>
#include <termios.h>

/* Takes fd. */
static void start(struct fixture *f, Stasis__Agent__V1__Stream which, int fd) {
    f->spec.exec_id = "e1";
    f->spec.which = which;
    new_stream(f, fd);
    /* Nothing moves yet. */
    run_idle(f->event);
    assert_int_equal(f->agent->output[OUT].n_reads + f->agent->n_writes, 0);
    stream_start(f->stream);
}

static void start_pipe(struct fixture *f, Stasis__Agent__V1__Stream which) {
    start(f, which, new_pipe(f, which));
}

static void start_socket(struct fixture *f, Stasis__Agent__V1__Stream which) {
    int fds[2], small = 4096;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    f->peer = fds[1];
    start(f, which, fds[0]);
    assert_int_equal(fd_set_nonblock(f->peer, true), 0);
}

static int temp_file(void) {
    char path[] = "/tmp/stasis-stream-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(path);
    return fd;
}

/* Puts all of it into the stream's input, as fast as that is taken. */
static void put_input(struct fixture *f, const uint8_t *data, size_t len) {
    uint64_t deadline = now_usec() + TEST_DEADLINE;
    while (len) {
        assert_true(now_usec() < deadline);
        ssize_t n = write(f->peer, data, len);
        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            assert_true(sd_event_run(f->event, 10 * USEC_PER_MSEC) >= 0);
            continue;
        }
        data += n;
        len -= (size_t)n;
    }
}

/* ---- output ---- */

static void output_all(struct fixture *f) {
    mock_output(f->agent, OUT, "hello", 5);
    expect_output(f, (const uint8_t *)"hello", 5, false);
    assert_string_equal(f->agent->last, "c1/e1");
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    expect_output(f, f->data, DATA_LEN, false);
    assert_int_equal(f->n_done, 0);
    mock_output(f->agent, OUT, "end", 3);
    mock_output_end(f->agent, OUT);
    expect_output(f, (const uint8_t *)"end", 3, true);
    RUN_UNTIL(f->event, f->n_done);
    run_idle(f->event);
    assert_int_equal(f->n_done, 1);
    assert_true(stream_is_done(f->stream));
    assert_int_equal(f->agent->output[OUT].n_closed, 0);
}

static void test_output_pipe(void **state) {
    start_pipe(*state, OUT);
    output_all(*state);
}

static void test_output_socket(void **state) {
    start_socket(*state, OUT);
    output_all(*state);
}

/* A file is written at the offset of the caller's open file, which the caller goes on using. */
static void test_output_file(void **state) {
    struct fixture *f = *state;
    int fd = temp_file();
    assert_int_equal(write(fd, "first ", 6), 6);
    start(f, OUT, fcntl(fd, F_DUPFD_CLOEXEC, 3));
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    mock_output_end(f->agent, OUT);
    RUN_UNTIL(f->event, f->n_done);
    assert_int_equal(write(fd, "last", 4), 4);
    cleanup_free uint8_t *got = malloc(DATA_LEN + 11);
    assert_int_equal(pread(fd, got, DATA_LEN + 11, 0), DATA_LEN + 10);
    assert_memory_equal(got, "first ", 6);
    assert_memory_equal(got + 6, f->data, DATA_LEN);
    assert_memory_equal(got + 6 + DATA_LEN, "last", 4);
    close(fd);
}

static void test_output_null(void **state) {
    struct fixture *f = *state;
    start(f, OUT, open("/dev/null", O_WRONLY | O_CLOEXEC));
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    mock_output_end(f->agent, OUT);
    RUN_UNTIL(f->event, f->n_done);
}

/* A disk that is full: the process learns that nobody takes its output. */
static void test_output_full_disk(void **state) {
    struct fixture *f = *state;
    start(f, OUT, open("/dev/full", O_WRONLY | O_CLOEXEC));
    mock_output(f->agent, OUT, "x", 1);
    RUN_UNTIL(f->event, f->n_done && f->agent->output[OUT].n_closed == 1);
}

/* Opening a pty's master again would make another pty: the one that was given must be used. */
static void test_output_pty_master(void **state) {
    struct fixture *f = *state;
    struct termios raw;
    int master;
    assert_int_equal(openpty(&master, &f->peer, NULL, NULL, NULL), 0);
    assert_int_equal(tcgetattr(f->peer, &raw), 0);
    cfmakeraw(&raw);
    assert_int_equal(tcsetattr(f->peer, TCSANOW, &raw), 0);
    start(f, OUT, master);
    assert_int_equal(fd_set_nonblock(f->peer, true), 0);
    mock_output(f->agent, OUT, "hello", 5);
    expect_output(f, (const uint8_t *)"hello", 5, false);
}

/* While what was read cannot be written, nothing more is asked for; the fd is not made non-blocking for its other
 * users. */
static void back_pressure(struct fixture *f) {
    const struct mock_output *o = &f->agent->output[OUT];
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    RUN_UNTIL(f->event, o->n_reads == 1);
    run_idle(f->event);
    assert_int_equal(o->n_reads, 1);
    assert_int_equal(o->max, STREAM_CHUNK);
    assert_int_equal(o->len, DATA_LEN - STREAM_CHUNK);
    /* Room for some of it is not enough for the next call. */
    expect_output(f, f->data, STREAM_CHUNK / 2, false);
    run_idle(f->event);
    assert_int_equal(o->n_reads, 1);
    expect_output(f, f->data + STREAM_CHUNK / 2, STREAM_CHUNK / 2, false);
    RUN_UNTIL(f->event, o->n_reads == 2);
    run_idle(f->event);
    assert_int_equal(o->n_reads, 2);
    assert_int_equal(o->len, DATA_LEN - 2 * STREAM_CHUNK);
    mock_output_end(f->agent, OUT);
    assert_int_equal(f->n_done, 0);
    expect_output(f, f->data + STREAM_CHUNK, DATA_LEN - STREAM_CHUNK, true);
    RUN_UNTIL(f->event, f->n_done);
    assert_true(o->n_reads <= DATA_LEN / STREAM_CHUNK + 1);
}

static void test_back_pressure_pipe(void **state) {
    struct fixture *f = *state;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    f->peer = fds[0];
    start(f, OUT, fcntl(fds[1], F_DUPFD_CLOEXEC, 3));
    assert_int_equal(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
    close(fds[1]);
    assert_int_equal(fcntl(f->peer, F_SETPIPE_SZ, PIPE_SIZE), PIPE_SIZE);
    assert_int_equal(fd_set_nonblock(f->peer, true), 0);
    back_pressure(f);
}

static void test_back_pressure_socket(void **state) {
    start_socket(*state, OUT);
    back_pressure(*state);
}

/* The reader goes: at the write, in the middle of one, and while the process is silent. */
static void expect_closed(struct fixture *f) {
    RUN_UNTIL(f->event, f->agent->output[OUT].n_closed);
    RUN_UNTIL(f->event, f->n_done);
    assert_string_equal(f->agent->last, "c1/e1");
    run_idle(f->event);
    assert_int_equal(f->agent->output[OUT].n_closed, 1);
    assert_int_equal(f->n_done, 1);
}

static void test_reader_gone_silent(void **state) {
    struct fixture *f = *state;
    start_pipe(f, OUT);
    RUN_UNTIL(f->event, f->agent->output[OUT].n_reads == 1);
    f->peer = fd_close(f->peer);
    expect_closed(f);
}

static void test_reader_gone_in_write(void **state) {
    struct fixture *f = *state;
    start_pipe(f, OUT);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    RUN_UNTIL(f->event, f->agent->output[OUT].n_reads == 1);
    run_idle(f->event);
    f->peer = fd_close(f->peer);
    expect_closed(f);
}

static void test_reader_gone_socket(void **state) {
    struct fixture *f = *state;
    start_socket(f, OUT);
    RUN_UNTIL(f->event, f->agent->output[OUT].n_reads == 1);
    f->peer = fd_close(f->peer);
    run_idle(f->event);
    mock_output(f->agent, OUT, "x", 1);
    expect_closed(f);
}

/* The reader was gone before the stream was made; the FIFO is empty, or full of what nobody will read. A FIFO without
 * reader cannot be opened again: the fd is used as it is. */
static void reader_gone_before(struct fixture *f, bool full) {
    char path[] = "/tmp/stasis-fifo-XXXXXX";
    assert_non_null(mkdtemp(path));
    cleanup_free char *fifo = path_join(path, "fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    int reader = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    int writer = open(fifo, O_WRONLY | O_CLOEXEC);
    assert_true(reader >= 0 && writer >= 0);
    assert_int_equal(fcntl(writer, F_SETPIPE_SZ, PIPE_SIZE), PIPE_SIZE);
    if (full)
        assert_int_equal(write(writer, f->data, PIPE_SIZE), PIPE_SIZE);
    close(reader);
    unlink(fifo);
    rmdir(path);
    start(f, OUT, writer);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    expect_closed(f);
}

static void test_reader_gone_before(void **state) {
    reader_gone_before(*state, false);
}

static void test_reader_gone_before_full(void **state) {
    reader_gone_before(*state, true);
}

/* The agent cannot read: the stream is over. */
static void test_output_agent_lost(void **state) {
    struct fixture *f = *state;
    start_pipe(f, OUT);
    mock_output(f->agent, OUT, "before", 6);
    expect_output(f, (const uint8_t *)"before", 6, false);
    RUN_UNTIL(f->event, f->agent->output[OUT].n_reads == 2);
    mock_agent_die(f->agent);
    RUN_UNTIL(f->event, f->n_done);
    /* The other end sees the end of it. */
    expect_output(f, NULL, 0, true);
    assert_int_equal(f->n_done, 1);
}

static void test_output_agent_lost_blocked(void **state) {
    struct fixture *f = *state;
    start_pipe(f, OUT);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    RUN_UNTIL(f->event, f->agent->output[OUT].n_reads == 1);
    run_idle(f->event);
    mock_agent_die(f->agent);
    run_idle(f->event);
    assert_int_equal(f->n_done, 0);
    /* What had come is still delivered. */
    expect_output(f, f->data, STREAM_CHUNK, true);
    RUN_UNTIL(f->event, f->n_done);
}

/* Freed in the middle: nothing is called afterwards. */
static void test_output_free(void **state) {
    struct fixture *f = *state;
    start_pipe(f, OUT);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    RUN_UNTIL(f->event, f->agent->output[OUT].n_reads == 1);
    run_idle(f->event);
    f->stream = stream_free(f->stream);
    run_idle(f->event);
    assert_int_equal(f->n_done, 0);
    assert_true(stream_is_done(NULL));
}

static void test_free_unstarted(void **state) {
    struct fixture *f = *state;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    f->peer = fds[0];
    start(f, OUT, fds[1]);
    f->stream = stream_free(f->stream);
    run_idle(f->event);
    assert_int_equal(f->agent->output[OUT].n_reads, 0);
    /* The fd went too. */
    uint8_t b;
    assert_int_equal(read(f->peer, &b, 1), 0);
}

/* ---- input ---- */

static void input_all(struct fixture *f) {
    put_input(f, f->data, 5);
    expect_input(f, f->data, 5);
    assert_string_equal(f->agent->last, "c1/e1");
    put_input(f, f->data + 5, DATA_LEN - 5);
    expect_input(f, f->data, DATA_LEN);
    run_idle(f->event);
    assert_int_equal(f->agent->n_close_stdin, 0);
    f->peer = fd_close(f->peer);
    RUN_UNTIL(f->event, f->agent->n_close_stdin == 1);
    run_idle(f->event);
    assert_int_equal(f->agent->n_close_stdin, 1);
    assert_int_equal(f->agent->input_len, DATA_LEN);
    assert_true(stream_is_done(f->stream));
}

static void test_input_pipe(void **state) {
    start_pipe(*state, IN);
    input_all(*state);
}

static void test_input_socket(void **state) {
    start_socket(*state, IN);
    input_all(*state);
}

static void test_input_file(void **state) {
    struct fixture *f = *state;
    int fd = temp_file();
    assert_int_equal(fd_write_all(fd, f->data, DATA_LEN), 0);
    assert_int_equal(lseek(fd, 10, SEEK_SET), 10);
    start(f, IN, fd);
    RUN_UNTIL(f->event, f->agent->n_close_stdin);
    assert_int_equal(f->agent->input_len, DATA_LEN - 10);
    assert_memory_equal(f->agent->input, f->data + 10, DATA_LEN - 10);
    assert_true(f->agent->n_writes <= DATA_LEN / STREAM_INPUT_CHUNK + 1);
}

static void test_input_null(void **state) {
    struct fixture *f = *state;
    start(f, IN, open("/dev/null", O_RDONLY | O_CLOEXEC));
    RUN_UNTIL(f->event, f->agent->n_close_stdin);
    assert_int_equal(f->agent->n_writes, 0);
}

/* The process does not read: nothing more is taken from the host's side. */
static void test_input_back_pressure(void **state) {
    struct fixture *f = *state;
    start_pipe(f, IN);
    f->agent->hold_write = true;
    assert_int_equal(write(f->peer, f->data, 100), 100);
    RUN_UNTIL(f->event, f->agent->n_writes == 1);
    size_t in_pipe = 0;
    ssize_t n;
    while ((n = write(f->peer, f->data + 100 + in_pipe, 100)) > 0) {
        in_pipe += (size_t)n;
        run_idle(f->event);
    }
    assert_int_equal(errno, EAGAIN);
    assert_true(in_pipe <= PIPE_SIZE);
    assert_int_equal(f->agent->n_writes, 1);
    f->agent->hold_write = false;
    mock_answer_write(f->agent, 100);
    expect_input(f, f->data, 100 + in_pipe);
}

/* The writer ends while the process has not taken what came before. */
static void test_input_end_while_blocked(void **state) {
    struct fixture *f = *state;
    start_pipe(f, IN);
    f->agent->hold_write = true;
    assert_int_equal(write(f->peer, f->data, 100), 100);
    RUN_UNTIL(f->event, f->agent->n_writes == 1);
    assert_int_equal(write(f->peer, f->data + 100, 900), 900);
    f->peer = fd_close(f->peer);
    run_idle(f->event);
    assert_int_equal(f->agent->n_close_stdin, 0);
    f->agent->hold_write = false;
    mock_answer_write(f->agent, 100);
    RUN_UNTIL(f->event, f->agent->n_close_stdin);
    expect_input(f, f->data, 1000);
}

/* The process closed its stdin: the host's writer gets SIGPIPE, the agent is left alone. */
static void test_input_process_closed(void **state) {
    struct fixture *f = *state;
    start_pipe(f, IN);
    f->agent->input_gone = true;
    assert_int_equal(write(f->peer, f->data, 100), 100);
    RUN_UNTIL(f->event, stream_is_done(f->stream));
    assert_int_equal(f->agent->n_writes, 1);
    assert_int_equal(write(f->peer, f->data, 1), -1);
    assert_int_equal(errno, EPIPE);
    run_idle(f->event);
    assert_int_equal(f->agent->n_close_stdin, 0);
}

/* CloseIO: what is there goes first, though the host's writer keeps its end open. */
static void test_close_input(void **state) {
    struct fixture *f = *state;
    start_pipe(f, IN);
    f->agent->hold_write = true;
    assert_int_equal(write(f->peer, f->data, 100), 100);
    RUN_UNTIL(f->event, f->agent->n_writes == 1);
    assert_int_equal(write(f->peer, f->data + 100, 900), 900);
    stream_close_input(f->stream);
    stream_close_input(f->stream);
    run_idle(f->event);
    assert_int_equal(f->agent->n_close_stdin, 0);
    f->agent->hold_write = false;
    mock_answer_write(f->agent, 100);
    RUN_UNTIL(f->event, f->agent->n_close_stdin);
    expect_input(f, f->data, 1000);
    assert_true(stream_is_done(f->stream));
    stream_close_input(f->stream);
    stream_close_input(NULL);
    run_idle(f->event);
    assert_int_equal(f->agent->n_close_stdin, 1);
}

static void test_close_input_idle(void **state) {
    struct fixture *f = *state;
    start_pipe(f, IN);
    run_idle(f->event);
    stream_close_input(f->stream);
    RUN_UNTIL(f->event, f->agent->n_close_stdin);
    assert_int_equal(f->agent->n_writes, 0);
}

/* Asked before the process was started: kept. */
static void test_close_input_early(void **state) {
    struct fixture *f = *state;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    f->peer = fds[1];
    assert_int_equal(write(f->peer, "early", 5), 5);
    f->spec.which = IN;
    f->spec.done = NULL;
    new_stream(f, fds[0]);
    stream_close_input(f->stream);
    run_idle(f->event);
    assert_int_equal(f->agent->n_writes, 0);
    stream_start(f->stream);
    RUN_UNTIL(f->event, f->agent->n_close_stdin);
    expect_input(f, (const uint8_t *)"early", 5);
    assert_string_equal(f->agent->last, "c1/");
}

static void test_input_agent_lost(void **state) {
    struct fixture *f = *state;
    start_pipe(f, IN);
    f->agent->hold_write = true;
    assert_int_equal(write(f->peer, f->data, 100), 100);
    RUN_UNTIL(f->event, f->agent->n_writes == 1);
    mock_agent_die(f->agent);
    RUN_UNTIL(f->event, stream_is_done(f->stream));
    assert_int_equal(write(f->peer, f->data, 1), -1);
    assert_int_equal(errno, EPIPE);
}

/* Lost while nothing was under way: found out at the next input. */
static void test_input_agent_lost_idle(void **state) {
    struct fixture *f = *state;
    start_pipe(f, IN);
    run_idle(f->event);
    mock_agent_die(f->agent);
    run_idle(f->event);
    assert_int_equal(write(f->peer, f->data, 100), 100);
    RUN_UNTIL(f->event, stream_is_done(f->stream));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_output_pipe),
        TEST(test_output_socket),
        TEST(test_output_file),
        TEST(test_output_null),
        TEST(test_output_full_disk),
        TEST(test_output_pty_master),
        TEST(test_back_pressure_pipe),
        TEST(test_back_pressure_socket),
        TEST(test_reader_gone_silent),
        TEST(test_reader_gone_in_write),
        TEST(test_reader_gone_socket),
        TEST(test_reader_gone_before),
        TEST(test_reader_gone_before_full),
        TEST(test_output_agent_lost),
        TEST(test_output_agent_lost_blocked),
        TEST(test_output_free),
        TEST(test_free_unstarted),
        TEST(test_input_pipe),
        TEST(test_input_socket),
        TEST(test_input_file),
        TEST(test_input_null),
        TEST(test_input_back_pressure),
        TEST(test_input_end_while_blocked),
        TEST(test_input_process_closed),
        TEST(test_close_input),
        TEST(test_close_input_idle),
        TEST(test_close_input_early),
        TEST(test_input_agent_lost),
        TEST(test_input_agent_lost_idle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
