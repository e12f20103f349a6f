/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/modules.h"
#include "support.h"

static const char dep[] = "kernel/net/unix/unix_diag.ko:\n"
                          "kernel/net/ipv4/tcp_diag.ko: kernel/net/ipv4/inet_diag.ko\n"
                          "kernel/net/a-b.ko: kernel/x/third.ko kernel/x/second.ko kernel/x/first.ko\n"
                          "kernel/net/diag.ko: \n"
                          "broken line\n"
                          "top.ko: kernel/x/first.ko";

static void check(const char *name, const char *const *want, size_t n) {
    cleanup_strv struct strv got = {0};
    assert_int_equal(modules_parse_dep(dep, name, &got, NULL), 0);
    assert_int_equal(got.n, n);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(got.v[i], want[i]);
}

static void test_found(void **state) {
    (void)state;
    check("unix_diag", (const char *[]){"kernel/net/unix/unix_diag.ko"}, 1);
    check("unix-diag", (const char *[]){"kernel/net/unix/unix_diag.ko"}, 1);
    check("tcp_diag", (const char *[]){"kernel/net/ipv4/inet_diag.ko", "kernel/net/ipv4/tcp_diag.ko"}, 2);
    check("a_b", (const char *[]){"kernel/x/first.ko", "kernel/x/second.ko", "kernel/x/third.ko", "kernel/net/a-b.ko"},
          4);
    check("diag", (const char *[]){"kernel/net/diag.ko"}, 1);
    check("top", (const char *[]){"kernel/x/first.ko", "top.ko"}, 2);
}

static void test_not_found(void **state) {
    (void)state;
    const char *const names[] = {"", "nothing", "unix", "unix_diag.ko", "unix_diag_more", "broken", "first"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        cleanup_strv struct strv got = {0};
        struct err err = ERR_INIT;
        assert_int_equal(modules_parse_dep(dep, names[i], &got, &err), -ENOENT);
        assert_non_null(strstr(err.msg, names[i]));
        assert_int_equal(got.n, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_found), cmocka_unit_test(test_not_found)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
