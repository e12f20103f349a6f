/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/job.h"
#include "support.h"

#include <fcntl.h>

struct result {
    int n, status;
};

static void on_done(void *userdata, int status) {
    struct result *r = userdata;
    r->n++;
    r->status = status;
}

static int run(struct fixture *f, const char *script, uint64_t timeout, struct result *res, struct job **ret) {
    char *argv[] = {(char[]){"sh"}, (char[]){"-c"}, (char *)script, NULL};
    struct proc_spec spec = {.path = "/bin/sh", .argv = argv, .setup = job_setup_child};
    return job_start(f->event, f->children, &spec, timeout, on_done, res, ret, NULL);
}

static void test_end(void **state) {
    struct fixture *f = *state;
    struct result a = {0}, b = {0};
    assert_int_equal(run(f, "exit 5", TEST_DEADLINE, &a, NULL), 0);
    assert_int_equal(run(f, "kill -TERM $$", TEST_DEADLINE, &b, NULL), 0);
    assert_int_equal(a.n, 0);
    RUN_UNTIL(f->event, a.n && b.n);
    assert_int_equal(WEXITSTATUS(a.status), 5);
    assert_int_equal(WTERMSIG(b.status), SIGTERM);
}

static void test_deadline(void **state) {
    struct fixture *f = *state;
    struct result a = {0};
    assert_int_equal(run(f, "exec sleep 1000", 50 * USEC_PER_MSEC, &a, NULL), 0);
    RUN_UNTIL(f->event, a.n);
    assert_int_equal(a.status, -ETIMEDOUT);
}

static void test_cancel(void **state) {
    struct fixture *f = *state;
    struct result a = {0};
    struct job *job = NULL;
    assert_int_equal(run(f, "exec sleep 1000", TEST_DEADLINE, &a, &job), 0);
    assert_null(job_cancel(job));
    assert_null(job_cancel(NULL));
    /* It is killed and reaped all the same. */
    RUN_UNTIL(f->event, waitid(P_ALL, 0, NULL, WEXITED | WNOHANG | WNOWAIT) < 0);
    assert_int_equal(a.n, 0);
}

static void test_no_program(void **state) {
    struct fixture *f = *state;
    char *argv[] = {(char[]){"x"}, NULL};
    struct proc_spec spec = {.path = "/nonexistent/x", .argv = argv};
    struct result a = {0};
    struct err err = ERR_INIT;
    assert_int_equal(job_start(f->event, f->children, &spec, TEST_DEADLINE, on_done, &a, NULL, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "/nonexistent/x"));
    assert_int_equal(a.n, 0);
}

static void test_child_set_up(void **state) {
    struct fixture *f = *state;
    struct result a = {0};
    /* What PID 1 has raised for itself must not be inherited; the test raises what it may. */
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "500", 3), 3);
    assert_int_equal(
        run(f, "[ $(cat /proc/self/oom_score_adj) = 0 ] && [ $(ulimit -n) -le 1024 ]", TEST_DEADLINE, &a, NULL), 0);
    RUN_UNTIL(f->event, a.n);
    assert_int_equal(a.status, 0);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_end),        FIXTURE_TEST(test_deadline),     FIXTURE_TEST(test_cancel),
        FIXTURE_TEST(test_no_program), FIXTURE_TEST(test_child_set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
