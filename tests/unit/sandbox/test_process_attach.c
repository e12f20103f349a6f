/* SPDX-License-Identifier: Apache-2.0 */
/* process.c: stdio that comes later, as for a process out of a snapshot. The sandbox and the container are stand-ins.
 */
#include "process_fixture.h"

static void on_exit_told(void *userdata, const struct process_exit *ex) {
    struct fixture *f = userdata;
    f->n_exited++;
    f->exit = *ex;
}

static void adopt(struct fixture *f, const struct process_streams *streams, bool terminal,
                  const struct process_exit *ex) {
    struct process_stdio none = PROCESS_STDIO_NONE;
    struct err err = ERR_INIT;
    assert_int_equal(process_new(&f->sb, container, "", 0, &none, NULL, &f->p, &err), 0);
    process_adopt(f->p, streams, terminal, ex ? PROCESS_EXITED : PROCESS_RUNNING, 42, ex);
    if (ex)
        return;
    assert_int_equal(process_watch(f->p, 42, &err), 0);
    RUN_UNTIL(f->sb.event, f->agent->waiter);
}

static const struct process_streams all = {.in = true, .out = true, .err = true, .width = 100, .height = 30};

static void attach(struct fixture *f) {
    struct process_stdio io = new_stdio(f);
    struct err err = ERR_INIT;
    io.in_kind = io.out_kind = io.err_kind = STDIO_CLIENT;
    if (process_attach(f->p, &io, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(io.in & io.out & io.err, -1);
}

static void expect(struct fixture *f, int fd, const void *data, size_t len) {
    uint64_t deadline = now_usec() + TEST_DEADLINE;
    uint8_t buf[3000];
    for (size_t have = 0; have < len;) {
        assert_true(now_usec() < deadline);
        ssize_t n = read(fd, buf, MIN(sizeof(buf), len - have));
        if (n > 0) {
            assert_memory_equal(buf, (const uint8_t *)data + have, (size_t)n);
            have += (size_t)n;
        } else {
            assert_true(sd_event_run(f->sb.event, 10 * USEC_PER_MSEC) >= 0);
        }
    }
}

/* Nobody asks for its output before somebody wants it. */
static void adopted(void **state) {
    struct fixture *f = *state;
    struct process_streams streams;
    adopt(f, &all, false, NULL);
    assert_int_equal(process_get_state(f->p), PROCESS_RUNNING);
    assert_int_equal(process_guest_pid(f->p), 42);
    process_describe_stdio(f->p, &streams);
    assert_true(streams.in && streams.out && streams.err);
    assert_int_equal(streams.width, 100);
    assert_int_equal(streams.height, 30);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    mock_output(f->agent, ERR, "problem", 7);
    run_idle(f->sb.event);
    assert_int_equal(f->agent->output[OUT].n_reads, 0);
    attach(f);
    expect(f, f->out, f->data, DATA_LEN);
    expect(f, f->err, "problem", 7);
    assert_int_equal(write(f->in, "x", 1), 1);
    RUN_UNTIL(f->sb.event, f->agent->input_len == 1);
}

static void connected_once(void **state) {
    struct fixture *f = *state;
    struct process_stdio io = PROCESS_STDIO_NONE;
    struct err err = ERR_INIT;
    int mine;
    adopt(f, &all, false, NULL);
    attach(f);
    new_pipe(&mine, &io.err);
    io.err_kind = STDIO_CLIENT;
    assert_int_equal(process_attach(f->p, &io, &err), -EBUSY);
    assert_int_equal(io.err, -1);
    char c;
    assert_int_equal(read(mine, &c, 1), 0); /* taken, and closed */
    close(mine);
    /* The first one is not disturbed. */
    mock_output(f->agent, OUT, f->data, 1000);
    expect(f, f->out, f->data, 1000);
    /* When it lets go, there is room for the next one. */
    process_detach(f->p);
    attach(f);
    mock_output(f->agent, OUT, f->data, 1000);
    expect(f, f->out, f->data, 1000);
}

/* Streams that the process does not have are not asked for. */
static void only_what_it_has(void **state) {
    struct fixture *f = *state;
    const struct process_streams out_only = {.out = true};
    adopt(f, &out_only, false, NULL);
    attach(f);
    mock_output(f->agent, OUT, "x", 1);
    expect(f, f->out, "x", 1);
    char c;
    assert_int_equal(f->agent->output[ERR].n_reads, 0);
    assert_int_equal(read(f->err, &c, 1), 0);
    assert_int_equal(write(f->in, "x", 1), -1);
    assert_int_equal(errno, EPIPE);
}

static void a_terminal_has_no_stderr(void **state) {
    struct fixture *f = *state;
    struct process_streams streams;
    adopt(f, &all, true, NULL);
    assert_true(process_is_terminal(f->p));
    process_describe_stdio(f->p, &streams);
    assert_false(streams.err);
    assert_int_equal(streams.width, 100);
    attach(f);
    run_idle(f->sb.event);
    assert_int_equal(f->agent->output[ERR].n_reads, 0);
}

/* Its exit is told though nobody ever read what it wrote; who comes afterwards still gets that. */
static void exited_before_anybody_came(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    adopt(f, &all, false, NULL);
    assert_int_equal(process_wait(f->p, on_exit_told, f, &err), 0);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    mock_output_end(f->agent, OUT);
    mock_output_end(f->agent, ERR);
    mock_exit(f->agent, 7, 1000, false);
    RUN_UNTIL(f->sb.event, f->n_exited);
    assert_int_equal(f->exit.status, 7);
    attach(f);
    expect(f, f->out, f->data, DATA_LEN);
    char c;
    assert_int_equal(write(f->in, "x", 1), -1);
    RUN_UNTIL(f->sb.event, read(f->out, &c, 1) == 0);
}

/* It had exited when the snapshot was taken. */
static void exited_before_the_snapshot(void **state) {
    struct fixture *f = *state;
    const struct process_exit ex = {.status = 3, .wall_usec = 1234, .oom_killed = true};
    struct err err = ERR_INIT;
    adopt(f, &all, false, &ex);
    assert_int_equal(process_get_state(f->p), PROCESS_EXITED);
    assert_int_equal(process_get_exit(f->p)->wall_usec, 1234);
    assert_int_equal(process_wait(f->p, on_exit_told, f, &err), 0);
    RUN_UNTIL(f->sb.event, f->n_exited);
    assert_int_equal(f->exit.status, 3);
    assert_true(f->exit.oom_killed);
    assert_int_equal(f->agent->n_waits, 0);
}

/* A client that left is no reason to keep the exit back. */
static void exited_while_detached(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    adopt(f, &all, false, NULL);
    attach(f);
    assert_int_equal(process_wait(f->p, on_exit_told, f, &err), 0);
    run_idle(f->sb.event);
    process_detach(f->p);
    mock_output(f->agent, OUT, f->data, 1000);
    mock_output_end(f->agent, OUT);
    mock_output_end(f->agent, ERR);
    mock_exit(f->agent, 7, 1000, false);
    RUN_UNTIL(f->sb.event, f->n_exited);
    attach(f);
    expect(f, f->out, f->data, 1000);
}

static void lost_while_detached(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    adopt(f, &all, false, NULL);
    attach(f);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    run_idle(f->sb.event);
    process_detach(f->p);
    assert_int_equal(process_wait(f->p, on_exit_told, f, &err), 0);
    process_lost(f->p);
    RUN_UNTIL(f->sb.event, f->n_exited);
    assert_int_equal(f->exit.status, 137);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(adopted),
        TEST(connected_once),
        TEST(only_what_it_has),
        TEST(a_terminal_has_no_stderr),
        TEST(exited_before_anybody_came),
        TEST(exited_before_the_snapshot),
        TEST(exited_while_detached),
        TEST(lost_while_detached),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
