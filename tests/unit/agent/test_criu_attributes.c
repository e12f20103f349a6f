/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/criu_attributes.h"
#include "support.h"

static int read_text(const char *text, struct attributes **list, size_t *n) {
    FILE *f = fmemopen((void *)text, strlen(text), "r");
    assert_non_null(f);
    int r = attributes_read(f, list, n);
    (void)fclose(f);
    return r;
}

static void refused(const char *text, int code) {
    struct attributes *list = NULL;
    size_t n = 1;
    assert_int_equal(read_text(text, &list, &n), -code);
    assert_null(list);
    assert_int_equal(n, 0);
}

static void test_round_trip(void **state) {
    (void)state;
    static const struct attributes two[] = {
        {.pid = 7,
         .tid = 7,
         .mdwe = 3,
         .has_coredump_filter = true,
         .coredump_filter = 0,
         .cpus = {1, 0, 0, UINT64_MAX}},
        {.pid = 7, .tid = 9, .personality = 0x0240000, .ioprio = 16390, .timer_slack = UINT64_MAX},
    };
    char text[1024] = "";
    FILE *f = fmemopen(text, sizeof(text), "w");
    struct attributes *list = NULL;
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_SIZE(two); i++)
        assert_true(attributes_write(f, &two[i]) > 0);
    (void)fclose(f);
    assert_int_equal(read_text(text, &list, &n), 0);
    assert_int_equal(n, ARRAY_SIZE(two));
    assert_memory_equal(list, two, sizeof(two));
    free(list);
}

static void test_refused(void **state) {
    (void)state;
    refused("x\n", EINVAL);
    refused("1 1 0 0 0 0 0 0 0 0 0\n", EINVAL);
    refused("1 1 0 0 0 0 0 0 0 0 0 0", EINVAL); /* cut */
    refused("1 1 0 0 0 0 0 0 0 0 0 0 0\n", EINVAL);
    refused("0 1 0 0 0 0 0 0 0 0 0 0\n", EINVAL);
    refused("1 -1 0 0 0 0 0 0 0 0 0 0\n", EINVAL);
    refused("1 1 0 0 0 0 0 0 0 0 0 0\n\n", EINVAL);
    char line[400];
    memset(line, '1', sizeof(line) - 2);
    memcpy(line + sizeof(line) - 2, "\n", 2);
    refused(line, EINVAL);
}

static void test_bound(void **state) {
    (void)state;
    static const char line[] = "1 1 0 0 0 0 0 0 0 0 0 0\n";
    size_t len = strlen(line);
    char *text = malloc((ATTRIBUTES_MAX + 1) * len + 1);
    struct attributes *list = NULL;
    size_t n = 0;
    assert_non_null(text);
    for (size_t i = 0; i <= ATTRIBUTES_MAX; i++)
        memcpy(text + i * len, line, len + 1);
    refused(text, EFBIG);
    text[ATTRIBUTES_MAX * len] = '\0';
    assert_int_equal(read_text(text, &list, &n), 0);
    assert_int_equal(n, ATTRIBUTES_MAX);
    free(list);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
