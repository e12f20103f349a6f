/* SPDX-License-Identifier: Apache-2.0 */
/* What goes wrong: bad input, a daemon that fails or dies, interruption. Nothing may be left behind (the teardown
 * checks it). */
#include "program.h"

static void refuses_bad_input(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, NULL, "true");
    cleanup_free char *tty = program_bundle(p, "tty", true, NULL, "true");
    RUN(p, NULL, 1, NULL, "\"state\" requires exactly 1 argument(s)", "state");
    RUN(p, NULL, 1, NULL, "flag provided but not defined: -bogus", "run", "--bogus", "c1");
    RUN(p, NULL, 3, "", "No help topic for 'bogus'", "bogus");
    RUN(p, NULL, 1, "", "container does not exist", "state", "c1");
    RUN(p, NULL, 255, "", "exec failed: container does not exist", "exec", "c1", "true");
    RUN(p, NULL, 1, "", "create failed: invalid container id \"../x\"", "create", "-b", b, "../x");
    RUN(p, NULL, 1, "", "create failed: bundle /no/such: No such file or directory", "create", "-b", "/no/such", "c1");
    RUN(p, NULL, 1, "", "--preserve-fds 1: open files cannot be passed into a virtual machine", "run", "--preserve-fds",
        "1", "-b", b, "c1");
    RUN(p, NULL, 1, "", "cannot allocate tty if stasis will detach without setting console socket", "run", "-d", "-b",
        tty, "c1");
    RUN(p, NULL, 1, "", "cannot use console socket if stasis will not detach or allocate tty", "run",
        "--console-socket", "/x", "-b", b, "c1");
    RUN(p, NULL, 1, "", "--console-socket /no/such", "run", "-d", "--console-socket", "/no/such", "-b", tty, "c1");
    RUN(p, NULL, 1, "", "unknown signal \"NONE\"", "kill", "c1", "NONE");
    RUN(p, NULL, 1, "", "--rootless", "spec", "--rootless");
}

static void logs_where_it_is_told(void **state) {
    const struct program *p = *state;
    cleanup_free char *log = tmpdir_path(p->dir, "log");
    cleanup_free char *text = NULL;
    RUN(p, NULL, 1, "", "stasis: container does not exist\n", "--log", log, "--log-format", "json", "state", "c1");
    assert_int_equal(file_read_at(AT_FDCWD, log, 4096, &text, NULL, NULL), 0);
    assert_memory_equal(text, "{\"level\":\"error\",\"msg\":\"container does not exist\",", 50);
    RUN(p, NULL, 1, "", "{\"level\":\"error\",\"msg\":\"container", "--log-format", "json", "state", "c1");
    RUN(p, NULL, 1, "", "invalid log-format: x", "--log-format", "x", "state", "c1");
}

static void tells_of_a_failing_daemon(void **state) {
    const struct program *p = *state;
    cleanup_free char *fails = program_bundle(p, "fails", false, "fail", "true");
    cleanup_free char *dies = program_bundle(p, "dies", false, "die", "true");
    RUN(p, NULL, 1, "", "run failed: the mock fails, as it was told", "run", "-b", fails, "c1");
    RUN(p, NULL, 1, "", "create failed: the mock fails, as it was told", "create", "-b", fails, "c1");
    RUN(p, NULL, 1, "", "create failed: the sandbox daemon of c1 died; the last lines of ", "create", "-b", dies, "c1");
    RUN(p, NULL, 1, "", "the mock dies, as it was told", "run", "-b", dies, "c1");
}

static void needs_the_daemon_program(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, NULL, "true");
    assert_int_equal(unlinkat(p->dir->fd, "containerd-shim-stasis-v2", 0), 0);
    RUN(p, NULL, 1, "", "no containerd-shim-stasis-v2 in ", "run", "-b", b, "c1");
}

static void is_interrupted_while_creating(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, "hang", "true");
    static const char *const commands[] = {"run", "create"};
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        pid_t pid = program_spawn(p, (int[]){-1, -1, -1}, commands[i], "-b", b, "c1", NULL);
        WAIT_FOR(STATUS_IS(p, "c1", "creating"));
        kill(pid, SIGINT);
        assert_int_equal(program_wait(pid), 128 + SIGINT);
        cleanup_free char *dir = path_join(p->root, "c1");
        assert_true(access(dir, F_OK) < 0);
    }
}

static void is_deleted_after_its_maker_was_killed(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, "hang", "true");
    pid_t pid = program_spawn(p, (int[]){-1, -1, -1}, "create", "-b", b, "c1", NULL);
    WAIT_FOR(STATUS_IS(p, "c1", "creating"));
    kill(pid, SIGKILL);
    assert_int_equal(program_wait(pid), 137);
    RUN(p, NULL, 1, "", "cannot delete container c1 that is not stopped: creating", "delete", "c1");
    RUN(p, NULL, 0, "", NULL, "delete", "--force", "c1");
}

static void survives_the_death_of_the_daemon(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, NULL, "exec sleep 1000");
    pid_t daemon = 0, monitor = 0;
    /* Detached: the monitor ends as if killed, what is left can be deleted. */
    RUN(p, NULL, 0, "", NULL, "run", "-d", "-b", b, "c1");
    (void)program_status(p, "c1", &monitor, &daemon);
    kill(daemon, SIGKILL);
    assert_int_equal(program_wait(monitor), 137);
    WAIT_FOR(STATUS_IS(p, "c1", "stopped"));
    RUN(p, NULL, 1, "", "container not running", "kill", "c1");
    RUN(p, NULL, 0, "", NULL, "delete", "c1");
    /* In the foreground: the same exit code, and the reason. */
    cleanup_fd int err = program_file(p, ".err");
    pid_t run = program_spawn(p, (int[]){-1, -1, err}, "run", "-b", b, "c1", NULL);
    WAIT_FOR(STATUS_IS(p, "c1", "running"));
    (void)program_status(p, "c1", NULL, &daemon);
    kill(daemon, SIGKILL);
    assert_int_equal(program_wait(run), 137);
    cleanup_free char *text = program_read(err);
    assert_non_null(strstr(text, "stasis: the sandbox daemon of c1 died"));
    /* An exec of it. */
    RUN(p, NULL, 0, "", NULL, "run", "-d", "-b", b, "c1");
    pid_t exec = program_spawn(p, (int[]){-1, -1, err}, "exec", "c1", "/bin/sleep", "1000", NULL);
    (void)program_status(p, "c1", NULL, &daemon);
    kill(daemon, SIGKILL);
    assert_int_equal(program_wait(exec), 255);
    RUN(p, NULL, 0, "", NULL, "delete", "-f", "c1");
}

/* The directory was made and then its maker vanished, before any daemon. */
static void deletes_a_directory_without_state(void **state) {
    const struct program *p = *state;
    cleanup_free char *dir = path_join(p->root, "c1");
    assert_int_equal(path_mkdirs(dir, 0700, NULL), 0);
    RUN(p, NULL, 1, "", "container does not exist", "state", "c1");
    RUN(p, NULL, 1, "", "container c1 is being created, or its creation was cut off", "delete", "c1");
    RUN(p, NULL, 0, "", NULL, "delete", "--force", "c1");
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, program_setup, program_teardown)
    const struct CMUnitTest tests[] = {
        TEST(refuses_bad_input),
        TEST(logs_where_it_is_told),
        TEST(tells_of_a_failing_daemon),
        TEST(needs_the_daemon_program),
        TEST(is_interrupted_while_creating),
        TEST(is_deleted_after_its_maker_was_killed),
        TEST(survives_the_death_of_the_daemon),
        TEST(deletes_a_directory_without_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
