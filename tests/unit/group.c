/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmocka_run_group_tests() of every test program (the linker puts this in its place, --wrap). cmocka 1.1 returns 0 for
 * a group whose set-up fails and for one without tests: none has run, and nothing has failed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

int __real__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t n, CMFixtureFunction setup,
                                   CMFixtureFunction teardown);
int __wrap__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t n, CMFixtureFunction setup,
                                   CMFixtureFunction teardown);

static CMFixtureFunction group_setup, group_teardown;
static int setup_result, teardown_result;

static int run_setup(void **state) {
    return setup_result = group_setup(state);
}

static int run_teardown(void **state) {
    return teardown_result = group_teardown(state);
}

int __wrap__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t n, CMFixtureFunction setup,
                                   CMFixtureFunction teardown) {
    group_setup = setup;
    group_teardown = teardown;
    setup_result = setup ? -1 : 0; /* if it fails by an assertion, it does not return */
    teardown_result = teardown ? -1 : 0;
    int failed =
        __real__cmocka_run_group_tests(name, tests, n, setup ? run_setup : NULL, teardown ? run_teardown : NULL);
    if (n == 0 || setup_result != 0)
        print_error("%s: no test has run\n", name);
    else if (teardown_result != 0)
        print_error("%s: what follows the last test has failed\n", name);
    else
        return failed;
    return failed ? failed : 1;
}
