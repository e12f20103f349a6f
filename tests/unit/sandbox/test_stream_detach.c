/* SPDX-License-Identifier: Apache-2.0 */
/* stream.c: a host's end that goes, and another one; an agent that goes while output is held. */
#include "stream_fixture.h"

static int setup(void **state) {
    if (fixture_setup(state) < 0)
        return -1;
    struct fixture *f = *state;
    f->got = malloc(DATA_LEN);
    return 0;
}

static void start(struct fixture *f, Stasis__Agent__V1__Stream which, enum stdio_kind kind, uint64_t stall_usec) {
    f->spec.which = which;
    f->spec.kind = kind;
    f->spec.stall_usec = stall_usec;
    new_stream(f, new_pipe(f, which));
    assert_false(stream_is_detached(f->stream));
    stream_start(f->stream);
    run_idle(f->event);
}

static void attach(struct fixture *f, Stasis__Agent__V1__Stream which, enum stdio_kind kind) {
    struct err err = ERR_INIT;
    assert_int_equal(stream_attach(f->stream, new_pipe(f, which), kind, &err), 0);
    assert_false(stream_is_detached(f->stream));
}

/* Reads until there are n bytes in all. */
static void read_until(struct fixture *f, size_t n) {
    uint64_t deadline = now_usec() + TEST_DEADLINE;
    while (f->n_got < n) {
        assert_true(now_usec() < deadline);
        ssize_t r = read(f->peer, f->got + f->n_got, MIN(n - f->n_got, (size_t)3000));
        if (r > 0)
            f->n_got += (size_t)r;
        else
            assert_true(sd_event_run(f->event, 10 * USEC_PER_MSEC) >= 0);
    }
    assert_memory_equal(f->got, f->data, n);
}

/* All that the process writes comes out once, over three readers, in order. */
static void output_waits_for_the_next_reader(void **state) {
    struct fixture *f = *state;
    start(f, OUT, STDIO_CLIENT, 0);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    read_until(f, 100000);
    /* It takes what is in the pipe along. */
    stream_detach(f->stream);
    assert_true(stream_is_detached(f->stream));
    for (ssize_t r; (r = read(f->peer, f->got + f->n_got, DATA_LEN - f->n_got)) > 0;)
        f->n_got += (size_t)r;
    assert_int_equal(read(f->peer, f->got, 1), 0); /* its end is closed */
    size_t reads = f->agent->output[OUT].n_reads;
    run_idle(f->event);
    assert_true(f->agent->output[OUT].n_reads <= reads + 1);
    assert_int_equal(f->agent->output[OUT].n_closed, 0); /* the process notices nothing */
    stream_detach(f->stream);                            /* again */

    attach(f, OUT, STDIO_CLIENT);
    read_until(f, 400000);
    stream_detach(f->stream);
    for (ssize_t r; (r = read(f->peer, f->got + f->n_got, DATA_LEN - f->n_got)) > 0;)
        f->n_got += (size_t)r;
    attach(f, OUT, STDIO_CLIENT);
    mock_output_end(f->agent, OUT);
    read_until(f, DATA_LEN);
    RUN_UNTIL(f->event, f->n_done);
    assert_int_equal(read(f->peer, f->got, 1), 0);
    assert_int_equal(f->n_done, 1);
    assert_false(stream_is_detached(f->stream)); /* it is over */
}

/* What was on the way to a reader that went away is lost with the pipe, as it would be without a VM; nothing else is.
 */
static void a_client_that_goes_detaches(void **state) {
    struct fixture *f = *state;
    start(f, OUT, STDIO_CLIENT, 0);
    RUN_UNTIL(f->event, f->agent->output[OUT].n_reads == 1);
    f->peer = fd_close(f->peer);
    RUN_UNTIL(f->event, stream_is_detached(f->stream));
    mock_output(f->agent, OUT, f->data, 1000);
    run_idle(f->event);
    assert_int_equal(f->agent->output[OUT].n_closed, 0);
    assert_int_equal(f->n_done, 0);
    attach(f, OUT, STDIO_CLIENT);
    read_until(f, 1000);
    /* The same while it is written to. */
    mock_output(f->agent, OUT, f->data + 1000, DATA_LEN - 1000);
    read_until(f, 5000);
    f->peer = fd_close(f->peer);
    RUN_UNTIL(f->event, stream_is_detached(f->stream));
    assert_int_equal(f->n_done, 0);
}

/* A caller's fd stands for the caller: its process gets SIGPIPE. */
static void any_other_reader_that_goes_ends_it(void **state) {
    struct fixture *f = *state;
    start(f, OUT, STDIO_FD, 0);
    RUN_UNTIL(f->event, f->agent->output[OUT].n_reads == 1);
    f->peer = fd_close(f->peer);
    RUN_UNTIL(f->event, f->n_done);
    assert_false(stream_is_detached(f->stream));
    RUN_UNTIL(f->event, f->agent->output[OUT].n_closed == 1);
}

static void input_that_ends_is_no_end_of_file(void **state) {
    struct fixture *f = *state;
    start(f, IN, STDIO_CLIENT, 0);
    assert_int_equal(write(f->peer, f->data, 100), 100);
    RUN_UNTIL(f->event, f->agent->input_len == 100);
    f->peer = fd_close(f->peer);
    RUN_UNTIL(f->event, stream_is_detached(f->stream));
    run_idle(f->event);
    assert_int_equal(f->agent->n_close_stdin, 0);
    attach(f, IN, STDIO_CLIENT);
    assert_int_equal(write(f->peer, f->data + 100, 100), 100);
    RUN_UNTIL(f->event, f->agent->input_len == 200);
    assert_memory_equal(f->agent->input, f->data, 200);
    /* CloseIO is one. */
    stream_close_input(f->stream);
    RUN_UNTIL(f->event, f->agent->n_close_stdin == 1);
}

static void detached_while_input_is_under_way(void **state) {
    struct fixture *f = *state;
    f->agent->hold_write = true;
    start(f, IN, STDIO_CLIENT, 0);
    assert_int_equal(write(f->peer, f->data, 100), 100);
    RUN_UNTIL(f->event, f->agent->n_writes == 1);
    stream_detach(f->stream);
    attach(f, IN, STDIO_CLIENT);
    assert_int_equal(write(f->peer, f->data + 100, 100), 100);
    run_idle(f->event);
    assert_int_equal(f->agent->n_writes, 1); /* one after the other */
    f->agent->hold_write = false;
    mock_answer_write(f->agent, 100);
    RUN_UNTIL(f->event, f->agent->input_len == 200);
    assert_memory_equal(f->agent->input, f->data, 200);
}

static void detached_before_it_began(void **state) {
    struct fixture *f = *state;
    stream_detach(NULL);
    stream_lost(NULL);
    assert_false(stream_is_detached(NULL));
    start(f, OUT, STDIO_CLIENT, 0);
    stream_detach(f->stream);
    mock_output(f->agent, OUT, f->data, 1000);
    mock_output_end(f->agent, OUT);
    run_idle(f->event);
    assert_int_equal(f->n_done, 0);
    stream_process_exited(f->stream);
    run_idle(f->event);
    assert_int_equal(f->n_done, 0);
    attach(f, OUT, STDIO_CLIENT);
    read_until(f, 1000);
    RUN_UNTIL(f->event, f->n_done);
}

/* The agent is gone. */

static void lost_with_nothing_held(void **state) {
    struct fixture *f = *state;
    start(f, OUT, STDIO_FD, 0);
    stream_lost(f->stream);
    assert_int_equal(f->n_done, 1);
    stream_lost(f->stream);
    assert_int_equal(f->n_done, 1);
}

static void lost_while_detached(void **state) {
    struct fixture *f = *state;
    start(f, OUT, STDIO_CLIENT, 0);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    read_until(f, 10000);
    stream_detach(f->stream);
    stream_lost(f->stream);
    assert_int_equal(f->n_done, 1);
}

/* What was read from it is delivered: `snapshot create --stop` ends the VM while a slow reader is at it. */
static void lost_what_was_read_is_delivered(void **state) {
    struct fixture *f = *state;
    start(f, OUT, STDIO_FD, 0);
    mock_output(f->agent, OUT, f->data, STREAM_CHUNK);
    read_until(f, 1000);
    stream_lost(f->stream);
    mock_agent_die(f->agent);
    run_idle(f->event);
    assert_int_equal(f->n_done, 0);
    read_until(f, STREAM_CHUNK);
    RUN_UNTIL(f->event, f->n_done);
    assert_int_equal(read(f->peer, f->got, 1), 0);
}

static void lost_with_a_reader_that_takes_nothing(void **state) {
    struct fixture *f = *state;
    start(f, OUT, STDIO_FD, 50 * USEC_PER_MSEC);
    mock_output(f->agent, OUT, f->data, STREAM_CHUNK);
    RUN_UNTIL(f->event, f->agent->output[OUT].n_reads == 1);
    run_idle(f->event);
    stream_lost(f->stream);
    RUN_UNTIL(f->event, f->n_done);
}

/* As long as the agent was there the reader had all the time it wanted. */
static void lost_after_the_exit(void **state) {
    struct fixture *f = *state;
    start(f, OUT, STDIO_FD, 50 * USEC_PER_MSEC);
    mock_output(f->agent, OUT, f->data, STREAM_CHUNK);
    RUN_UNTIL(f->event, f->agent->output[OUT].n_reads == 1);
    run_idle(f->event);
    stream_process_exited(f->stream);
    uint64_t end = now_usec() + 200 * USEC_PER_MSEC;
    while (now_usec() < end)
        assert_true(sd_event_run(f->event, 50 * USEC_PER_MSEC) >= 0);
    assert_int_equal(f->n_done, 0);
    stream_lost(f->stream);
    RUN_UNTIL(f->event, f->n_done);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(output_waits_for_the_next_reader),
        TEST(a_client_that_goes_detaches),
        TEST(any_other_reader_that_goes_ends_it),
        TEST(input_that_ends_is_no_end_of_file),
        TEST(detached_while_input_is_under_way),
        TEST(detached_before_it_began),
        TEST(lost_with_nothing_held),
        TEST(lost_while_detached),
        TEST(lost_what_was_read_is_delivered),
        TEST(lost_with_a_reader_that_takes_nothing),
        TEST(lost_after_the_exit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
