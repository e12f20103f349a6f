/* SPDX-License-Identifier: Apache-2.0 */
/* One process of a mock agent, for the tests of process.c; the sandbox and the container are stand-ins. */
#pragma once

#include "mock_agent.h"
#include "sandbox_standin.h"
#include "support.h"

#define OUT STASIS__AGENT__V1__STREAM__STDOUT
#define ERR STASIS__AGENT__V1__STREAM__STDERR
#define PIPE_SIZE 4096
#define DATA_LEN ((size_t)100 << 10)

struct fixture {
    struct sandbox sb;
    struct mock_agent *agent;
    struct process *p;
    int in, out, err;         /* the test's ends */
    size_t n_exited;          /* how often the test was told of the exit */
    struct process_exit exit; /* by process_wait(), in the programs that keep it here */
    uint8_t data[DATA_LEN];   /* with a pattern */
};

static struct container *const container = (struct container *)(uintptr_t)16; /* never looked into */

static inline int fixture_setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = ERR_INIT;
    int fds[2];
    signal(SIGPIPE, SIG_IGN);
    if (sd_event_new(&f->sb.event) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return -1;
    f->agent = mock_agent_new(f->sb.event, fds[0], false);
    if (ttrpc_client_new_plain(f->sb.event, fds[1], NULL, NULL, &f->sb.client, &err) < 0)
        return -1;
    f->in = f->out = f->err = -1;
    for (size_t i = 0; i < DATA_LEN; i++)
        f->data[i] = (uint8_t)(i * 13 / 5);
    *state = f;
    return 0;
}

static inline int fixture_teardown(void **state) {
    struct fixture *f = *state;
    process_free(f->p);
    ttrpc_client_free(f->sb.client);
    mock_agent_free(f->agent);
    fd_close(f->in);
    fd_close(f->out);
    fd_close(f->err);
    sd_event_unref(f->sb.event);
    free(f);
    return 0;
}

static inline void new_pipe(int *ret_read, int *ret_write) {
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(fcntl(fds[1], F_SETPIPE_SZ, PIPE_SIZE), PIPE_SIZE);
    *ret_read = fds[0];
    *ret_write = fds[1];
}

/* Pipes for all three streams; the test has the other ends, in place of those it had before. */
static inline struct process_stdio new_stdio(struct fixture *f) {
    struct process_stdio io = PROCESS_STDIO_NONE;
    f->in = fd_close(f->in);
    f->out = fd_close(f->out);
    f->err = fd_close(f->err);
    new_pipe(&io.in, &f->in);
    new_pipe(&f->out, &io.out);
    new_pipe(&f->err, &io.err);
    assert_int_equal(fd_set_nonblock(f->out, true), 0);
    assert_int_equal(fd_set_nonblock(f->err, true), 0);
    return io;
}
