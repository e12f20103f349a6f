/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/events_json.h"

#include "base/json.h"
#include "support.h"

static json_int_t number(const json_t *o, const char *a, const char *b, const char *c) {
    const json_t *v = json_object_get(json_object_get(json_object_get(o, "data"), a), b);
    if (c)
        v = json_object_get(v, c);
    if (!json_is_integer(v))
        fail_msg("no number %s.%s.%s", a, b, c ? c : "");
    return json_integer_value(v);
}

static void has_the_form_of_runc(void **state) {
    (void)state;
    Io__Containerd__Cgroups__V2__PidsStat pids = IO__CONTAINERD__CGROUPS__V2__PIDS_STAT__INIT;
    Io__Containerd__Cgroups__V2__CPUStat cpu = IO__CONTAINERD__CGROUPS__V2__CPUSTAT__INIT;
    Io__Containerd__Cgroups__V2__MemoryStat memory = IO__CONTAINERD__CGROUPS__V2__MEMORY_STAT__INIT;
    Io__Containerd__Cgroups__V2__MemoryEvents events = IO__CONTAINERD__CGROUPS__V2__MEMORY_EVENTS__INIT;
    Io__Containerd__Cgroups__V2__IOEntry entry = IO__CONTAINERD__CGROUPS__V2__IOENTRY__INIT;
    Io__Containerd__Cgroups__V2__IOStat io = IO__CONTAINERD__CGROUPS__V2__IOSTAT__INIT;
    Io__Containerd__Cgroups__V2__Metrics m = IO__CONTAINERD__CGROUPS__V2__METRICS__INIT;
    Io__Containerd__Cgroups__V2__IOEntry *entries[] = {&entry};
    pids.current = 3;
    pids.limit = 100;
    cpu.usage_usec = 5;
    cpu.user_usec = 4;
    cpu.system_usec = 1;
    cpu.nr_throttled = 7;
    memory.usage = 1000;
    memory.usage_limit = 2000;
    memory.swap_usage = 10;
    memory.swap_limit = 20;
    memory.file = 300;
    memory.anon = 400;
    events.max = 9;
    entry.major = 254;
    entry.rbytes = 11;
    entry.wios = 12;
    io.usage = entries;
    io.n_usage = 1;
    m.pids = &pids;
    m.cpu = &cpu;
    m.memory = &memory;
    m.memory_events = &events;
    m.io = &io;
    cleanup_json json_t *e = events_stats_json("c1", &m);
    assert_string_equal(json_string_value(json_object_get(e, "type")), "stats");
    assert_string_equal(json_string_value(json_object_get(e, "id")), "c1");
    assert_int_equal(number(e, "cpu", "usage", "total"), 5000);
    assert_int_equal(number(e, "cpu", "usage", "user"), 4000);
    assert_int_equal(number(e, "cpu", "usage", "kernel"), 1000);
    assert_int_equal(number(e, "cpu", "throttling", "throttledPeriods"), 7);
    assert_int_equal(number(e, "memory", "usage", "usage"), 1000);
    assert_int_equal(number(e, "memory", "usage", "limit"), 2000);
    assert_int_equal(number(e, "memory", "usage", "failcnt"), 9);
    assert_int_equal(number(e, "memory", "swap", "usage"), 1010);
    assert_int_equal(number(e, "memory", "swap", "limit"), 2020);
    assert_int_equal(number(e, "memory", "cache", NULL), 300);
    assert_int_equal(number(e, "memory", "raw", "anon"), 400);
    assert_int_equal(number(e, "pids", "current", NULL), 3);
    assert_int_equal(number(e, "pids", "limit", NULL), 100);
    const json_t *blkio = json_object_get(json_object_get(e, "data"), "blkio");
    const json_t *read = json_array_get(json_object_get(blkio, "ioServiceBytesRecursive"), 0);
    const json_t *write = json_array_get(json_object_get(blkio, "ioServicedRecursive"), 1);
    assert_string_equal(json_string_value(json_object_get(read, "op")), "Read");
    assert_int_equal(json_integer_value(json_object_get(read, "value")), 11);
    assert_int_equal(json_integer_value(json_object_get(read, "major")), 254);
    assert_string_equal(json_string_value(json_object_get(write, "op")), "Write");
    assert_int_equal(json_integer_value(json_object_get(write, "value")), 12);
}

static void survives_empty_and_huge_numbers(void **state) {
    (void)state;
    Io__Containerd__Cgroups__V2__Metrics m = IO__CONTAINERD__CGROUPS__V2__METRICS__INIT;
    cleanup_json json_t *empty = events_stats_json("c", &m);
    assert_int_equal(number(empty, "cpu", "usage", "user"), 0);
    Io__Containerd__Cgroups__V2__MemoryStat memory = IO__CONTAINERD__CGROUPS__V2__MEMORY_STAT__INIT;
    memory.usage_limit = memory.swap_limit = UINT64_MAX;
    m.memory = &memory;
    cleanup_json json_t *huge = events_stats_json("c", &m);
    assert_true(number(huge, "memory", "usage", "limit") == INT64_MAX);
    assert_true(number(huge, "memory", "swap", "limit") == INT64_MAX);
}

/* n entries of io, each of which is `entry` (at most 127 bytes), in a Metrics. */
static Containerd__Task__V2__Any with_devices(size_t n, const char *entry) {
    Containerd__Task__V2__Any any = CONTAINERD__TASK__V2__ANY__INIT;
    size_t len = strlen(entry), size = n * (len + 2), at = 0;
    uint8_t *p = any.value.data = malloc(size + 8);
    assert_non_null(p);
    p[at++] = 6 << 3 | 2; /* io */
    for (size_t left = size; at < 2 || left; left >>= 7)
        p[at++] = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
    for (size_t i = 0; i < n; i++) {
        p[at++] = 1 << 3 | 2; /* usage */
        p[at++] = (uint8_t)len;
        memcpy(p + at, entry, len);
        at += len;
    }
    any.value.len = at;
    any.type_url = (char *)(uintptr_t) "io.containerd.cgroups.v2.Metrics";
    return any;
}

static void takes_an_honest_answer(void **state) {
    (void)state;
    struct err err = ERR_INIT;
    Io__Containerd__Cgroups__V2__Metrics *m = NULL;
    Containerd__Task__V2__Any any = with_devices(EVENTS_DEVICES_MAX, "\x08\x05\x18\x07");
    assert_int_equal(events_unpack(&any, &m, &err), 0);
    assert_int_equal(m->io->n_usage, EVENTS_DEVICES_MAX);
    assert_int_equal(m->io->usage[7]->major, 5);
    assert_int_equal(m->io->usage[7]->rbytes, 7);
    io__containerd__cgroups__v2__metrics__free_unpacked(m, NULL);
    free(any.value.data);
}

static void refuses_a_bomb(void **state) {
    (void)state;
    static const struct {
        size_t n;
        const char *entry, *says;
    } rows[] = {{2000000, "", "cannot be used"},
                {100000, "\x08\x01\x10\x01\x18\x01\x20\x01", "100000 devices, more than 1024"},
                {1, "\x08", "cannot be used"}};
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct err err = ERR_INIT;
        Io__Containerd__Cgroups__V2__Metrics *m = NULL;
        Containerd__Task__V2__Any any = with_devices(rows[i].n, rows[i].entry);
        assert_int_equal(events_unpack(&any, &m, &err), -EPROTO);
        assert_null(m);
        assert_non_null(strstr(err.msg, rows[i].says));
        free(any.value.data);
    }
    Containerd__Task__V2__Any other = CONTAINERD__TASK__V2__ANY__INIT;
    Io__Containerd__Cgroups__V2__Metrics *m = NULL;
    assert_int_equal(events_unpack(&other, &m, NULL), -EPROTO);
    assert_int_equal(events_unpack(NULL, &m, NULL), -EPROTO);
    assert_null(m);
}

static void tells_of_oom(void **state) {
    (void)state;
    cleanup_json json_t *e = events_oom_json("c1");
    cleanup_free char *text = json_text(e, JSON_COMPACT);
    assert_string_equal(text, "{\"type\":\"oom\",\"id\":\"c1\"}");
}

static void parses_intervals(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t usec;
    } good[] = {{"5s", 5000000}, {"500ms", 500000}, {"1m30s", 90000000}, {"1.5h", 5400000000}, {"3us", 3}};
    uint64_t v;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_int_equal(events_parse_interval(good[i].text, &v), 0);
        assert_int_equal(v, good[i].usec);
    }
    static const char *const bad[] = {"",    "5",      "s",   "-5s",  "0s",  "5x",
                                      "5ss", "1e400h", "nan", "infs", "5s ", "99999999h"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(events_parse_interval(bad[i], &v), -EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_the_form_of_runc),   cmocka_unit_test(survives_empty_and_huge_numbers),
        cmocka_unit_test(takes_an_honest_answer), cmocka_unit_test(refuses_a_bomb),
        cmocka_unit_test(tells_of_oom),           cmocka_unit_test(parses_intervals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
