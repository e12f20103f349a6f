/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/crun_error.h"
#include "support.h"

static void check(const char *msg, int code, const char *want) {
    struct err err = ERR_INIT;
    assert_int_equal(crun_error_from_message(msg, &err), -code);
    assert_int_equal(err.code, code);
    assert_string_equal(err.msg, want);
}

/* The messages are crun 1.28's, seen in the guest. */
static void test_messages(void **state) {
    (void)state;
    check("executable file `foo` not found in $PATH: No such file or directory", ENOENT,
          "exec: \"foo\": executable file not found in $PATH");
    check("executable file `/bin/foo` not found: No such file or directory", ENOENT,
          "exec: \"/bin/foo\": stat /bin/foo: no such file or directory");
    check("the path `/bin/noexec` exists but it is not executable: Operation not permitted", EACCES,
          "exec: \"/bin/noexec\": permission denied");
    check("the path `/tmp` is not a regular file: Operation not permitted", EACCES,
          "exec: \"/tmp\": permission denied (it is not a regular file)");
    check("cannot open `/run/crun/c1/exec.fifo`: No such file or directory", EBUSY, "the container was started before");
    check("container `c1` already exists", EEXIST, "container `c1` already exists");
    check("the container `c1` is paused", EBUSY, "the container `c1` is paused");
    check("the container `c1` is not running", EBUSY, "the container `c1` is not running");
    check("container `c1` does not exist: No such file or directory", ENOENT,
          "container `c1` does not exist: No such file or directory");
    check("error loading config.json", EINVAL, "error loading config.json");
    check("invalid config file, no `linux` block specified", EINVAL, "invalid config file, no `linux` block specified");
    check("chdir to `/nonex`: No such file or directory", EINVAL, "chdir to `/nonex`: No such file or directory");
    check("use --console-socket with create when a terminal is used", EINVAL,
          "the process object asks for a terminal, but none is requested");
    check("open `/share/c1/x`: No such file or directory", EIO, "crun: open `/share/c1/x`: No such file or directory");
    check("", EIO, "crun: ");
}

static void test_odd_names(void **state) {
    (void)state;
    check("executable file `a` not found in $PATH` not found in $PATH: No such file or directory", ENOENT,
          "exec: \"a` not found in $PATH\": executable file not found in $PATH");
    check("executable file `*` not found in $PATH", ENOENT, "exec: \"*\": executable file not found in $PATH");
    check("executable file `` not found in $PATH", ENOENT, "exec: \"\": executable file not found in $PATH");
    check("executable file `cut", EIO, "crun: executable file `cut");

    char *name = malloc(100001), *msg;
    memset(name, 'x', 100000);
    name[100000] = '\0';
    struct err err = ERR_INIT;
    msg = str_printf("executable file `%s` not found in $PATH", name);
    assert_int_equal(crun_error_from_message(msg, &err), -ENOENT);
    assert_in_range(strlen(err.msg), 200, ERR_MSG_MAX - 1);
    free(msg);
    free(name);
}

static void from_log(const char *log, int code, const char *want) {
    struct err err = ERR_INIT;
    assert_int_equal(crun_error_from_log(log, strlen(log), &err), -code);
    assert_string_equal(err.msg, want);
}

static void test_log(void **state) {
    (void)state;
    from_log("{\"msg\":\"slow\",\"level\":\"warning\"}\n"
             "{\"msg\":\"executable file `foo` not found in $PATH\",\"level\":\"error\",\"time\":\"x\"}\n"
             "{\"msg\":\"container `c` already exists\",\"level\":\"error\"}\n",
             ENOENT, "exec: \"foo\": executable file not found in $PATH");
    from_log("not json\n{\"level\":1}\n[]\n\n{\"msg\":\"x\",\"level\":\"error\"}", EIO, "crun: x");
    from_log("", EIO, "crun failed without a message");
    from_log("{\n  \"msg\": \"slow\",\n  \"level\": \"warning\"\n}\n{\n  \"msg\": \"a: `\\/b`\",\n  \"level\": "
             "\"error\"\n}\n",
             EIO, "crun: a: `/b`");
    from_log("{\"msg\":\"x\"", EIO, "crun failed without a message");
    from_log("{\"msg\":null,\"level\":\"error\"}\n", EIO, "crun failed without a message");
}

#define ERROR(msg) "{\n  \"msg\": \"" msg "\",\n  \"level\": \"error\"\n}\n"

static void test_criu_excerpt(void **state) {
    (void)state;
    from_log(ERROR("--- excerpt from CRIU log `w\\/dump.log`") ERROR("(00.1) Error (x.c:1): no")
                 ERROR("--- end of excerpt") ERROR("CRIU checkpointing failed: -52"),
             EIO, "crun: CRIU checkpointing failed: -52");
    from_log(ERROR("--- excerpt from CRIU log `w`") ERROR("(00.1) Error (x.c:1): no"), EIO,
             "crun failed without a message");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_odd_names),
        cmocka_unit_test(test_log),
        cmocka_unit_test(test_criu_excerpt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
