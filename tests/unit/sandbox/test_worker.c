/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/worker.h"
#include "support.h"

#include <sys/mman.h>
#include <sys/prctl.h>

#include "base/proc.h"

/* What the child and the test both see. */
struct shared {
    pid_t child;
    int value;
};

struct fixture {
    sd_event *event;
    struct shared *shared;
    int private; /* the child's changes to it stay in the child */
    struct worker *worker;
    size_t n_done;
    struct err err; /* of the end */
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    f->shared = mmap(NULL, sizeof(*f->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    *state = f;
    return f->shared == MAP_FAILED || sd_event_new(&f->event) < 0 ? -1 : 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    worker_cancel(f->worker);
    sd_event_unref(f->event);
    munmap(f->shared, sizeof(*f->shared));
    free(f);
    return waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD ? 0 : -1; /* no child is left */
}

static void on_done(void *userdata, const struct err *err) {
    struct fixture *f = userdata;
    f->worker = NULL;
    f->n_done++;
    if (err)
        f->err = *err;
}

static void start(struct fixture *f, worker_fn fn) {
    struct err err = ERR_INIT;
    if (worker_start(f->event, "the test's work", fn, f, on_done, f, &f->worker, &err) < 0)
        fail_msg("%s", err.msg);
}

static void run(struct fixture *f, worker_fn fn) {
    f->n_done = 0;
    f->err = (struct err)ERR_INIT;
    start(f, fn);
    RUN_UNTIL(f->event, f->n_done);
    assert_int_equal(f->n_done, 1);
}

static int does_work(void *arg, struct err *err) {
    struct fixture *f = arg;
    (void)err;
    f->shared->child = getpid();
    f->shared->value = 7;
    f->private = 7;
    return 0;
}

static void only_shared_memory_comes_back(void **state) {
    struct fixture *f = *state;
    run(f, does_work);
    assert_int_equal(f->err.code, 0);
    assert_int_equal(f->shared->value, 7);
    assert_int_equal(f->private, 0);
    assert_int_not_equal(f->shared->child, getpid());
}

static int fails(void *arg, struct err *err) {
    (void)arg;
    err_set(err, ENOSPC, "the disk");
    return err_wrap(err, "commit");
}

static int fails_at_length(void *arg, struct err *err) {
    char text[2 * ERR_MSG_MAX];
    (void)arg;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    return err_set(err, EIO, "%s", text);
}

static int fails_without_a_word(void *arg, struct err *err) {
    (void)arg;
    (void)err;
    return -EXDEV;
}

static void an_error_comes_back(void **state) {
    struct fixture *f = *state;
    run(f, fails);
    assert_int_equal(f->err.code, ENOSPC);
    assert_string_equal(f->err.msg, "commit: the disk");
    run(f, fails_at_length);
    assert_int_equal(f->err.code, EIO);
    assert_int_equal(strlen(f->err.msg), ERR_MSG_MAX - 1);
    run(f, fails_without_a_word);
    assert_int_equal(f->err.code, EXDEV);
    assert_string_equal(f->err.msg, strerror(EXDEV));
}

static int is_killed(void *arg, struct err *err) {
    (void)arg;
    (void)err;
    raise(SIGKILL);
    return 0;
}

static int exits(void *arg, struct err *err) {
    (void)arg;
    (void)err;
    _exit(3);
}

static void a_crash_is_an_error(void **state) {
    struct fixture *f = *state;
    run(f, is_killed);
    assert_int_equal(f->err.code, EIO);
    assert_string_equal(f->err.msg, "the test's work: its process ended with signal 9");
    run(f, exits);
    assert_string_equal(f->err.msg, "the test's work: its process ended with exit code 3");
}

static int hangs(void *arg, struct err *err) {
    struct fixture *f = arg;
    (void)err;
    __atomic_store_n(&f->shared->child, getpid(), __ATOMIC_SEQ_CST);
    for (;;)
        pause();
    return 0;
}

static void cancel_kills(void **state) {
    struct fixture *f = *state;
    start(f, hangs);
    RUN_UNTIL(f->event, __atomic_load_n(&f->shared->child, __ATOMIC_SEQ_CST));
    f->worker = worker_cancel(f->worker);
    assert_null(f->worker);
    assert_int_equal(kill(f->shared->child, 0), -1);
    assert_int_equal(errno, ESRCH);
    run_idle(f->event);
    assert_int_equal(f->n_done, 0);
    assert_null(worker_cancel(NULL));
}

/* Before it had its first turn on a CPU. */
static void cancel_at_once(void **state) {
    struct fixture *f = *state;
    start(f, hangs);
    f->worker = worker_cancel(f->worker);
    run_idle(f->event);
    assert_int_equal(f->n_done, 0);
}

static int looks_around(void *arg, struct err *err) {
    struct fixture *f = arg;
    int sig = 0;
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    if (prctl(PR_GET_PDEATHSIG, &sig) < 0 || sig != SIGKILL)
        return err_set(err, EINVAL, "it would outlive its parent");
    if (sigismember(&mask, SIGTERM) || signal(SIGTERM, SIG_DFL) != SIG_DFL)
        return err_set(err, EINVAL, "it has its parent's signals");
    f->shared->value = 1;
    return 0;
}

static void on_term(int sig) {
    (void)sig;
}

static void it_dies_with_its_parent(void **state) {
    struct fixture *f = *state;
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, &old);
    signal(SIGTERM, on_term);
    run(f, looks_around);
    signal(SIGTERM, SIG_DFL);
    sigprocmask(SIG_SETMASK, &old, NULL);
    if (f->err.code)
        fail_msg("%s", f->err.msg);
    assert_int_equal(f->shared->value, 1);
}

static void two_at_once(void **state) {
    struct fixture *f = *state;
    struct worker *other;
    struct err err = ERR_INIT;
    start(f, hangs);
    assert_int_equal(worker_start(f->event, "other", fails, f, on_done, f, &other, &err), 0);
    struct worker *first = f->worker;
    RUN_UNTIL(f->event, f->n_done);
    assert_string_equal(f->err.msg, "commit: the disk");
    worker_cancel(first);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(only_shared_memory_comes_back),
        TEST(an_error_comes_back),
        TEST(a_crash_is_an_error),
        TEST(cancel_kills),
        TEST(cancel_at_once),
        TEST(it_dies_with_its_parent),
        TEST(two_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
