/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a container by the command line: run, create, start, state, kill, delete, list. */
#include "program.h"

static void runs_in_the_foreground(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, NULL, "cat; echo err >&2; exit 3");
    RUN(p, "data\n", 3, "data\n", "err\n", "run", "-b", b, "c1");
}

static void maps_signals_and_failures(void **state) {
    const struct program *p = *state;
    cleanup_free char *killed = program_bundle(p, "killed", false, NULL, "kill -9 $$");
    cleanup_free char *missing = program_bundle(p, "missing", false, NULL, "/no/such/program");
    cleanup_free char *plain = program_bundle(p, "plain", false, NULL, "/etc/passwd");
    RUN(p, NULL, 137, "", NULL, "run", "-b", killed, "c1");
    RUN(p, NULL, 127, "", "stasis: run failed: exec: \"/no/such/program\": executable file not found in $PATH", "run",
        "-b", missing, "c1");
    RUN(p, NULL, 126, "", "stasis: run failed: exec: \"/etc/passwd\": permission denied", "run", "-b", plain, "c1");
    RUN(p, NULL, 127, "", "executable file not found", "run", "-d", "-b", missing, "c1");
}

static void lives_detached(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, NULL, "trap 'exit 7' TERM; while :; do sleep 0.05; done");
    cleanup_free char *pid_file = tmpdir_path(p->dir, "pid");
    cleanup_free char *text = NULL;
    RUN(p, NULL, 0, "", NULL, "run", "-d", "--pid-file", pid_file, "-b", b, "c1");
    assert_int_equal(file_read_at(AT_FDCWD, pid_file, 32, &text, NULL, NULL), 0);
    pid_t pid = atoi(text), in_state = 0;
    assert_string_equal(program_status(p, "c1", &in_state, NULL), "running");
    assert_int_equal(pid, in_state);

    RUN(p, NULL, 0, "c1\n", NULL, "list", "-q");
    RUN(p, NULL, 1, "", "stasis: run failed: container with given ID already exists", "run", "-d", "-b", b, "c1");
    RUN(p, NULL, 1, "", "cannot delete container c1 that is not stopped: running", "delete", "c1");
    RUN(p, NULL, 1, "", "cannot start an already running container", "start", "c1");
    RUN(p, NULL, 1, "", "container not paused", "resume", "c1");
    RUN(p, NULL, 0, "", NULL, "kill", "c1");
    /* The monitor is this process's child now, and ends as the container does. */
    assert_int_equal(program_wait(pid), 7);
    WAIT_FOR(STATUS_IS(p, "c1", "stopped"));
    RUN(p, NULL, 1, "", "container not running", "kill", "c1", "KILL");
    RUN(p, NULL, 0, "", NULL, "kill", "--all", "c1", "KILL");
    RUN(p, NULL, 1, "", "cannot start a container that has stopped", "start", "c1");
    RUN(p, NULL, 0, "", NULL, "delete", "c1");
    RUN(p, NULL, 1, "", "container does not exist", "delete", "c1");
    RUN(p, NULL, 0, "", NULL, "delete", "--force", "c1");
    RUN(p, NULL, 0, "", NULL, "list", "-q");
}

static void creates_then_starts(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, NULL, "exit 5");
    pid_t pid = 0;
    RUN(p, NULL, 0, "", NULL, "create", "--bundle", b, "c1");
    assert_string_equal(program_status(p, "c1", &pid, NULL), "created");
    RUN(p, NULL, 0, "", NULL, "start", "c1");
    assert_int_equal(program_wait(pid), 5);
    RUN(p, NULL, 0, "", NULL, "delete", "c1");
    /* One that was never started may be deleted as it is. */
    RUN(p, NULL, 0, "", NULL, "create", "--bundle", b, "c1");
    (void)program_status(p, "c1", &pid, NULL);
    RUN(p, NULL, 0, "", NULL, "delete", "c1");
    assert_int_equal(program_wait(pid), 137);
}

static void deletes_by_force(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, NULL, "exec sleep 1000");
    pid_t pid = 0;
    RUN(p, NULL, 0, "", NULL, "run", "-d", "-b", b, "c1");
    (void)program_status(p, "c1", &pid, NULL);
    RUN(p, NULL, 0, "", NULL, "delete", "--force", "c1");
    assert_int_equal(program_wait(pid), 137);
}

static void pauses_and_resumes(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, NULL, "exec sleep 1000");
    RUN(p, NULL, 0, "", NULL, "run", "-d", "-b", b, "c1");
    RUN(p, NULL, 0, "", NULL, "pause", "c1");
    assert_true(STATUS_IS(p, "c1", "paused"));
    RUN(p, NULL, 1, "", "container not running", "pause", "c1");
    RUN(p, NULL, 255, "", "cannot exec in a paused container (use --ignore-paused to override)", "exec", "c1", "true");
    RUN(p, NULL, 0, "", NULL, "resume", "c1");
    assert_true(STATUS_IS(p, "c1", "running"));
    RUN(p, NULL, 0, "", NULL, "delete", "-f", "c1");
}

static void passes_signals_on(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, NULL, "trap 'exit 9' USR1; while :; do sleep 0.05; done");
    pid_t run = program_spawn(p, (int[]){-1, -1, -1}, "run", "-b", b, "c1", NULL), monitor = 0;
    WAIT_FOR(STATUS_IS(p, "c1", "running"));
    /* The shell may not have set its trap yet: then the default action of USR1 ends it. */
    struct timespec settle = {.tv_nsec = 200000000};
    nanosleep(&settle, NULL);
    kill(run, SIGUSR1);
    assert_int_equal(program_wait(run), 9);

    RUN(p, NULL, 0, "", NULL, "run", "-d", "-b", b, "c1");
    (void)program_status(p, "c1", &monitor, NULL);
    nanosleep(&settle, NULL);
    kill(monitor, SIGUSR1);
    assert_int_equal(program_wait(monitor), 9);
    RUN(p, NULL, 0, "", NULL, "delete", "c1");
}

static void dies_with_its_monitor(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, NULL, "exec sleep 1000");
    pid_t monitor = 0;
    RUN(p, NULL, 0, "", NULL, "run", "-d", "-b", b, "c1");
    (void)program_status(p, "c1", &monitor, NULL);
    kill(monitor, SIGKILL);
    WAIT_FOR(STATUS_IS(p, "c1", "stopped"));
    RUN(p, NULL, 0, "", NULL, "delete", "c1");
}

static void keeps_when_asked(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, NULL, "exit 4");
    RUN(p, NULL, 4, "", NULL, "run", "--keep", "-b", b, "c1");
    assert_true(STATUS_IS(p, "c1", "stopped"));
    RUN(p, NULL, 0, "", NULL, "delete", "c1");
}

static void prints_state(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, NULL, "exec sleep 1000");
    RUN(p, NULL, 0, "null\n", NULL, "list", "-f", "json");
    RUN(p, NULL, 0, "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n", NULL, "list");
    RUN(p, NULL, 0, "", NULL, "run", "-d", "-b", b, "c1");
    cleanup_result struct result r = program_run(p, NULL, "state", "c1", NULL);
    cleanup_json json_t *v = NULL;
    assert_int_equal(json_parse("state", r.out, strlen(r.out), &v, NULL), 0);
    assert_string_equal(json_string_value(json_object_get(v, "id")), "c1");
    assert_string_equal(json_string_value(json_object_get(v, "status")), "running");
    assert_string_equal(json_string_value(json_object_get(v, "bundle")), b);
    assert_memory_equal(r.out, "{\n  \"ociVersion\": \"", 19);
    cleanup_result struct result list = program_run(p, NULL, "list", "-f", "json", NULL);
    assert_memory_equal(list.out, "[{\"ociVersion\":", 15);
    RUN(p, NULL, 1, "", "invalid format option", "list", "-f", "xml");
    RUN(p, NULL, 0, "", NULL, "delete", "-f", "c1");
}

/* sun_path holds 107 bytes; the root may be deeper. */
static void takes_a_long_root(void **state) {
    struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, NULL, "exit 2");
    char *short_root = p->root;
    p->root = str_printf("%s/%0100d/%0100d", short_root, 1, 2);
    RUN(p, NULL, 2, "", NULL, "run", "-b", b, "c1");
    RUN(p, NULL, 0, "", NULL, "run", "-d", "-b", b, "c1");
    WAIT_FOR(STATUS_IS(p, "c1", "stopped"));
    RUN(p, NULL, 0, "", NULL, "delete", "c1");
    free(p->root);
    p->root = short_root;
    assert_int_equal(path_remove_tree(p->dir->fd, "root", NULL), 0);
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, program_setup, program_teardown)
    const struct CMUnitTest tests[] = {
        TEST(runs_in_the_foreground), TEST(maps_signals_and_failures), TEST(lives_detached),
        TEST(creates_then_starts),    TEST(deletes_by_force),          TEST(pauses_and_resumes),
        TEST(passes_signals_on),      TEST(dies_with_its_monitor),     TEST(keeps_when_asked),
        TEST(prints_state),           TEST(takes_a_long_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
