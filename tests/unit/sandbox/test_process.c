/* SPDX-License-Identifier: Apache-2.0 */
/* process.c and stream.c against a mock agent; the sandbox and the container are stand-ins. */
#include <poll.h>

#include "process_fixture.h"
#include "sandbox/fifo.h"

struct wait {
    struct fixture *f;
    size_t n;
    size_t exited_before; /* ops->exited had been called that often */
    struct process_exit exit;
    bool free_process, again;
    struct wait *cancel;
};

static struct fixture *current; /* of ops->exited, which has no userdata */

static void on_exited(struct process *p) {
    assert_ptr_equal(p, current->p);
    assert_int_equal(process_get_state(p), PROCESS_EXITED);
    assert_non_null(process_get_exit(p));
    current->n_exited++;
}

static const struct process_ops ops = {.exited = on_exited};

static int setup(void **state) {
    if (fixture_setup(state) < 0)
        return -1;
    current = *state;
    return 0;
}

/* A process that the agent runs. */
static void run_with(struct fixture *f, struct process_stdio *io) {
    struct err err = ERR_INIT;
    assert_int_equal(process_new(&f->sb, container, "", 0, io, &ops, &f->p, &err), 0);
    assert_int_equal(io->in, -1);
    assert_int_equal(io->out, -1);
    assert_int_equal(io->err, -1);
    assert_int_equal(process_move(f->p, PROCESS_STARTING, NULL), 0);
    assert_int_equal(process_watch(f->p, 42, &err), 0);
    assert_int_equal(process_move(f->p, PROCESS_RUNNING, NULL), 0);
    RUN_UNTIL(f->sb.event, f->agent->waiter);
}

static void run_bare(struct fixture *f) {
    struct process_stdio io = PROCESS_STDIO_NONE;
    run_with(f, &io);
}

static void on_wait(void *userdata, const struct process_exit *ex) {
    struct wait *w = userdata;
    w->n++;
    w->exit = *ex;
    w->exited_before = w->f->n_exited;
    if (w->cancel)
        process_wait_cancel(w->f->p, w->cancel);
    if (w->again) {
        w->again = false;
        assert_int_equal(process_wait(w->f->p, on_wait, w, NULL), 0);
    }
    if (w->free_process)
        w->f->p = process_free(w->f->p);
}

static void wait_for(struct fixture *f, struct wait *w) {
    w->f = f;
    assert_int_equal(process_wait(f->p, on_wait, w, NULL), 0);
}

/* Reads what is there. */
static size_t drain(int fd, uint8_t *buf, size_t size) {
    size_t have = 0;
    ssize_t n;
    while (have < size && (n = read(fd, buf + have, size - have)) > 0)
        have += (size_t)n;
    return have;
}

/* ---- exit ---- */

static void test_exit(void **state) {
    struct fixture *f = *state;
    struct wait w = {0};
    run_bare(f);
    wait_for(f, &w);
    run_idle(f->sb.event);
    assert_int_equal(w.n, 0);
    assert_null(process_get_exit(f->p));
    mock_exit(f->agent, 143, 1000, true);
    RUN_UNTIL(f->sb.event, w.n);
    assert_int_equal(w.exit.status, 143);
    assert_int_equal(w.exit.wall_usec, 1000);
    assert_true(w.exit.oom_killed);
    assert_int_equal(w.exited_before, 1);
    run_idle(f->sb.event);
    assert_int_equal(w.n, 1);
    assert_int_equal(f->n_exited, 1);
    assert_int_equal(process_get_state(f->p), PROCESS_EXITED);
    assert_int_equal(process_get_exit(f->p)->status, 143);
}

/* threats.md 15: the agent's word within its bounds. */
static void test_exit_forged(void **state) {
    struct fixture *f = *state;
    struct wait w = {0};
    run_bare(f);
    wait_for(f, &w);
    mock_exit(f->agent, UINT32_MAX, UINT64_MAX, false);
    RUN_UNTIL(f->sb.event, w.n);
    assert_int_equal(w.exit.status, 255);
    assert_true(w.exit.wall_usec <= now_wall_usec());
}

static void test_exit_before_it_began(void **state) {
    struct fixture *f = *state;
    struct wait w = {0};
    run_bare(f);
    wait_for(f, &w);
    mock_exit(f->agent, 0, CREATED_WALL_USEC - 1, false);
    RUN_UNTIL(f->sb.event, w.n);
    assert_int_equal(w.exit.wall_usec, CREATED_WALL_USEC);
}

/* The exit does not overtake the output, of either stream, however slow the reader is. */
static void test_output_first(void **state) {
    struct fixture *f = *state;
    struct wait w = {0};
    struct process_stdio io = new_stdio(f);
    uint8_t got[DATA_LEN];
    run_with(f, &io);
    wait_for(f, &w);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    mock_output(f->agent, ERR, "oops", 4);
    mock_output_end(f->agent, OUT);
    mock_exit(f->agent, 3, 1000, false);
    run_idle(f->sb.event);
    assert_int_equal(w.n, 0);
    assert_int_equal(process_get_state(f->p), PROCESS_RUNNING);
    assert_null(process_get_exit(f->p));
    size_t have = 0;
    while (have < DATA_LEN) {
        assert_int_equal(w.n, 0);
        have += drain(f->out, got + have, DATA_LEN - have);
        run_idle(f->sb.event);
    }
    assert_memory_equal(got, f->data, DATA_LEN);
    /* stdout is out; stderr's end has not come. */
    run_idle(f->sb.event);
    assert_int_equal(w.n, 0);
    mock_output_end(f->agent, ERR);
    RUN_UNTIL(f->sb.event, w.n);
    assert_int_equal(w.exit.status, 3);
    assert_int_equal(drain(f->err, got, 4), 4);
    assert_memory_equal(got, "oops", 4);
    /* Nobody feeds a process that is gone. */
    assert_int_equal(write(f->in, "x", 1), -1);
    assert_int_equal(errno, EPIPE);
}

/* A reader that goes away does not hold up the exit. */
static void test_reader_gone(void **state) {
    struct fixture *f = *state;
    struct wait w = {0};
    struct process_stdio io = new_stdio(f);
    run_with(f, &io);
    wait_for(f, &w);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    mock_output_end(f->agent, ERR);
    mock_exit(f->agent, 0, 1000, false);
    run_idle(f->sb.event);
    assert_int_equal(w.n, 0);
    f->out = fd_close(f->out);
    RUN_UNTIL(f->sb.event, w.n);
    assert_int_equal(f->agent->output[OUT].n_closed, 1);
}

static void test_wait_fails(void **state) {
    struct fixture *f = *state;
    struct wait w = {0};
    struct process_stdio io = new_stdio(f);
    run_with(f, &io);
    wait_for(f, &w);
    mock_fail(&f->agent->waiter, ESRCH, "no such process");
    RUN_UNTIL(f->sb.event, w.n);
    assert_int_equal(w.exit.status, 137);
    uint8_t b;
    assert_int_equal(read(f->out, &b, 1), 0);
}

/* ---- waiters ---- */

static void test_many_waiters(void **state) {
    struct fixture *f = *state;
    static struct wait w[256];
    struct wait more = {.f = f};
    memset(w, 0, sizeof(w));
    run_bare(f);
    for (size_t i = 0; i < ARRAY_SIZE(w); i++)
        wait_for(f, &w[i]);
    struct err err = ERR_INIT;
    assert_int_equal(process_wait(f->p, on_wait, &more, &err), -EBUSY);
    ASSERT_SAYS(&err, "c1");
    for (size_t i = 0; i < ARRAY_SIZE(w); i += 3)
        process_wait_cancel(f->p, &w[i]);
    process_wait_cancel(f->p, &more);
    mock_exit(f->agent, 1, 1000, false);
    RUN_UNTIL(f->sb.event, process_get_exit(f->p));
    run_idle(f->sb.event);
    for (size_t i = 0; i < ARRAY_SIZE(w); i++)
        assert_int_equal(w[i].n, i % 3 ? 1 : 0);
    assert_int_equal(more.n, 0);
}

/* After the exit: from the loop, never from within. */
static void test_wait_late(void **state) {
    struct fixture *f = *state;
    struct wait w = {.again = true};
    run_bare(f);
    mock_exit(f->agent, 1, 1000, false);
    RUN_UNTIL(f->sb.event, process_get_exit(f->p));
    wait_for(f, &w);
    assert_int_equal(w.n, 0);
    RUN_UNTIL(f->sb.event, w.n == 2);
    run_idle(f->sb.event);
    assert_int_equal(w.n, 2);
    assert_int_equal(w.exit.status, 1);
    assert_int_equal(f->n_exited, 1);
}

static void test_cancel_in_callback(void **state) {
    struct fixture *f = *state;
    struct wait a = {0}, b = {0}, c = {0};
    run_bare(f);
    a.cancel = &b;
    b.cancel = &a;
    wait_for(f, &a);
    wait_for(f, &b);
    wait_for(f, &c);
    mock_exit(f->agent, 1, 1000, false);
    RUN_UNTIL(f->sb.event, c.n);
    run_idle(f->sb.event);
    assert_int_equal(a.n + b.n, 1);
    assert_int_equal(c.n, 1);
}

/* One waiter frees the process; the others are told all the same, once. */
static void test_free_in_callback(void **state) {
    struct fixture *f = *state;
    struct wait w[3] = {{0}, {.free_process = true}, {0}};
    struct process_stdio io = new_stdio(f);
    run_with(f, &io);
    for (size_t i = 0; i < ARRAY_SIZE(w); i++)
        wait_for(f, &w[i]);
    mock_output_end(f->agent, OUT);
    mock_output_end(f->agent, ERR);
    mock_exit(f->agent, 9, 1000, false);
    RUN_UNTIL(f->sb.event, !f->p);
    run_idle(f->sb.event);
    for (size_t i = 0; i < ARRAY_SIZE(w); i++) {
        assert_int_equal(w[i].n, 1);
        assert_int_equal(w[i].exit.status, 9);
    }
}

static void test_freed(void **state) {
    struct fixture *f = *state;
    struct wait a = {0}, b = {0}, c = {0};
    a.cancel = &c;
    c.cancel = &a;
    run_bare(f);
    wait_for(f, &a);
    wait_for(f, &b);
    wait_for(f, &c);
    f->p = process_free(f->p);
    assert_int_equal(a.n + c.n, 1);
    assert_int_equal(b.n, 1);
    assert_int_equal(b.exit.status, 137);
    assert_int_equal(f->n_exited, 0);
    assert_null(process_free(NULL));
    /* Its Wait call is forgotten. */
    mock_exit(f->agent, 1, 1000, false);
    run_idle(f->sb.event);
}

/* ---- loss ---- */

static void test_lost(void **state) {
    struct fixture *f = *state;
    struct wait w = {0};
    struct process_stdio io = new_stdio(f);
    run_with(f, &io);
    wait_for(f, &w);
    mock_output(f->agent, OUT, f->data, DATA_LEN);
    run_idle(f->sb.event);
    process_lost(f->p);
    assert_int_equal(w.n, 0);
    /* What the agent had given before is delivered, more than the pipe holds; then comes the end. */
    static uint8_t buf[DATA_LEN + 1];
    size_t have = 0;
    ssize_t n = 1;
    assert_int_equal(w.n, 0);
    while (n > 0) {
        run_idle(f->sb.event);
        if (fd_wait(f->out, POLLIN, 0) <= 0)
            continue;
        n = read(f->out, buf + have, sizeof(buf) - have);
        have += n > 0 ? (size_t)n : 0;
    }
    assert_true(have > PIPE_SIZE && have <= DATA_LEN);
    assert_memory_equal(buf, f->data, have);
    RUN_UNTIL(f->sb.event, w.n);
    run_idle(f->sb.event);
    assert_int_equal(w.n, 1);
    assert_int_equal(w.exit.status, 137);
    assert_true(w.exit.wall_usec > 0 && w.exit.wall_usec <= now_wall_usec());
    assert_int_equal(f->n_exited, 1);
}

static void test_lost_unstarted(void **state) {
    struct fixture *f = *state;
    struct wait w = {0};
    struct process_stdio io = new_stdio(f);
    struct err err = ERR_INIT;
    assert_int_equal(process_new(&f->sb, container, "e1", 0, &io, &ops, &f->p, &err), 0);
    wait_for(f, &w);
    process_lost(f->p);
    RUN_UNTIL(f->sb.event, w.n);
    assert_int_equal(w.exit.status, 137);
    assert_int_equal(process_get_state(f->p), PROCESS_EXITED);
    uint8_t b;
    assert_int_equal(read(f->out, &b, 1), 0);
}

/* Its exit was known; the VM dies before the output is out. The status stays. */
static void test_lost_after_exit(void **state) {
    struct fixture *f = *state;
    struct wait w = {0};
    struct process_stdio io = new_stdio(f);
    run_with(f, &io);
    wait_for(f, &w);
    mock_exit(f->agent, 7, 1000, false);
    run_idle(f->sb.event);
    assert_int_equal(w.n, 0);
    process_lost(f->p);
    RUN_UNTIL(f->sb.event, w.n);
    assert_int_equal(w.exit.status, 7);
}

/* ---- the process that stands for it on the host ---- */

static pid_t new_child(void) {
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    assert_true(pid > 0);
    return pid;
}

static void end_child(pid_t pid) {
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_host_gone(void **state) {
    struct fixture *f = *state;
    struct process_stdio io = PROCESS_STDIO_NONE;
    struct err err = ERR_INIT;
    pid_t pid = new_child();
    assert_int_equal(process_new(&f->sb, container, "e1", pid, &io, &ops, &f->p, &err), 0);
    assert_int_equal(process_host_pid(f->p), pid);
    run_idle(f->sb.event);
    assert_int_equal(f->sb.n_kills, 0);
    end_child(pid);
    RUN_UNTIL(f->sb.event, f->sb.n_kills);
    run_idle(f->sb.event);
    assert_int_equal(f->sb.n_kills, 1);
    assert_ptr_equal(f->sb.killed, f->p);
}

static void test_host_gone_after_exit(void **state) {
    struct fixture *f = *state;
    struct process_stdio io = PROCESS_STDIO_NONE;
    struct err err = ERR_INIT;
    pid_t pid = new_child();
    assert_int_equal(process_new(&f->sb, container, "e1", pid, &io, &ops, &f->p, &err), 0);
    process_lost(f->p);
    RUN_UNTIL(f->sb.event, process_get_exit(f->p));
    end_child(pid);
    run_idle(f->sb.event);
    assert_int_equal(f->sb.n_kills, 0);
}

/* It was gone before: refused, and the fds are closed. */
static void test_host_missing(void **state) {
    struct fixture *f = *state;
    struct process_stdio io = new_stdio(f);
    struct err err = ERR_INIT;
    pid_t pid = new_child();
    end_child(pid);
    assert_int_equal(process_new(&f->sb, container, "e1", pid, &io, &ops, &f->p, &err), -ESRCH);
    ASSERT_SAYS(&err, "e1");
    assert_null(f->p);
    assert_int_equal(io.out, -1);
    uint8_t b;
    assert_int_equal(read(f->out, &b, 1), 0);
    assert_int_equal(write(f->in, "x", 1), -1);
}

/* ---- the rest ---- */

static void test_input(void **state) {
    struct fixture *f = *state;
    struct process_stdio io = new_stdio(f);
    run_with(f, &io);
    assert_int_equal(write(f->in, "hello", 5), 5);
    RUN_UNTIL(f->sb.event, f->agent->input_len == 5);
    process_close_input(f->p);
    RUN_UNTIL(f->sb.event, f->agent->n_close_stdin);
    process_close_input(f->p);
    run_idle(f->sb.event);
    assert_int_equal(f->agent->n_close_stdin, 1);
}

/* CloseIO before Start. */
static void test_input_closed_early(void **state) {
    struct fixture *f = *state;
    struct process_stdio io = new_stdio(f);
    assert_int_equal(write(f->in, "hello", 5), 5);
    assert_int_equal(process_new(&f->sb, container, "", 0, &io, &ops, &f->p, NULL), 0);
    process_close_input(f->p);
    assert_int_equal(process_watch(f->p, 42, NULL), 0);
    RUN_UNTIL(f->sb.event, f->agent->n_close_stdin);
    assert_int_equal(f->agent->input_len, 5);
}

/* The kinds reach the streams: a terminal's FIFOs have no peer for a while, and at the exit no reader for too long. */
static void test_fifos(void **state) {
    struct fixture *f = *state;
    struct process_stdio io = PROCESS_STDIO_NONE;
    char dir[] = "/tmp/stasis-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    cleanup_free char *fifo = path_join(dir, "fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    io.terminal = true;
    io.in_kind = io.out_kind = STDIO_FIFO;
    io.in = fifo_open(fifo, true, NULL);
    fd_close(open(fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC)); /* a writer that came and went */
    unlink(fifo);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    io.out = fifo_open(fifo, false, NULL);
    assert_int_equal(path_remove_tree(AT_FDCWD, dir, NULL), 0);
    run_with(f, &io);
    mock_output(f->agent, OUT, "x", 1);
    RUN_UNTIL(f->sb.event, f->agent->output[OUT].n_reads == 1);
    run_idle(f->sb.event);
    assert_int_equal(f->agent->output[OUT].n_closed + f->agent->n_close_stdin, 0);
    mock_exit(f->agent, 0, 1, false);
    RUN_UNTIL(f->sb.event, f->n_exited);
}

static void test_uris(void **state) {
    struct fixture *f = *state;
    run_bare(f);
    assert_string_equal(process_uri(f->p, 1), "");
    for (int again = 0; again < 2; again++)
        assert_int_equal(process_set_uris(f->p, "/in", "file:///out", "", NULL), 0);
    const char *expected[] = {"/in", "file:///out", "", ""};
    for (int i = 0; i < 4; i++)
        assert_string_equal(process_uri(f->p, i), expected[i]);
    assert_string_equal(process_uri(f->p, -1), "");
}

static void test_describe(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct process_streams s;
    struct process_stdio io = PROCESS_STDIO_NONE;
    io.out = open("/dev/null", O_WRONLY | O_CLOEXEC);
    io.terminal = true;
    io.width = 80;
    io.height = 24;
    assert_int_equal(process_new(&f->sb, container, "e1", 0, &io, NULL, &f->p, &err), 0);
    process_describe_stdio(f->p, &s);
    assert_false(s.in || s.err);
    assert_true(s.out);
    assert_int_equal(s.width, 80);
    assert_int_equal(s.height, 24);
    assert_true(process_is_terminal(f->p));
    assert_int_equal(process_host_pid(f->p), 0);
    assert_string_equal(process_exec_id(f->p), "e1");
    assert_ptr_equal(process_container(f->p), container);
    Stasis__Agent__V1__ProcessId id = process_agent_id(f->p);
    assert_string_equal(id.container_id, "c1");
    assert_string_equal(id.exec_id, "e1");
    assert_int_equal(process_get_state(f->p), PROCESS_CREATED);
    assert_int_equal(process_move(f->p, PROCESS_RUNNING, &err), -EBUSY);
    ASSERT_SAYS(&err, "process e1 is created");
    process_free(f->p);

    /* A console belongs to no container. */
    io = PROCESS_STDIO_NONE;
    assert_int_equal(process_new(&f->sb, NULL, "con", 0, &io, NULL, &f->p, &err), 0);
    id = process_agent_id(f->p);
    assert_string_equal(id.container_id, "");
    assert_string_equal(id.exec_id, "con");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_exit),
        TEST(test_exit_forged),
        TEST(test_exit_before_it_began),
        TEST(test_output_first),
        TEST(test_reader_gone),
        TEST(test_wait_fails),
        TEST(test_many_waiters),
        TEST(test_wait_late),
        TEST(test_cancel_in_callback),
        TEST(test_free_in_callback),
        TEST(test_freed),
        TEST(test_lost),
        TEST(test_lost_unstarted),
        TEST(test_lost_after_exit),
        TEST(test_host_gone),
        TEST(test_host_gone_after_exit),
        TEST(test_host_missing),
        TEST(test_input),
        TEST(test_input_closed_early),
        TEST(test_fifos),
        TEST(test_uris),
        TEST(test_describe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
