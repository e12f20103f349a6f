/* SPDX-License-Identifier: Apache-2.0 */
#include "../sandbox/support.h"

#include "shim/publish_program.h"

struct fixture {
    struct tmpdir *dir;
    sd_event *event;
    struct publish_program *run;
    char *program, *text;
    unsigned called;
    struct err err;
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    void *dir = NULL;
    if (tmpdir_setup(&dir) < 0 || sd_event_new(&f->event) < 0)
        return -1;
    f->dir = dir;
    f->program = tmpdir_path(f->dir, "program");
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    void *dir = f->dir;
    publish_program_free(f->run);
    sd_event_unref(f->event);
    free(f->program);
    free(f->text);
    free(f);
    return tmpdir_teardown(&dir);
}

static void on_done(void *userdata, const struct err *err) {
    struct fixture *f = userdata;
    f->called++;
    f->run = NULL;
    f->err = err ? *err : (struct err)ERR_INIT;
}

/* A shell script that runs in the test's directory. */
static void write_program(struct fixture *f, const char *script) {
    cleanup_free char *text = str_printf("#!/bin/sh\ncd %s\n%s\n", f->dir->path, script);
    tmpdir_write(f->dir, "program", text);
    assert_int_equal(chmod(f->program, 0700), 0);
}

static int start(struct fixture *f, const void *any, size_t len, uint64_t timeout) {
    struct publish_program_spec spec = {.path = f->program,
                                        .address = "/run/grpc.sock",
                                        .namespace = "k8s.io",
                                        .topic = "/tasks/exit",
                                        .any = any,
                                        .len = len,
                                        .timeout_usec = timeout};
    f->err = (struct err)ERR_INIT;
    return publish_program_start(f->event, &spec, on_done, f, &f->run, &f->err);
}

static void run(struct fixture *f, const char *script, uint64_t timeout) {
    f->called = 0;
    write_program(f, script);
    assert_int_equal(start(f, "abc", 3, timeout), 0);
    assert_int_equal(f->called, 0);
    RUN_UNTIL(f->event, f->called > 0);
    assert_int_equal(f->called, 1);
}

static const char *text_of(struct fixture *f, const char *name) {
    cleanup_free char *path = tmpdir_path(f->dir, name);
    free(TAKE_PTR(f->text));
    (void)file_read_at(AT_FDCWD, path, 1 << 20, &f->text, NULL, NULL);
    return f->text;
}

static void arguments_and_input(void **state) {
    struct fixture *f = *state;
    run(f, "printf '%s|' \"$@\" >args; cat >in; pwd -P >/dev/null", TEST_DEADLINE);
    assert_int_equal(f->err.code, 0);
    assert_string_equal(text_of(f, "args"), "--address|/run/grpc.sock|publish|--namespace|k8s.io|--topic|/tasks/exit|");
    assert_string_equal(text_of(f, "in"), "abc");
}

static void large_input_that_is_not_read(void **state) {
    struct fixture *f = *state;
    cleanup_free char *big = calloc(1, 1 << 20);
    write_program(f, "exit 0");
    assert_int_equal(start(f, big, 1 << 20, TEST_DEADLINE), 0);
    RUN_UNTIL(f->event, f->called);
    assert_int_equal(f->err.code, 0);
    write_program(f, "wc -c >size");
    assert_int_equal(start(f, big, 1 << 20, TEST_DEADLINE), 0);
    RUN_UNTIL(f->event, f->called == 2);
    assert_int_equal(atoi(text_of(f, "size")), 1 << 20);
}

static void failures(void **state) {
    struct fixture *f = *state;
    run(f, "echo noise; echo 'no such socket' >&2; exit 3", TEST_DEADLINE);
    assert_int_equal(f->err.code, EIO);
    cleanup_free char *want = str_printf("%s publish: failed with exit code 3: no such socket", f->program);
    assert_string_equal(f->err.msg, want);
    run(f, "kill -KILL $$", TEST_DEADLINE);
    ASSERT_SAYS(&f->err, "publish: was killed by signal 9");
    run(f, "exit 0", TEST_DEADLINE);
    assert_int_equal(f->err.code, 0);
}

static void no_such_program(void **state) {
    struct fixture *f = *state;
    assert_int_equal(start(f, "", 0, TEST_DEADLINE), -ENOENT);
    ASSERT_SAYS(&f->err, "cannot run");
    assert_null(f->run);
    assert_int_equal(f->called, 0);
}

static bool is_gone(pid_t pid) {
    char path[64];
    cleanup_free char *stat = NULL;
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    return file_read_at(AT_FDCWD, path, 4096, &stat, NULL, NULL) < 0 || strstr(stat, ") Z");
}

static void a_timeout_kills_it_with_its_children(void **state) {
    struct fixture *f = *state;
    run(f, "echo waiting; sleep 1000 & echo $! >pid; wait", USEC_PER_SEC);
    assert_int_equal(f->err.code, ETIMEDOUT);
    ASSERT_SAYS(&f->err, "publish: did not end in time and was killed: waiting");
    pid_t pid = (pid_t)atoi(text_of(f, "pid"));
    RUN_UNTIL(f->event, is_gone(pid));
}

static void free_is_silent(void **state) {
    struct fixture *f = *state;
    write_program(f, "echo $$ >pid.new; mv pid.new pid; sleep 1000");
    assert_int_equal(start(f, "", 0, TEST_DEADLINE), 0);
    RUN_UNTIL(f->event, text_of(f, "pid"));
    pid_t pid = (pid_t)atoi(text_of(f, "pid"));
    f->run = publish_program_free(f->run);
    assert_null(f->run);
    assert_int_equal(kill(pid, 0), -1);
    run_idle(f->event);
    assert_int_equal(f->called, 0);
    assert_null(publish_program_free(NULL));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(arguments_and_input), TEST(large_input_that_is_not_read),         TEST(failures),
        TEST(no_such_program),     TEST(a_timeout_kills_it_with_its_children), TEST(free_is_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
