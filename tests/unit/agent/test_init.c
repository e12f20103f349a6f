/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/init.h"
#include "support.h"

static void test_cmdline(void **state) {
    (void)state;
    struct init_options o = {.log_level = LOG_LEVEL_ERROR};
    assert_int_equal(init_parse_cmdline("console=ttyS0 quiet\n", &o, NULL), 0);
    assert_int_equal(o.log_level, LOG_LEVEL_ERROR);
    assert_int_equal(init_parse_cmdline("quiet agent.log=debug\n", &o, NULL), 0);
    assert_int_equal(o.log_level, LOG_LEVEL_DEBUG);
    assert_int_equal(init_parse_cmdline("agent.log=debug  agent.log=warn x", &o, NULL), 0);
    assert_int_equal(o.log_level, LOG_LEVEL_WARN);
    assert_int_equal(init_parse_cmdline("xagent.log=info", &o, NULL), 0);
    assert_int_equal(o.log_level, LOG_LEVEL_WARN);
}

static void test_bad_cmdline(void **state) {
    (void)state;
    struct init_options o = {0};
    struct err err = ERR_INIT;
    assert_int_equal(init_parse_cmdline("agent.log=loud", &o, &err), -EINVAL);
    assert_non_null(strstr(err.msg, "agent.log=loud"));
    assert_int_equal(init_parse_cmdline("agent.log=", &o, &err), -EINVAL);
}

static void test_no_port(void **state) {
    (void)state;
    struct err err = ERR_INIT;
    assert_int_equal(init_open_port("no such port", 2000, &err), -ETIMEDOUT);
    assert_non_null(strstr(err.msg, "no such port"));
}

static void test_hostname(void **state) {
    (void)state;
    struct err err = ERR_INIT;
    char name[66];
    memset(name, 'x', 65);
    name[65] = '\0';
    assert_int_equal(init_set_hostname("", &err), -EINVAL);
    assert_int_equal(init_set_hostname(name, &err), -EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cmdline),
        cmocka_unit_test(test_bad_cmdline),
        cmocka_unit_test(test_no_port),
        cmocka_unit_test(test_hostname),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
