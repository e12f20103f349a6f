/* SPDX-License-Identifier: Apache-2.0 */
/* Calls to a daemon that answers, fails, is silent or goes away: a ttrpc server in a child process. */
#include "cli/session.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/signals.h"
#include "cli/task.h"
#include "support.h"
#include "tmpdir.h"
#include "ttrpc/server.h"

static void handle_start(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    (void)userdata;
    const Containerd__Task__V2__StartRequest *in = (const void *)msg;
    struct err err = ERR_INIT;
    if (strcmp(in->id, "die") == 0)
        _exit(1);
    if (strcmp(in->id, "hang") == 0)
        return;
    if (strcmp(in->id, "fail") == 0) {
        err_set(&err, ENOENT, "exec: \"x\": executable file not found in $PATH");
        ttrpc_fail(req, &err);
        return;
    }
    ttrpc_reply(req, NULL);
}

static void handle_wait(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    (void)msg;
    (void)userdata;
    Containerd__Task__V2__WaitResponse out = CONTAINERD__TASK__V2__WAIT_RESPONSE__INIT;
    out.exit_status = 5;
    ttrpc_reply(req, &out.base);
}

static const struct ttrpc_handler handlers[] = {{"Start", handle_start}, {"Wait", handle_wait}, {NULL, NULL}};
static const struct ttrpc_service service = {.desc = &containerd__task__v2__task__descriptor, .handlers = handlers};

struct fixture {
    struct tmpdir *tmp;
    struct sandbox_dir dir;
    struct session session;
    pid_t server;
};

static void __attribute__((noreturn)) serve(int fd) {
    sd_event *event = NULL;
    struct ttrpc_server *server = NULL;
    if (sd_event_new(&event) < 0 || ttrpc_server_new(event, &server, NULL) < 0 ||
        ttrpc_server_add(server, &service, NULL, NULL) < 0 || ttrpc_server_add_plain(server, fd, NULL) < 0)
        _exit(2);
    (void)sd_event_loop(event);
    _exit(0);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    void *tmp = NULL;
    int pair[2];
    f->dir = SANDBOX_DIR_NONE;
    if (tmpdir_setup(&tmp) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    f->tmp = tmp;
    if (sandbox_dir_make(f->tmp->path, "c1", &f->dir, NULL) < 0)
        return -1;
    f->server = fork();
    if (f->server == 0) {
        close(pair[0]);
        serve(pair[1]);
    }
    close(pair[1]);
    *state = f;
    return session_open_fd(&f->session, &f->dir, pair[0], TEST_DEADLINE, NULL);
}

static int teardown(void **state) {
    struct fixture *f = *state;
    void *tmp = f->tmp;
    session_close(&f->session);
    kill(f->server, SIGKILL);
    waitpid(f->server, NULL, 0);
    sandbox_dir_close(&f->dir);
    free(f);
    return tmpdir_teardown(&tmp);
}

static void calls(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    uint32_t status = 0;
    assert_int_equal(task_start(&f->session, "ok", "", 0, &err), 0);
    assert_int_equal(task_wait(&f->session, "ok", "", SESSION_FOREVER, &status, &err), 0);
    assert_int_equal(status, 5);
    assert_int_equal(task_start(&f->session, "fail", "", 0, &err), -ENOENT);
    assert_message(&err, "exec: \"x\": executable file not found in $PATH");
    assert_true(task_pause(&f->session, "x", &err) < 0); /* it has no such method */
    assert_int_equal(task_start(&f->session, "ok", "", 0, &err), 0);
}

static void has_a_deadline(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    f->session.timeout = 50 * USEC_PER_MSEC;
    assert_int_equal(task_start(&f->session, "hang", "", 0, &err), -ETIMEDOUT);
    bool never = false;
    assert_int_equal(session_run_until(&f->session, &never, 50 * USEC_PER_MSEC, &err), -ETIMEDOUT);
    f->session.timeout = TEST_DEADLINE;
    assert_int_equal(task_start(&f->session, "ok", "", 0, &err), 0);
}

static void on_signal(int sig, void *userdata) {
    ((struct session *)userdata)->interrupt = sig;
}

static void is_interrupted(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    signals_block();
    assert_int_equal(signals_watch(f->session.event, on_signal, &f->session, &err), 0);
    kill(getpid(), SIGTERM);
    assert_int_equal(task_start(&f->session, "hang", "", 0, &err), -EINTR);
    assert_string_equal(err.msg, "interrupted by SIGTERM");
    f->session.interrupt = 0;
    assert_int_equal(task_start(&f->session, "ok", "", 0, &err), 0);
}

static void tells_of_the_daemons_death(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    uint32_t status;
    bool never = false;
    tmpdir_write(f->tmp, "c1/log", "the last words\n");
    assert_int_equal(task_start(&f->session, "die", "", 0, &err), -ECONNRESET);
    assert_message(&err, "the sandbox daemon of c1 died; the last lines of ");
    assert_message(&err, "/c1/log:\nthe last words");
    assert_true(f->session.closed);
    assert_int_equal(task_wait(&f->session, "ok", "", 0, &status, &err), -ECONNRESET);
    assert_int_equal(session_run_until(&f->session, &never, SESSION_FOREVER, &err), -ECONNRESET);
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(calls),
        TEST(has_a_deadline),
        TEST(is_interrupted),
        TEST(tells_of_the_daemons_death),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
