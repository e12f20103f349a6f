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
    assert_int_equal(e.command[0], '[');
    ps_read_command(getpid(), e.command);
    assert_non_null(strstr(e.command, "test_agent_ps"));
    ps_read_command(0x7ffffff0, e.command);
    assert_string_equal(e.command, "");
    assert_int_equal(ps_read(0x7ffffff0, &e), -ESRCH);
}

struct listed {
    int calls, code;
    size_t n;
    struct ps_entry first;
};

static void on_list(void *userdata, const struct ps_entry *list, size_t n, const struct err *err) {
    struct listed *l = userdata;
    l->calls++;
    l->code = err ? err->code : 0;
    l->n = n;
    if (n)
        l->first = list[0];
}

static void list_within(struct fixture *f, uint64_t timeout_usec, struct listed *ret) {
    cleanup_free char *text = str_printf("%d\n%d\n", (int)getpid(), 0x7ffffff0);
    tmpdir_write(f->dir, "cgroup.procs", text);
    *ret = (struct listed){0};
    assert_int_equal(ps_list(f->event, f->children, f->dir->fd, timeout_usec, on_list, ret, NULL), 0);
    RUN_UNTIL(f->event, ret->calls);
    assert_int_equal(ret->calls, 1);
    assert_int_equal(ret->code, 0);
}

static void test_list(void **state) {
    struct listed l;
    list_within(*state, TEST_DEADLINE, &l);
    assert_int_equal(l.n, 1);
    assert_int_equal(l.first.pid, getpid());
    assert_non_null(strstr(l.first.command, "test_agent_ps"));
}

/* As when a process holds up the reader: there is an answer, with what was read by then. */
static void test_late(void **state) {
    struct listed l;
    list_within(*state, 1, &l);
    assert_true(l.n == 0 || (l.n == 1 && l.first.pid == getpid() && *l.first.command));
}

static void test_no_list(void **state) {
    struct fixture *f = *state;
    struct listed l = {0};
    assert_int_equal(mkdirat(f->dir->fd, "cgroup.procs", 0755), 0); /* cannot be read */
    assert_true(ps_list(f->event, f->children, f->dir->fd, TEST_DEADLINE, on_list, &l, NULL) < 0);
    assert_int_equal(l.calls, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stat),
        cmocka_unit_test(test_bad_stat),
        cmocka_unit_test(test_uid),
        cmocka_unit_test(test_command),
        cmocka_unit_test(test_self),
        cmocka_unit_test_setup_teardown(test_list, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_late, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_no_list, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
