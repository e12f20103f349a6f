/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ps.h"
#include "support.h"

#define REST(tty) " S 7 12 12 " tty " 12 4194304 100 0 0 0 30 12 0 0 20 0 1 0 5555 1000000 200 18446744073709551615 0"

static void test_stat(void **state) {
    (void)state;
    struct ps_entry e;
    assert_int_equal(ps_parse_stat("42 (sleep)" REST("34817") "\n", &e), 0);
    assert_int_equal(e.pid, 42);
    assert_int_equal(e.ppid, 7);
    assert_string_equal(e.tty, "pts/1");
    assert_int_equal(e.cpu_ticks, 42);
    assert_int_equal(e.start_ticks, 5555);
    assert_string_equal(e.command, "[sleep]");
    assert_int_equal(ps_parse_stat("1 (a) b) (c)" REST("0"), &e), 0);
    assert_string_equal(e.command, "[a) b) (c]");
    assert_string_equal(e.tty, "?");
    assert_int_equal(e.ppid, 7);
    assert_int_equal(ps_parse_stat("1 (x\ny\xff)" REST("35072"), &e), 0);
    assert_string_equal(e.command, "[x?y?]");
    assert_string_equal(e.tty, "pts/256");
    assert_int_equal(ps_parse_stat("1 (x)" REST("1088"), &e), 0);
    assert_string_equal(e.tty, "ttyS0");
    assert_int_equal(ps_parse_stat("1 (x)" REST("1281"), &e), 0);
    assert_string_equal(e.tty, "console");
    assert_int_equal(ps_parse_stat("1 (x)" REST("-1"), &e), 0);
    assert_string_equal(e.tty, "?");
}

static void test_bad_stat(void **state) {
    (void)state;
    struct ps_entry e;
    const char *const bad[] = {"", "1", "1 (x", "1 x)", ")(", "1 (x) S", "1 (x) S 1 2 3 4 5 6 7"};
    assert_int_equal(ps_parse_stat("x (y)" REST("0"), &e), -EINVAL);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(ps_parse_stat(bad[i], &e), -EINVAL);
}

static void test_uid(void **state) {
    (void)state;
    uint32_t uid = 0;
    assert_int_equal(ps_parse_uid("Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t5\n", &uid), 0);
    assert_int_equal(uid, 1000);
    assert_int_equal(ps_parse_uid("Name:\tUid:\t7\n", &uid), -EINVAL);
    assert_int_equal(ps_parse_uid("Name:\tx\nUid:\tx\n", &uid), -EINVAL);
}

static void test_command(void **state) {
    (void)state;
    char out[PS_COMMAND_MAX];
    ps_format_command("sh\0-c\0echo hi\0", 14, out);
    assert_string_equal(out, "sh -c echo hi");
    ps_format_command("a\nb\x7f\0\0\0", 7, out);
    assert_string_equal(out, "a?b?");
    ps_format_command("gr\xc3\xbc\xc3\x9f", 6, out);
    assert_string_equal(out, "gr\xc3\xbc\xc3\x9f");
    ps_format_command("x\xff\xfey", 4, out);
    assert_string_equal(out, "x??y");
    ps_format_command("", 0, out);
    assert_string_equal(out, "");
    /* A character that is cut in two at the bound. */
    char *big = malloc(2000);
    memset(big, 'x', 2000);
    big[PS_COMMAND_MAX - 2] = '\xc3';
    big[PS_COMMAND_MAX - 1] = '\xbc';
    ps_format_command(big, 2000, out);
    assert_int_equal(strlen(out), PS_COMMAND_MAX - 2);
    assert_int_equal(out[PS_COMMAND_MAX - 3], 'x');
    free(big);
}

static void test_self(void **state) {
    (void)state;
    struct ps_entry e;
    assert_int_equal(ps_read(getpid(), &e), 0);
    assert_int_equal(e.pid, getpid());
    assert_int_equal(e.ppid, getppid());
    assert_int_equal(e.uid, getuid());
    assert_non_null(strstr(e.command, "test_agent_ps"));
    assert_int_equal(ps_read(0x7ffffff0, &e), -ESRCH);
}

static void test_list(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *text = str_printf("%d\n%d\n", (int)getpid(), 0x7ffffff0);
    tmpdir_write(t, "cgroup.procs", text);
    struct ps_entry *list = NULL;
    size_t n = 0;
    assert_int_equal(ps_list(t->fd, &list, &n, NULL), 0);
    assert_int_equal(n, 1);
    assert_int_equal(list[0].pid, getpid());
    free(list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stat), cmocka_unit_test(test_bad_stat),
        cmocka_unit_test(test_uid),  cmocka_unit_test(test_command),
        cmocka_unit_test(test_self), cmocka_unit_test_setup_teardown(test_list, tmpdir_setup, tmpdir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
