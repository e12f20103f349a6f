/* SPDX-License-Identifier: Apache-2.0 */
/* That a group which runs no test fails. Not by cmocka alone, whose exit code it is about. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void passes(void **state) {
    (void)state;
}

static int fails(void **state) {
    (void)state;
    return -1;
}

static int asserts(void **state) {
    (void)state;
    assert_true(0 > 1);
    return 0;
}

static int works(void **state) {
    (void)state;
    return 0;
}

int main(void) {
    static const struct CMUnitTest tests[] = {cmocka_unit_test(passes)};
    static const struct {
        const char *what;
        CMFixtureFunction setup, teardown;
        size_t n;
        int fails;
    } cases[] = {
        {"nothing but a test", NULL, NULL, 1, 0},
        {"all that works", works, works, 1, 0},
        {"a set-up that fails", fails, NULL, 1, 1},
        {"a set-up with a false assertion", asserts, NULL, 1, 1},
        {"no test", works, works, 0, 1},
        {"an end that fails", works, fails, 1, 1},
    };
    int wrong = 0;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if ((_cmocka_run_group_tests(cases[i].what, tests, cases[i].n, cases[i].setup, cases[i].teardown) != 0) !=
            cases[i].fails) {
            printf("not as expected: %s\n", cases[i].what);
            wrong = 1;
        }
    return wrong;
}
