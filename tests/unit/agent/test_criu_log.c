/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/criu_log.h"
#include "support.h"

static void expect(const char *log, const char *want) {
    struct err err = ERR_INIT;
    err_set(&err, EIO, "failed");
    criu_log_append_errors(log, strlen(log), &err);
    assert_string_equal(err.msg, want);
}

static void test_errors(void **state) {
    (void)state;
    expect("", "failed");
    expect("(00.1) Version: 4.1.1\n(00.2) Dumping finished\n", "failed");
    expect("(00.7) Error (criu/tun.c:85): tun: Unable to create tun: No such file or directory\n(0) x\n", "failed");
    expect("(00.1) a\n(00.2)     12: Error (criu/x.c:1): first\n(00.3) Warn  (y)\n(00.4) Error (criu/y.c:2): "
           "sec\x1b[1mond",
           "failed; CRIU: Error (criu/x.c:1): first; Error (criu/y.c:2): sec?[1mond");
}

static void test_errors_bounded(void **state) {
    (void)state;
    char log[8000] = "", *p = log;
    struct err err = ERR_INIT;
    for (int i = 0; i < 10; i++)
        p += snprintf(p, (size_t)(log + sizeof(log) - p), "Error (%d)%0*d\n", i, i == 9 ? 4000 : 1, 0);
    err_set(&err, EIO, "failed");
    criu_log_append_errors(log, strlen(log), &err);
    assert_null(strstr(err.msg, "Error (5)"));
    assert_non_null(strstr(err.msg, "Error (6)"));
    assert_non_null(strstr(err.msg, "Error (9)"));
    assert_true(strlen(err.msg) < 4 * (CRIU_LOG_LINE_MAX + 20));
}

static void test_last_lines(void **state) {
    (void)state;
    assert_int_equal(criu_log_last_lines("", 0, 3), 0);
    assert_int_equal(criu_log_last_lines("a\nb\nc\n", 6, 2), 2);
    assert_int_equal(criu_log_last_lines("a\nb\nc", 5, 2), 2);
    assert_int_equal(criu_log_last_lines("a\nb\n", 4, 9), 0);
    assert_int_equal(criu_log_last_lines("\n\n\n", 3, 1), 2);
}

/* Only the end of a long log is read, and what is no file is not read at all. */
static void test_read(void **state) {
    struct tmpdir *t = *state;
    size_t len = 0;
    cleanup_free char *big = malloc(CRIU_LOG_TAIL + 100);
    memset(big, 'x', CRIU_LOG_TAIL + 99);
    strcpy(big + CRIU_LOG_TAIL + 94, "end\n");
    tmpdir_write(t, "dump.log", big);
    cleanup_free char *text = criu_log_read(t->fd, "dump.log", &len);
    assert_non_null(text);
    assert_true(len == CRIU_LOG_TAIL);
    assert_string_equal(text + len - 4, "end\n");
    assert_null(criu_log_read(t->fd, "none", &len));
    assert_int_equal(mkdirat(t->fd, "dir", 0700), 0);
    assert_null(criu_log_read(t->fd, "dir", &len));
    assert_int_equal(mkfifoat(t->fd, "fifo", 0600), 0);
    assert_null(criu_log_read(t->fd, "fifo", &len));
    assert_int_equal(symlinkat("dump.log", t->fd, "link"), 0);
    assert_null(criu_log_read(t->fd, "link", &len));
}

static void test_diagnosis(void **state) {
    struct tmpdir *t = *state;
    struct err err = ERR_INIT;
    struct check_result *check = calloc(1, sizeof(*check));
    check->n = 1;
    check->items[0] = (struct check_item){.name = "criu check", .status = CHECK_OK, .detail = "Looks good."};
    strcpy(check->criu_version, "4.1.1");
    tmpdir_write(t, "dump.log", "(00.1) a line of the log\n");
    tmpdir_write(t, "output", "printed\n");
    cleanup_fd int output = openat(t->fd, "output", O_RDONLY | O_CLOEXEC);
    struct criu_attempt a = {.what = "checkpoint",
                             .id = "c1",
                             .command = "crun checkpoint c1",
                             .conf = "tcp-close\n",
                             .check = check,
                             .mounts = "47 34 0:31 / / rw - virtiofs none rw\n",
                             .log_name = "dump.log",
                             .output = output,
                             .status = 1 << 8,
                             .err = &err};
    err_set(&err, EIO, "the reason");
    /* Twice: the second replaces the first. */
    assert_int_equal(criu_diagnosis_write(t->fd, &a, NULL), 0);
    assert_int_equal(criu_diagnosis_write(t->fd, &a, NULL), 0);
    cleanup_free char *text = NULL;
    assert_int_equal(file_read_at(t->fd, CRIU_DIAGNOSIS, 65536, &text, NULL, NULL), 0);
    static const char *const wanted[] = {"checkpoint of container c1",
                                         "criu: 4.1.1",
                                         "criu check: ok: Looks good.",
                                         "kernel: Linux",
                                         "command: crun checkpoint c1",
                                         "tcp-close",
                                         "exit code: 1",
                                         "result: the reason",
                                         "printed",
                                         "0:31 / / rw - virtiofs",
                                         "a line of the log"};
    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
        if (!strstr(text, wanted[i]))
            fail_msg("no \"%s\" in: %s", wanted[i], text);
    a = (struct criu_attempt){.what = "restore",
                              .id = "c1",
                              .command = "",
                              .conf = "",
                              .log_name = "restore.log",
                              .output = -1,
                              .status = -1};
    assert_int_equal(criu_diagnosis_write(t->fd, &a, NULL), 0);
    free(text);
    text = NULL;
    assert_int_equal(file_read_at(t->fd, CRIU_DIAGNOSIS, 65536, &text, NULL, NULL), 0);
    assert_non_null(strstr(text, "restore.log: CRIU wrote none"));
    assert_non_null(strstr(text, "result: done"));
    assert_null(strstr(text, "exit code"));
    free(check);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_errors_bounded),
        cmocka_unit_test(test_last_lines),
        cmocka_unit_test_setup_teardown(test_read, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(test_diagnosis, tmpdir_setup, tmpdir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
