/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "vm/tsc.h"

static void the_frequency_of_two_readings(void **state) {
    (void)state;
    assert_int_equal(tsc_khz_between(1000, 5000, 1000 + 12000000, 5000 + 5000000), 2400000);
    assert_int_equal(tsc_khz_between(0, 0, 1, 1000000), 1);
    /* More than 2^53 of either. */
    assert_int_equal(tsc_khz_between(UINT64_C(1) << 62, UINT64_C(1) << 61, (UINT64_C(1) << 62) + 10000000,
                                     (UINT64_C(1) << 61) + 10000000),
                     1000000);
}

static void what_does_not_go_forward_has_none(void **state) {
    (void)state;
    assert_int_equal(tsc_khz_between(10, 10, 10, 20), 0);
    assert_int_equal(tsc_khz_between(10, 10, 20, 10), 0);
    assert_int_equal(tsc_khz_between(10, 10, 9, 20), 0);
    assert_int_equal(tsc_khz_between(0, 0, UINT64_MAX, 1), 0);
}

static void measured_twice_it_is_the_same(void **state) {
    (void)state;
    unsigned a = tsc_khz(), b = tsc_khz();
    if (!a || !b)
        skip();
    assert_true(a > 100000); /* 100 MHz */
    assert_true((a > b ? a - b : b - a) <= a / 500);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_frequency_of_two_readings),
        cmocka_unit_test(what_does_not_go_forward_has_none),
        cmocka_unit_test(measured_twice_it_is_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
