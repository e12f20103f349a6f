/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/sandbox_dir.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support.h"
#include "tmpdir.h"

static void makes_and_removes(void **state) {
    const struct tmpdir *t = *state;
    struct err err = ERR_INIT;
    cleanup_free char *root = tmpdir_path(t, "a/b");
    cleanup_sandbox_dir struct sandbox_dir d = SANDBOX_DIR_NONE;
    struct sandbox_dir other = SANDBOX_DIR_NONE;
    assert_int_equal(sandbox_dir_open(root, "c1", &other, &err), -ENOENT);
    assert_string_equal(err.msg, "container does not exist");
    assert_int_equal(sandbox_dir_make(root, "c1", &d, &err), 0);
    struct stat st;
    assert_int_equal(fstat(d.fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(sandbox_dir_make(root, "c1", &other, &err), -EEXIST);
    assert_string_equal(err.msg, "container with given ID already exists");
    assert_int_equal(sandbox_dir_open(root, "c2", &other, &err), -ENOENT);
    assert_int_equal(sandbox_dir_open(root, "c1", &other, &err), 0);
    sandbox_dir_close(&other);
    tmpdir_write(t, "a/b/c1/file", "x");
    assert_int_equal(sandbox_dir_remove(&d, &err), 0);
    assert_int_equal(sandbox_dir_remove(&d, &err), 0);
    assert_int_equal(sandbox_dir_open(root, "c1", &other, &err), -ENOENT);
}

/* Where nothing could be removed nothing is made; else there are descriptors to remove it with. */
static void removes_without_descriptors(void **state) {
    const struct tmpdir *t = *state;
    struct rlimit old, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    bool made = false;
    for (rlim_t n = 3; n < 40 && !made; n++) {
        cleanup_sandbox_dir struct sandbox_dir d = SANDBOX_DIR_NONE;
        int fill[40], used = 0;
        none = (struct rlimit){.rlim_cur = n, .rlim_max = old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        int r = sandbox_dir_make(t->path, "c1", &d, NULL);
        while (used < 40 && (fill[used] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
            used++;
        int removed = r == 0 ? sandbox_dir_remove(&d, NULL) : 0;
        while (used > 0)
            close(fill[--used]);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        assert_int_equal(removed, 0);
        assert_int_equal(faccessat(t->fd, "c1", F_OK, 0), -1);
        made = r == 0;
    }
    assert_true(made);
}

static void refuses_bad_ids(void **state) {
    const struct tmpdir *t = *state;
    struct sandbox_dir d = SANDBOX_DIR_NONE;
    static const char *const bad[] = {"", ".", "..", "a/b", "-x", "a b"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(sandbox_dir_make(t->path, bad[i], &d, NULL), -EINVAL);
        assert_int_equal(sandbox_dir_open(t->path, bad[i], &d, NULL), -EINVAL);
    }
}

/* An id that is free again and taken by somebody else is not ours to remove. */
static void removes_only_its_own(void **state) {
    const struct tmpdir *t = *state;
    cleanup_sandbox_dir struct sandbox_dir d = SANDBOX_DIR_NONE;
    cleanup_free char *path = tmpdir_path(t, "c1");
    assert_int_equal(sandbox_dir_make(t->path, "c1", &d, NULL), 0);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(sandbox_dir_remove(&d, NULL), 0);
    assert_int_equal(access(path, F_OK), 0);
}

static void follows_no_link(void **state) {
    const struct tmpdir *t = *state;
    struct sandbox_dir d = SANDBOX_DIR_NONE;
    assert_int_equal(symlinkat("/etc", t->fd, "c1"), 0);
    assert_true(sandbox_dir_open(t->path, "c1", &d, NULL) < 0);
    assert_int_equal(sandbox_dir_make(t->path, "c1", &d, NULL), -EEXIST);
}

static void shows_the_end_of_the_log(void **state) {
    const struct tmpdir *t = *state;
    cleanup_sandbox_dir struct sandbox_dir d = SANDBOX_DIR_NONE;
    assert_int_equal(sandbox_dir_make(t->path, "c1", &d, NULL), 0);
    cleanup_free char *none = sandbox_dir_log_tail(&d);
    assert_string_equal(none, "");
    tmpdir_write(t, "c1/log", "one\ntwo\n");
    cleanup_free char *both = sandbox_dir_log_tail(&d);
    assert_string_equal(both, "one\ntwo");
    tmpdir_write(t, "c1/log", "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n");
    cleanup_free char *ten = sandbox_dir_log_tail(&d);
    assert_string_equal(ten, "3\n4\n5\n6\n7\n8\n9\n10\n11\n12");
    tmpdir_write(t, "c1/log", "\n\n");
    cleanup_free char *empty = sandbox_dir_log_tail(&d);
    assert_string_equal(empty, "");
}

static void tells_that_nobody_listens(void **state) {
    const struct tmpdir *t = *state;
    struct err err = ERR_INIT;
    cleanup_sandbox_dir struct sandbox_dir d = SANDBOX_DIR_NONE;
    assert_int_equal(sandbox_dir_make(t->path, "c1", &d, NULL), 0);
    assert_int_equal(sandbox_connect(&d, &err), -ENOENT);
    assert_message(&err, "cannot connect to the sandbox daemon of c1");
}

/* A pid that is another's by now is not waited for. */
static void waits_for_the_daemon_only(void **state) {
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    uint64_t start = 0;
    assert_int_equal(proc_start_time(pid, &start), 0);
    assert_true(sandbox_await_daemon(pid, start - 1, 0));
    assert_true(sandbox_await_daemon(0, 0, 0));
    assert_false(sandbox_await_daemon(pid, start, 1000));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_true(sandbox_await_daemon(pid, start, 20 * USEC_PER_SEC));
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

int main(void) {
    log_set_level(LOG_LEVEL_ERROR);
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, tmpdir_setup, tmpdir_teardown)
    const struct CMUnitTest tests[] = {
        TEST(makes_and_removes),         TEST(removes_without_descriptors),
        TEST(refuses_bad_ids),           TEST(removes_only_its_own),
        TEST(follows_no_link),           TEST(shows_the_end_of_the_log),
        TEST(tells_that_nobody_listens), TEST(waits_for_the_daemon_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
