/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/children.h"
#include "support.h"

struct seen {
    struct child child;
    int n, status;
};

static void on_exit_status(struct child *c, int status, void *userdata) {
    struct seen *s = userdata;
    assert_ptr_equal(c, &s->child);
    assert_int_equal(c->pid, 0);
    s->n++;
    s->status = status;
}

static pid_t fork_exit(int code) {
    pid_t pid = fork();
    if (pid == 0)
        _exit(code);
    assert_true(pid > 0);
    return pid;
}

static pid_t fork_sleep(void) {
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    assert_true(pid > 0);
    return pid;
}

static bool is_reaped(pid_t pid) {
    return kill(pid, 0) < 0;
}

static void test_watch(void **state) {
    struct fixture *f = *state;
    struct seen s[3] = {0};
    int status = -1;
    pid_t sleeper = fork_sleep();
    assert_int_equal(children_watch(f->children, &s[0].child, fork_exit(3), on_exit_status, &s[0], &status), 0);
    assert_int_equal(children_watch(f->children, &s[1].child, sleeper, on_exit_status, &s[1], &status), 0);
    RUN_UNTIL(f->event, s[0].n == 1);
    assert_int_equal(WEXITSTATUS(s[0].status), 3);
    assert_int_equal(s[1].n, 0);
    /* Two cannot watch the same. */
    assert_int_equal(children_watch(f->children, &s[2].child, sleeper, on_exit_status, &s[2], &status), -ECHILD);
    kill(sleeper, SIGTERM);
    RUN_UNTIL(f->event, s[1].n == 1);
    assert_int_equal(WTERMSIG(s[1].status), SIGTERM);
    assert_int_equal(s[2].n, 0);
}

static void test_not_a_child(void **state) {
    struct fixture *f = *state;
    struct seen s = {0};
    int status;
    assert_int_equal(children_watch(f->children, &s.child, 1, on_exit_status, &s, &status), -ECHILD);
    assert_int_equal(children_watch(f->children, &s.child, 0, on_exit_status, &s, &status), -ECHILD);
    assert_int_equal(children_watch(f->children, &s.child, -1, on_exit_status, &s, &status), -ECHILD);
    assert_int_equal(children_watch(f->children, &s.child, getpid(), on_exit_status, &s, &status), -ECHILD);
}

static void test_forget(void **state) {
    struct fixture *f = *state;
    struct seen s = {0};
    int status;
    pid_t pid = fork_sleep();
    assert_int_equal(children_watch(f->children, &s.child, pid, on_exit_status, &s, &status), 0);
    children_forget(f->children, &s.child);
    children_forget(f->children, &s.child);
    kill(pid, SIGKILL);
    RUN_UNTIL(f->event, is_reaped(pid));
    assert_int_equal(s.n, 0);
}

/* Reaped before anybody knew the pid. */
static void test_late(void **state) {
    struct fixture *f = *state;
    struct seen s = {0};
    int status = -1;
    children_hold(f->children);
    children_hold(f->children);
    pid_t pid = fork_exit(7);
    RUN_UNTIL(f->event, is_reaped(pid));
    children_release(f->children);
    assert_int_equal(children_watch(f->children, &s.child, pid, on_exit_status, &s, &status), 1);
    assert_int_equal(WEXITSTATUS(status), 7);
    children_release(f->children);
    assert_int_equal(children_watch(f->children, &s.child, pid, on_exit_status, &s, &status), -ECHILD);
    assert_int_equal(s.n, 0);
}

static void test_without_hold(void **state) {
    struct fixture *f = *state;
    struct seen s = {0};
    int status = -1;
    pid_t pid = fork_exit(7);
    RUN_UNTIL(f->event, is_reaped(pid));
    children_hold(f->children);
    assert_int_equal(children_watch(f->children, &s.child, pid, on_exit_status, &s, &status), -ECHILD);
    children_release(f->children);
}

/* More than are kept: the newest are. */
static void test_late_bound(void **state) {
    struct fixture *f = *state;
    struct seen s = {0};
    int status = -1;
    children_hold(f->children);
    pid_t first = fork_exit(1), last = 0;
    RUN_UNTIL(f->event, is_reaped(first));
    for (int i = 0; i < CHILDREN_LOST_MAX; i++)
        last = fork_exit(i == CHILDREN_LOST_MAX - 1 ? 9 : 2);
    RUN_UNTIL(f->event, waitid(P_ALL, 0, NULL, WEXITED | WNOHANG | WNOWAIT) < 0);
    assert_int_equal(children_watch(f->children, &s.child, first, on_exit_status, &s, &status), -ECHILD);
    /* The order of reaping is the kernel's; the last fork is among the kept in any case. */
    assert_int_equal(children_watch(f->children, &s.child, last, on_exit_status, &s, &status), 1);
    assert_int_equal(WEXITSTATUS(status), 9);
    children_release(f->children);
}

static void test_kill(void **state) {
    struct fixture *f = *state;
    pid_t pid = fork_sleep();
    children_kill(0);
    children_kill(-1);
    children_kill(1);
    children_kill(pid);
    RUN_UNTIL(f->event, is_reaped(pid));
}

/* A watcher that forgets others, and starts new ones, from its callback. */
struct chain {
    struct fixture *f;
    struct child child;
    int left;
};

static void on_chain(struct child *c, int status, void *userdata) {
    struct chain *chain = userdata;
    (void)status;
    if (--chain->left > 0)
        assert_int_equal(children_watch(chain->f->children, c, fork_exit(0), on_chain, chain, &(int){0}), 0);
}

static void test_chain(void **state) {
    struct chain chain = {.f = *state, .left = 20};
    assert_int_equal(children_watch(chain.f->children, &chain.child, fork_exit(0), on_chain, &chain, &(int){0}), 0);
    RUN_UNTIL(chain.f->event, chain.left == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_watch), FIXTURE_TEST(test_not_a_child),  FIXTURE_TEST(test_forget),
        FIXTURE_TEST(test_late),  FIXTURE_TEST(test_without_hold), FIXTURE_TEST(test_late_bound),
        FIXTURE_TEST(test_kill),  FIXTURE_TEST(test_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
