/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/check.h"
#include "support.h"

static const struct check_item *find(const struct check_result *r, const char *name) {
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->items[i].name, name) == 0)
            return &r->items[i];
    fail_msg("no item %s", name);
    return NULL;
}

static void test_kernel_config(void **state) {
    (void)state;
    struct check_result *r = calloc(1, sizeof(*r));
    check_kernel_config("# CONFIG_TUN is not set\nCONFIG_CHECKPOINT_RESTORE=y\nCONFIG_UNIX_DIAG=m\n"
                        "XCONFIG_VETH=y\nCONFIG_NET_NS=n\nCONFIG_UTS_NS_MORE=y\n",
                        r);
    assert_int_equal(find(r, "kernel CONFIG_CHECKPOINT_RESTORE")->status, CHECK_OK);
    assert_int_equal(find(r, "kernel CONFIG_UNIX_DIAG")->status, CHECK_OK);
    assert_string_equal(find(r, "kernel CONFIG_UNIX_DIAG")->detail, "m");
    assert_int_equal(find(r, "kernel CONFIG_TUN")->status, CHECK_WARN);
    assert_int_equal(find(r, "kernel CONFIG_VETH")->status, CHECK_WARN);
    assert_int_equal(find(r, "kernel CONFIG_NET_NS")->status, CHECK_FAIL);
    assert_int_equal(find(r, "kernel CONFIG_UTS_NS")->status, CHECK_FAIL);
    assert_false(check_passed(r));
    free(r);
}

static void test_version(void **state) {
    (void)state;
    char v[32];
    static const char *const good[] = {"4.2", "4.2.1", "4.10", "5.0"};
    static const char *const old[] = {"4.1.1", "3.17", "4", "", "odd"};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_true(check_version_suffices(good[i]));
    for (size_t i = 0; i < ARRAY_SIZE(old); i++)
        assert_false(check_version_suffices(old[i]));
    check_parse_version("Version: 4.1.1\nGitID: x\n", v);
    assert_string_equal(v, "4.1.1");
    check_parse_version("Warn\nVersion: 3.17.1 (gitid 0)\n", v);
    assert_string_equal(v, "3.17.1");
    check_parse_version("criu: not found\n", v);
    assert_string_equal(v, "");
    check_parse_version("Version: 0123456789012345678901234567890123456789\n", v);
    assert_int_equal(strlen(v), 31);
}

static void test_last_line(void **state) {
    (void)state;
    char out[10];
    check_last_line("one\ntwo\n\n", out, sizeof(out));
    assert_string_equal(out, "two");
    check_last_line("one", out, sizeof(out));
    assert_string_equal(out, "one");
    check_last_line("\n \n", out, sizeof(out));
    assert_string_equal(out, "");
    check_last_line("x\n0123456789abc\n", out, sizeof(out));
    assert_string_equal(out, "012345678");
}

static void test_passed(void **state) {
    (void)state;
    struct check_result *r = calloc(1, sizeof(*r));
    assert_true(check_passed(r));
    r->n = 2;
    r->items[0].status = CHECK_WARN;
    assert_true(check_passed(r));
    r->items[1].status = CHECK_FAIL;
    assert_false(check_passed(r));
    free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernel_config),
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_last_line),
        cmocka_unit_test(test_passed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
