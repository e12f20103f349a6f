/* SPDX-License-Identifier: Apache-2.0 */
/* One stream between an fd of the test and a mock agent, for the tests of stream.c. */
#pragma once

#include "mock_agent.h"
#include "sandbox/stream.h"
#include "support.h"

#define OUT STASIS__AGENT__V1__STREAM__STDOUT
#define IN STASIS__AGENT__V1__STREAM__STDIN
#define PIPE_SIZE 4096
#define DATA_LEN ((size_t)1 << 20)

struct fixture {
    sd_event *event;
    struct mock_agent *agent;
    struct ttrpc_client *client;
    struct stream_spec spec; /* of the output of "c1"'s init until a test says otherwise */
    struct stream *stream;
    int peer; /* the test's end of what the stream uses; -1: nobody has it open */
    size_t n_done;
    uint8_t *data; /* DATA_LEN bytes with a pattern */
    /* Of single programs; fixture_teardown() frees them. */
    uint8_t *got; /* what came out */
    size_t n_got;
    struct tmpdir *t;
    char *fifo;
};

static inline void on_done(void *userdata) {
    struct fixture *f = userdata;
    assert_true(stream_is_done(f->stream));
    f->n_done++;
}

static inline int fixture_setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = ERR_INIT;
    int fds[2];
    signal(SIGPIPE, SIG_IGN);
    if (sd_event_new(&f->event) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return -1;
    f->agent = mock_agent_new(f->event, fds[0], false);
    if (ttrpc_client_new_plain(f->event, fds[1], NULL, NULL, &f->client, &err) < 0)
        return -1;
    f->peer = -1;
    f->data = malloc(DATA_LEN);
    for (size_t i = 0; i < DATA_LEN; i++)
        f->data[i] = (uint8_t)(i * 31 / 7);
    f->spec = (struct stream_spec){.event = f->event,
                                   .agent = f->client,
                                   .container_id = "c1",
                                   .exec_id = "",
                                   .which = OUT,
                                   .done = on_done,
                                   .userdata = f};
    *state = f;
    return 0;
}

static inline int fixture_teardown(void **state) {
    struct fixture *f = *state;
    int r = 0;
    stream_free(f->stream);
    ttrpc_client_free(f->client);
    mock_agent_free(f->agent);
    fd_close(f->peer);
    sd_event_unref(f->event);
    free(f->data);
    free(f->got);
    free(f->fifo);
    if (f->t)
        r = tmpdir_teardown((void **)&f->t);
    free(f);
    return r;
}

/* A stream of f->spec that is not started yet. Takes fd. */
static inline void new_stream(struct fixture *f, int fd) {
    struct err err = ERR_INIT;
    assert_true(fd >= 0);
    if (stream_new(&f->spec, fd, &f->stream, &err) != 0)
        fail_msg("%s", err.msg);
}

/* The stream's end of a new pipe of PIPE_SIZE; the test's is f->peer, and does not block. */
static inline int new_pipe(struct fixture *f, Stasis__Agent__V1__Stream which) {
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(fcntl(fds[1], F_SETPIPE_SZ, PIPE_SIZE), PIPE_SIZE);
    fd_close(f->peer);
    f->peer = fds[which == IN ? 1 : 0];
    assert_int_equal(fd_set_nonblock(f->peer, true), 0);
    return fds[which == IN ? 0 : 1];
}

/* Reads what came out of the stream until `len` bytes have come, and checks them; the end too if `end`. */
static inline void expect_output(struct fixture *f, const uint8_t *expected, size_t len, bool end) {
    uint8_t buf[3000];
    uint64_t deadline = now_usec() + TEST_DEADLINE;
    for (size_t have = 0; have < len || end;) {
        assert_true(now_usec() < deadline);
        ssize_t n = read(f->peer, buf, MIN(sizeof(buf), len - have + end));
        if (n > 0) {
            assert_true(have + (size_t)n <= len);
            assert_memory_equal(buf, expected + have, (size_t)n);
            have += (size_t)n;
        } else if (n == 0) {
            assert_true(end);
            assert_int_equal(have, len);
            return;
        } else {
            assert_int_equal(errno, EAGAIN);
            assert_true(sd_event_run(f->event, 10 * USEC_PER_MSEC) >= 0);
        }
    }
}

/* All that the process was given so far. */
static inline void expect_input(struct fixture *f, const void *data, size_t len) {
    RUN_UNTIL(f->event, f->agent->input_len >= len);
    assert_int_equal(f->agent->input_len, len);
    if (len)
        assert_memory_equal(f->agent->input, data, len);
}
