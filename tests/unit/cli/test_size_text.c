/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/size_text.h"

#include "support.h"

static void says_sizes(void **state) {
    (void)state;
    char buf[SIZE_TEXT_MAX];
    assert_string_equal(size_text(0, buf), "0 B");
    assert_string_equal(size_text(1023, buf), "1023 B");
    assert_string_equal(size_text(1024, buf), "1.0 KiB");
    assert_string_equal(size_text((1 << 20) - 1, buf), "1.0 MiB");
    assert_string_equal(size_text(75812045, buf), "72.3 MiB");
    assert_string_equal(size_text((uint64_t)2 << 30, buf), "2.0 GiB");
    assert_string_equal(size_text(UINT64_MAX, buf), "16.0 EiB");
}

static void says_times(void **state) {
    (void)state;
    char buf[SIZE_TEXT_MAX];
    assert_string_equal(time_text(0, buf), "0.0 ms");
    assert_string_equal(time_text(1234, buf), "1.2 ms");
    assert_string_equal(time_text(84321, buf), "84 ms");
    assert_string_equal(time_text(1250000, buf), "1.2 s");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(says_sizes), cmocka_unit_test(says_times)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
