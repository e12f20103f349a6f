/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/table.h"

#include "support.h"

static void aligns_like_runc_list(void **state) {
    (void)state;
    cleanup_table struct table t = {.columns = 3, .min_width = 12, .gap = 3};
    const char *const head[] = {"ID", "PID", "OWNER"};
    const char *const row[] = {"a-long-container-id", "1", "root"};
    assert_int_equal(table_add(&t, head, NULL), 0);
    assert_int_equal(table_add(&t, row, NULL), 0);
    CAPTURE(text, table_print(&t, out));
    assert_string_equal(text, "ID                    PID         OWNER\n"
                              "a-long-container-id   1           root\n");
    free(text);
}

static void pads_to_the_least_width(void **state) {
    (void)state;
    cleanup_table struct table t = {.columns = 2, .min_width = 12, .gap = 3};
    const char *const head[] = {"ID", "PID"};
    assert_int_equal(table_add(&t, head, NULL), 0);
    CAPTURE(text, table_print(&t, out));
    assert_string_equal(text, "ID          PID\n");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(aligns_like_runc_list),
        cmocka_unit_test(pads_to_the_least_width),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
