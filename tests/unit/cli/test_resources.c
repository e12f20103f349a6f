/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/resources.h"

#include "base/json.h"
#include "support.h"

static char *build(const struct resource_options *o) {
    struct err err = ERR_INIT;
    cleanup_json json_t *r = NULL;
    if (resources_build(o, &r, &err) < 0)
        fail_msg("%s", err.msg);
    return json_text(r, JSON_COMPACT | JSON_SORT_KEYS);
}

static void builds_only_what_is_given(void **state) {
    (void)state;
    struct resource_options memory = {.memory = "64m"};
    cleanup_free char *a = build(&memory);
    assert_string_equal(a, "{\"memory\":{\"limit\":67108864}}");
    struct resource_options all = {
        .memory = "1G",
        .memory_reservation = "1024",
        .memory_swap = "-1",
        .cpu_period = "100000",
        .cpu_quota = "-1",
        .cpu_share = "512",
        .cpuset_cpus = "0-1",
        .cpuset_mems = "0",
        .pids_limit = "10",
        .blkio_weight = "1000",
    };
    cleanup_free char *b = build(&all);
    assert_string_equal(b, "{\"blockIO\":{\"weight\":1000},"
                           "\"cpu\":{\"cpus\":\"0-1\",\"mems\":\"0\",\"period\":100000,\"quota\":-1,\"shares\":512},"
                           "\"memory\":{\"limit\":1073741824,\"reservation\":1024,\"swap\":-1},"
                           "\"pids\":{\"limit\":10}}");
}

static void refuses_what_is_wrong(void **state) {
    (void)state;
    static const struct resource_options bad[] = {
        {.memory = "x"},
        {.memory = ""},
        {.memory = "-2"},
        {.memory_swap = "1Q"},
        {.cpu_period = "-1"},
        {.cpu_quota = "1m"},
        {.cpu_share = "1.5"},
        {.pids_limit = "many"},
        {.blkio_weight = "1001"},
        {.memory = "16777216T"},
        {.cpu_quota = "9223372036854775808"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct err err = ERR_INIT;
        json_t *r = NULL;
        assert_int_equal(resources_build(&bad[i], &r, &err), -EINVAL);
        assert_message(&err, "invalid value for ");
        assert_null(r);
    }
}

static void refuses_an_empty_update(void **state) {
    (void)state;
    struct err err = ERR_INIT;
    json_t *r = NULL;
    assert_int_equal(resources_build(&(struct resource_options){0}, &r, &err), -EINVAL);
    assert_message(&err, "nothing to update");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(builds_only_what_is_given),
        cmocka_unit_test(refuses_what_is_wrong),
        cmocka_unit_test(refuses_an_empty_update),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
