/* SPDX-License-Identifier: Apache-2.0 */
/* Built with the fault points, whatever the programs are built with. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <sys/wait.h>

#include "base/fault.h"
#include "tmpdir.h"

static int setup(void **state) {
    int r = tmpdir_setup(state);
    if (r == 0) {
        cleanup_free char *file = tmpdir_path(*state, "fault");
        setenv(FAULT_FILE_ENV, file, 1);
    }
    return r;
}

static int teardown(void **state) {
    unsetenv(FAULT_FILE_ENV);
    return tmpdir_teardown(state);
}

static void assert_mark(const struct tmpdir *t, const char *want) {
    cleanup_free char *text = NULL;
    assert_int_equal(file_read_at(t->fd, "fault.hit", 256, &text, NULL, NULL), 0);
    assert_string_equal(text, want);
}

static void nothing_is_armed(void **state) {
    struct tmpdir *t = *state;
    assert_false(FAULT(COMMIT_SYNC)); /* no file */
    static const char *const texts[] = {
        "", "\n", "none\n", "commit.sync", "commit.sync\n", "commit.sync-dir EIO\n", "commit EIO\n"};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        tmpdir_write(t, "fault", texts[i]);
        assert_false(FAULT(COMMIT_SYNC));
    }
    unsetenv(FAULT_FILE_ENV);
    tmpdir_write(t, "fault", "commit.sync EIO\n");
    assert_false(FAULT(COMMIT_SYNC));
    assert_int_equal(faccessat(t->fd, "fault.hit", F_OK, 0), -1);
}

static void a_step_fails(void **state) {
    struct tmpdir *t = *state;
    char mark[64];
    tmpdir_write(t, "fault", "commit.sync ENOSPC\ncommit.move EDQUOT\n");
    errno = 0;
    assert_true(FAULT(COMMIT_SYNC));
    assert_int_equal(errno, ENOSPC);
    assert_true(FAULT(COMMIT_MOVE));
    assert_int_equal(errno, EDQUOT);
    assert_false(FAULT(COMMIT_RENAME));
    snprintf(mark, sizeof(mark), "commit.move %d\n", (int)getpid());
    assert_mark(t, mark);
    tmpdir_write(t, "fault", "commit.sync ENONSENSE\n");
    assert_true(FAULT(COMMIT_SYNC));
    assert_int_equal(errno, EINVAL);
}

static void every_point_has_its_name(void **state) {
    struct tmpdir *t = *state;
#define NAME(id, name) name,
    static const char *const names[] = {FAULT_POINTS(NAME)};
    assert_int_equal(ARRAY_SIZE(names), FAULT_COUNT);
    for (unsigned i = 0; i < FAULT_COUNT; i++) {
        cleanup_free char *line = str_printf("%s EIO\n", names[i]);
        tmpdir_write(t, "fault", line);
        for (unsigned k = 0; k < FAULT_COUNT; k++)
            assert_int_equal(fault_hit(k), k == i);
    }
}

static void a_process_is_killed(void **state) {
    struct tmpdir *t = *state;
    int status;
    tmpdir_write(t, "fault", "agent.crun kill\n");
    pid_t pid = fork();
    if (pid == 0) {
        (void)FAULT(AGENT_CRUN);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void a_process_stands_still_until_it_is_let_go(void **state) {
    struct tmpdir *t = *state;
    int status;
    tmpdir_write(t, "fault", "agent.crun hold\n");
    pid_t pid = fork();
    if (pid == 0)
        _exit(FAULT(AGENT_CRUN));
    uint64_t end = now_usec() + 10 * USEC_PER_SEC;
    while (faccessat(t->fd, "fault.hit", F_OK, 0) < 0 && now_usec() < end)
        fd_wait(-1, 0, USEC_PER_MSEC);
    assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
    tmpdir_write(t, "fault", "none\n");
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void the_command_line_names_the_file(void **state) {
    struct tmpdir *t = *state;
    tmpdir_write(t, "other", "agent.crun EIO\n");
    cleanup_free char *path = tmpdir_path(t, "other");
    cleanup_free char *word = str_printf("agent.fault=%s", path);
    FAULT_CMDLINE("agent.log=debug");
    assert_false(FAULT(AGENT_CRUN));
    FAULT_CMDLINE(word);
    assert_true(FAULT(AGENT_CRUN));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_armed),
        TEST(a_step_fails),
        TEST(every_point_has_its_name),
        TEST(a_process_is_killed),
        TEST(a_process_stands_still_until_it_is_let_go),
        TEST(the_command_line_names_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
