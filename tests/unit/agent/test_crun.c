/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/crun.h"
#include "support.h"

#include <fcntl.h>
#include <pty.h>
#include <sys/socket.h>
#include <sys/un.h>

struct result {
    int n, code, tty;
    pid_t pid;
    bool timed_out;
    char msg[200];
};

static void on_done(void *userdata, struct crun_result *r) {
    struct result *res = userdata;
    res->n++;
    res->code = r->err ? r->err->code : 0;
    res->pid = r->pid;
    res->tty = r->tty;
    r->tty = -1;
    res->timed_out = r->timed_out;
    snprintf(res->msg, sizeof(res->msg), "%.190s", r->err ? r->err->msg : "");
}

static struct crun new_crun(struct fixture *f) {
    char *dir = tmpdir_path(f->dir, "op");
    assert_int_equal(mkdir(dir, 0700), 0);
    return (struct crun){.event = f->event, .children = f->children, .path = write_fake_crun(f->dir), .dir = dir};
}

static void free_crun(struct crun *c) {
    /* Nothing of an operation is left. */
    cleanup_dir DIR *d = opendir(c->dir);
    assert_non_null(d);
    struct dirent *e;
    while ((e = readdir(d)))
        assert_int_equal(e->d_name[0], '.');
    free((char *)c->path);
    free((char *)c->dir);
}

static void test_plain(void **state) {
    struct fixture *f = *state;
    struct crun c = new_crun(f);
    struct crun_request req = CRUN_REQUEST_INIT;
    struct result res = {0};
    req.args[0] = "start";
    req.id = "c1";
    assert_int_equal(crun_run(&c, &req, on_done, &res, NULL), 0);
    assert_int_equal(res.n, 0);
    RUN_UNTIL(f->event, res.n);
    assert_int_equal(res.code, 0);
    assert_int_equal(res.pid, 0);
    assert_int_equal(res.tty, -1);
    free_crun(&c);
}

static void test_process(void **state) {
    struct fixture *f = *state;
    struct crun c = new_crun(f);
    struct crun_request req = CRUN_REQUEST_INIT;
    struct result res = {0};
    cleanup_free char *input = NULL;
    int fds[2];
    char buf[16];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    tmpdir_write(f->dir, "program", "echo hi; exec sleep 1000");
    req.args[0] = "exec";
    req.args[1] = "--detach";
    req.id = "c1";
    req.makes_process = true;
    req.option = "--process";
    req.data = "{\"args\":[]}";
    req.len = 11;
    req.stdio[1] = fds[1];
    assert_int_equal(crun_run(&c, &req, on_done, &res, NULL), 0);
    close(fds[1]);
    RUN_UNTIL(f->event, res.n);
    assert_int_equal(res.code, 0);
    assert_true(res.pid > 1);
    assert_int_equal(file_read_at(f->dir->fd, "input", 100, &input, NULL, NULL), 0);
    assert_string_equal(input, "{\"args\":[]}");
    assert_int_equal(read(fds[0], buf, sizeof(buf)), 3);
    children_kill(res.pid); /* it is a child of ours by now */
    assert_int_equal(read(fds[0], buf, sizeof(buf)), 0);
    close(fds[0]);
    free_crun(&c);
}

static void test_failures(void **state) {
    struct fixture *f = *state;
    struct crun c = new_crun(f);
    struct crun_request req = CRUN_REQUEST_INIT;
    struct result res = {0};
    req.args[0] = "start";
    req.id = "c1";
    tmpdir_write(f->dir, "fail-start", "{\"msg\":\"executable file `foo` not found in $PATH\",\"level\":\"error\"}\n");
    assert_int_equal(crun_run(&c, &req, on_done, &res, NULL), 0);
    RUN_UNTIL(f->event, res.n == 1);
    assert_int_equal(res.code, ENOENT);
    assert_string_equal(res.msg, "exec: \"foo\": executable file not found in $PATH");
    /* No log at all. */
    tmpdir_write(f->dir, "fail-start", "");
    assert_int_equal(crun_run(&c, &req, on_done, &res, NULL), 0);
    RUN_UNTIL(f->event, res.n == 2);
    assert_int_equal(res.code, EIO);
    assert_non_null(strstr(res.msg, "exit code 1"));
    /* A pid was promised, but there is none. */
    req.args[0] = "update";
    req.makes_process = true;
    assert_int_equal(crun_run(&c, &req, on_done, &res, NULL), 0);
    RUN_UNTIL(f->event, res.n == 3);
    assert_int_equal(res.code, ENOENT);
    assert_non_null(strstr(res.msg, "crun left no pid"));
    /* No program. */
    char *path = (char *)c.path;
    struct err err = ERR_INIT;
    c.path = "/nonexistent/crun";
    assert_int_equal(crun_run(&c, &req, on_done, &res, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "/nonexistent/crun"));
    assert_int_equal(res.n, 3);
    c.path = path;
    free_crun(&c);
}

static void test_parallel_bound(void **state) {
    struct fixture *f = *state;
    struct crun c = new_crun(f);
    struct crun_request req = CRUN_REQUEST_INIT;
    struct result res = {0};
    req.args[0] = "exec";
    req.id = "c1";
    req.makes_process = true;
    tmpdir_write(f->dir, "wait-exec", "");
    tmpdir_write(f->dir, "program", "exit 0");
    for (unsigned i = 0; i < CRUN_PARALLEL_MAX; i++)
        assert_int_equal(crun_run(&c, &req, on_done, &res, NULL), 0);
    assert_int_equal(crun_run(&c, &req, on_done, &res, NULL), -ENOSPC);
    req.args[0] = "delete";
    req.makes_process = false;
    assert_int_equal(crun_run(&c, &req, on_done, &res, NULL), 0);
    tmpdir_remove(f->dir, "wait-exec");
    RUN_UNTIL(f->event, res.n == CRUN_PARALLEL_MAX + 1);
    assert_int_equal(c.running, 0);
    free_crun(&c);
}

static void test_deadline(void **state) {
    struct fixture *f = *state;
    struct crun c = new_crun(f);
    struct crun_request req = CRUN_REQUEST_INIT;
    struct result res = {0};
    req.args[0] = "create";
    req.id = "c1";
    req.makes_process = true;
    req.timeout_usec = 100 * USEC_PER_MSEC;
    tmpdir_write(f->dir, "hang-create", "");
    assert_int_equal(crun_run(&c, &req, on_done, &res, NULL), 0);
    RUN_UNTIL(f->event, res.n);
    assert_int_equal(res.code, ETIMEDOUT);
    assert_true(res.timed_out);
    free_crun(&c);
}

static void test_terminal(void **state) {
    struct fixture *f = *state;
    struct crun c = new_crun(f);
    struct crun_request req = CRUN_REQUEST_INIT;
    struct result res = {0};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int master, slave;
    tmpdir_write(f->dir, "wait-exec", "");
    req.args[0] = "exec";
    req.id = "c1";
    req.makes_process = true;
    req.terminal = true;
    assert_int_equal(crun_run(&c, &req, on_done, &res, NULL), 0);
    assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/1.sock", c.dir);
    assert_int_equal(connect(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(fd_send(fd, "x", 1, &master, 1), 1);
    close(fd);
    close(master);
    tmpdir_remove(f->dir, "wait-exec");
    RUN_UNTIL(f->event, res.n);
    assert_int_equal(res.code, 0);
    assert_true(res.tty >= 0);
    assert_true(isatty(res.tty));
    close(res.tty);
    close(slave);
    children_kill(res.pid);
    /* And if none comes: the process is known, so that it can be killed. */
    res = (struct result){0};
    assert_int_equal(crun_run(&c, &req, on_done, &res, NULL), 0);
    RUN_UNTIL(f->event, res.n);
    assert_int_equal(res.code, EINVAL);
    assert_true(res.pid > 1);
    children_kill(res.pid);
    free_crun(&c);
}

/* crun, and so what it runs, gets the library; nothing else in the agent does. */
static void test_preload(void **state) {
    struct fixture *f = *state;
    struct crun c = new_crun(f);
    struct crun_request req = CRUN_REQUEST_INIT;
    struct result res = {0};
    free((char *)c.path);
    c.path = tmpdir_path(f->dir, "crun-env");
    cleanup_free char *text = str_printf("#!/bin/sh\nprintf %%s \"$LD_PRELOAD\" >%s.seen\n", c.path);
    cleanup_free char *seen = NULL;
    int fd = open(c.path, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
    fd_close(fd);
    req.args[0] = "checkpoint";
    req.id = "c1";
    req.preload = "/nonexistent/stasis.so"; /* the loader goes on without it */
    assert_int_equal(crun_run(&c, &req, on_done, &res, NULL), 0);
    RUN_UNTIL(f->event, res.n);
    assert_int_equal(res.code, 0);
    assert_int_equal(file_read_at(f->dir->fd, "crun-env.seen", 256, &seen, NULL, NULL), 0);
    assert_string_equal(seen, "/nonexistent/stasis.so");
    assert_null(getenv("LD_PRELOAD"));
    free_crun(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_plain),          FIXTURE_TEST(test_process),  FIXTURE_TEST(test_failures),
        FIXTURE_TEST(test_parallel_bound), FIXTURE_TEST(test_deadline), FIXTURE_TEST(test_terminal),
        FIXTURE_TEST(test_preload),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
