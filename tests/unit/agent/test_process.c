/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/process.h"
#include "support.h"

#include <fcntl.h>
#include <pty.h>
#include <utmp.h>

struct seen {
    int exited, waited, code;
    uint32_t exit_code;
    bool oom;
};

static void on_exited(struct process *p, void *userdata) {
    struct seen *s = userdata;
    assert_int_equal(p->state, PROCESS_EXITED);
    s->exited++;
    p->exit.oom_killed = true;
}

static void on_waited(void *userdata, const struct process_exit *ex, const struct err *err) {
    struct seen *s = userdata;
    s->waited++;
    s->code = err ? err->code : 0;
    s->exit_code = ex->code;
    s->oom = ex->oom_killed;
}

struct output {
    size_t len;
    char text[100];
};

static void on_read(void *userdata, const uint8_t *data, size_t len, const struct err *err) {
    struct output *o = userdata;
    assert_null(err);
    assert_true(o->len + len + 8 < sizeof(o->text));
    o->len += (size_t)snprintf(o->text + o->len, sizeof(o->text) - o->len, "%.*s", len ? (int)len : 5,
                               len ? (const char *)data : "<eof>");
}

/* Starts `sh -c script` with the process's pipes. */
static pid_t start(struct process *p, const char *script) {
    int fds[3];
    assert_int_equal(process_pipes(p, fds, NULL), 0);
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        signal(SIGPIPE, SIG_DFL);
        for (int i = 0; i < 3; i++)
            if (fds[i] >= 0)
                dup2(fds[i], i);
        execl("/bin/sh", "sh", "-c", script, NULL);
        _exit(127);
    }
    process_close_fds(fds);
    return pid;
}

static struct process *new_process(struct fixture *f, const char *id, bool stdio, struct seen *s) {
    struct process_streams streams = {.in = stdio, .out = stdio, .err = stdio};
    struct process *p = NULL;
    assert_int_equal(process_new(f->event, f->children, id, &streams, on_exited, s, &p, NULL), 0);
    return p;
}

static void test_life(void **state) {
    struct fixture *f = *state;
    struct seen s = {0};
    struct output out = {0}, err_out = {0};
    struct process *p = new_process(f, "e1", true, &s);
    assert_int_equal(process_signal(p, SIGTERM, NULL), -EBUSY);
    assert_int_equal(process_started(p, start(p, "read x; echo out $x; echo err >&2; exit 6"), -1, NULL), 0);
    assert_int_equal(process_wait(p, on_waited, &s, NULL), 0);
    assert_int_equal(process_wait(p, on_waited, &s, NULL), 0);
    assert_int_equal(process_resize(p, 80, 24, NULL), -EINVAL);
    assert_null(process_reader(p, 0));
    assert_null(process_reader(p, 3));
    assert_int_equal(writer_write(&p->in, "hey\n", 4, NULL, NULL, NULL), 0);
    process_close_stdin(p);
    RUN_UNTIL(f->event, s.waited == 2);
    assert_int_equal(s.exited, 1);
    assert_int_equal(s.exit_code, 6);
    assert_true(s.oom);
    /* What it wrote is still there. */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(reader_read(process_reader(p, 1), 100, on_read, &out, NULL), 0);
        assert_int_equal(reader_read(process_reader(p, 2), 100, on_read, &err_out, NULL), 0);
    }
    assert_string_equal(out.text, "out hey\n<eof>");
    assert_string_equal(err_out.text, "err\n<eof>");
    assert_int_equal(process_wait(p, on_waited, &s, NULL), 0);
    assert_int_equal(s.waited, 3);
    assert_int_equal(process_signal(p, SIGTERM, NULL), -ESRCH);
    assert_null(process_free(p));
}

static void test_signal(void **state) {
    struct fixture *f = *state;
    struct seen s = {0};
    struct process *p = new_process(f, "", false, &s);
    assert_int_equal(process_started(p, start(p, "exec sleep 1000"), -1, NULL), 0);
    assert_int_equal(process_signal(p, 0, NULL), -EINVAL);
    assert_int_equal(process_signal(p, 65, NULL), -EINVAL);
    assert_int_equal(process_signal(p, -1, NULL), -EINVAL);
    assert_int_equal(process_wait(p, on_waited, &s, NULL), 0);
    assert_int_equal(process_signal(p, SIGKILL, NULL), 0);
    RUN_UNTIL(f->event, s.waited);
    assert_int_equal(s.exit_code, 128 + SIGKILL);
    process_free(p);
}

static void test_waiters(void **state) {
    struct fixture *f = *state;
    struct seen s = {0};
    struct process *p = new_process(f, "e", false, &s);
    pid_t pid = start(p, "exec sleep 1000");
    assert_int_equal(process_started(p, pid, -1, NULL), 0);
    for (int i = 0; i < PROCESS_WAITERS_MAX; i++)
        assert_int_equal(process_wait(p, on_waited, &s, NULL), 0);
    assert_int_equal(process_wait(p, on_waited, &s, NULL), -EBUSY);
    process_void(p);
    assert_int_equal(s.waited, PROCESS_WAITERS_MAX);
    assert_int_equal(s.code, ECANCELED);
    assert_int_equal(process_wait(p, on_waited, &s, NULL), 0);
    process_free(p);
    assert_int_equal(s.waited, PROCESS_WAITERS_MAX + 1);
    assert_int_equal(s.code, ECANCELED);
    assert_int_equal(s.exited, 0);
    kill(pid, SIGKILL);
}

/* A pid that ended before it was known, and one that is nobody's. */
static void test_late(void **state) {
    struct fixture *f = *state;
    struct seen s = {0};
    struct process *p = new_process(f, "e", false, &s);
    children_hold(f->children);
    pid_t pid = start(p, "exit 9");
    RUN_UNTIL(f->event, kill(pid, 0) < 0);
    assert_int_equal(process_started(p, pid, -1, NULL), 0);
    children_release(f->children);
    assert_int_equal(s.exited, 1);
    assert_int_equal(p->exit.code, 9);
    process_free(p);

    p = new_process(f, "e", false, &s);
    assert_int_equal(process_started(p, getppid(), -1, NULL), 0);
    assert_int_equal(p->state, PROCESS_EXITED);
    assert_int_equal(p->exit.code, PROCESS_EXIT_LOST);
    process_free(p);
}

static void test_output_closed(void **state) {
    struct fixture *f = *state;
    struct seen s = {0};
    struct process *p = new_process(f, "e", true, &s);
    assert_int_equal(process_started(p, start(p, "while :; do echo x; done"), -1, NULL), 0);
    assert_int_equal(process_wait(p, on_waited, &s, NULL), 0);
    process_close_output(p, 1);
    process_close_output(p, 7);
    RUN_UNTIL(f->event, s.waited);
    assert_int_equal(s.exit_code, 128 + SIGPIPE);
    process_free(p);
}

static void test_terminal(void **state) {
    struct fixture *f = *state;
    struct seen s = {0};
    struct process_streams streams = {.terminal = true, .out = true, .width = 90, .height = 30};
    struct process *p = NULL;
    int master, slave, fds[3];
    assert_int_equal(process_new(f->event, f->children, "t", &streams, on_exited, &s, &p, NULL), 0);
    assert_int_equal(process_pipes(p, fds, NULL), 0);
    assert_int_equal(fds[0] + fds[1] + fds[2], -3);
    assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(master);
        signal(SIGHUP, SIG_DFL); /* it may have come with nohup */
        login_tty(slave);
        execl("/bin/sh", "sh", "-c", "exec sleep 1000", NULL);
        _exit(127);
    }
    close(slave);
    assert_int_equal(process_started(p, pid, master, NULL), 0);
    assert_int_equal(process_wait(p, on_waited, &s, NULL), 0);
    assert_int_equal(process_resize(p, 100, 40, NULL), 0);
    process_close_stdin(p); /* nothing: a terminal stays open */
    assert_true(p->in.fd >= 0);
    /* It may not yet have made the terminal its own, thus the order of things: hang up until it is gone. */
    process_close_output(p, 1);
    assert_int_equal(process_resize(p, 100, 40, NULL), -ESRCH);
    RUN_UNTIL(f->event, s.waited || (kill(pid, SIGHUP), false));
    assert_int_equal(s.exit_code, 128 + SIGHUP);
    process_free(p);
}

struct read_seen {
    int n;
    size_t len;
    char text[64];
};

static void on_text(void *userdata, const uint8_t *data, size_t len, const struct err *err) {
    struct read_seen *s = userdata;
    assert_null(err);
    s->n++;
    s->len = MIN(len, sizeof(s->text) - 1);
    memcpy(s->text, data, s->len);
    s->text[s->len] = '\0';
}

/* As an init does: it closes its terminal, and opens it again by its name. */
static void test_terminal_opened_again(void **state) {
    struct fixture *f = *state;
    struct seen s = {0};
    struct read_seen out = {0};
    struct process_streams streams = {.terminal = true, .out = true};
    struct process *p = NULL;
    int master, slave, go[2];
    char name[64], byte = 0;
    assert_int_equal(process_new(f->event, f->children, "t", &streams, on_exited, &s, &p, NULL), 0);
    assert_int_equal(openpty(&master, &slave, name, NULL, NULL), 0);
    assert_int_equal(pipe(go), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(master);
        close(slave);
        alarm(60); /* a test that fails leaves it waiting */
        if (read(go[0], &byte, 1) == 1 && (slave = open(name, O_RDWR | O_NOCTTY)) >= 0)
            (void)write(slave, "again", 5);
        _exit(0);
    }
    /* Nobody else has it open from now on. */
    close(slave);
    assert_int_equal(process_started(p, pid, master, NULL), 0);
    assert_int_equal(process_wait(p, on_waited, &s, NULL), 0);
    assert_int_equal(reader_read(&p->out, 64, on_text, &out, NULL), 0);
    assert_int_equal(sd_event_run(f->event, 50 * USEC_PER_MSEC) >= 0, true);
    assert_int_equal(out.n, 0);
    assert_int_equal(write(go[1], &byte, 1), 1);
    RUN_UNTIL(f->event, out.n);
    assert_string_equal(out.text, "again");
    RUN_UNTIL(f->event, s.waited);
    assert_int_equal(reader_read(&p->out, 64, on_text, &out, NULL), 0);
    RUN_UNTIL(f->event, out.n == 2);
    assert_int_equal(out.len, 0);
    close(go[0]);
    close(go[1]);
    process_free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_life),
        FIXTURE_TEST(test_signal),
        FIXTURE_TEST(test_waiters),
        FIXTURE_TEST(test_late),
        FIXTURE_TEST(test_output_closed),
        FIXTURE_TEST(test_terminal),
        FIXTURE_TEST(test_terminal_opened_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
