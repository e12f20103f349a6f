/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/stats.h"
#include "proto/metrics.pb-c.h"
#include "support.h"

typedef Io__Containerd__Cgroups__V2__Metrics Metrics;

static Metrics *read_stats(const struct tmpdir *t) {
    uint8_t *buf = NULL;
    size_t len = 0;
    assert_int_equal(stats_read(t->fd, &buf, &len, NULL), 0);
    Metrics *m = io__containerd__cgroups__v2__metrics__unpack(NULL, len, buf);
    assert_non_null(m);
    free(buf);
    return m;
}

static void test_full(void **state) {
    struct tmpdir *t = *state;
    tmpdir_write(t, "pids.current", "3\n");
    tmpdir_write(t, "pids.max", "max\n");
    tmpdir_write(t, "cpu.stat",
                 "usage_usec 100\nuser_usec 60\nsystem_usec 40\nnr_periods 1\nnr_throttled 2\n"
                 "throttled_usec 3\nnr_bursts 9\n");
    tmpdir_write(t, "memory.stat",
                 "anon 1\nfile 2\nslab_reclaimable 3\nworkingset_refault_anon 10\n"
                 "workingset_refault_file 5\nworkingset_restore_anon 7\nthp_fault_alloc 8\n"
                 "usage 999\nzswap 4\n");
    tmpdir_write(t, "memory.current", "4096\n");
    tmpdir_write(t, "memory.max", "1048576\n");
    tmpdir_write(t, "memory.swap.max", "max\n");
    tmpdir_write(t, "memory.events", "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 5\n");
    tmpdir_write(t, "io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n253:16 rbytes=7\n");
    Metrics *m = read_stats(t);
    assert_int_equal(m->pids->current, 3);
    assert_true(m->pids->limit == UINT64_MAX);
    assert_int_equal(m->cpu->usage_usec, 100);
    assert_int_equal(m->cpu->throttled_usec, 3);
    assert_int_equal(m->memory->anon, 1);
    assert_int_equal(m->memory->slab_reclaimable, 3);
    assert_int_equal(m->memory->workingset_refault, 15);
    assert_int_equal(m->memory->thp_fault_alloc, 8);
    assert_int_equal(m->memory->usage_limit, 1048576);
    assert_true(m->memory->swap_limit == UINT64_MAX);
    assert_int_equal(m->memory->swap_usage, 0);
    assert_int_equal(m->memory_events->oom_kill, 4);
    assert_int_equal(m->io->n_usage, 2);
    assert_int_equal(m->io->usage[0]->major, 8);
    assert_int_equal(m->io->usage[0]->wios, 4);
    assert_int_equal(m->io->usage[1]->minor, 16);
    assert_int_equal(m->io->usage[1]->rbytes, 7);
    io__containerd__cgroups__v2__metrics__free_unpacked(m, NULL);
}

static void test_nothing(void **state) {
    Metrics *m = read_stats(*state);
    assert_int_equal(m->pids->current, 0);
    assert_int_equal(m->memory->usage, 0);
    assert_int_equal(m->io->n_usage, 0);
    io__containerd__cgroups__v2__metrics__free_unpacked(m, NULL);
}

static void test_nonsense(void **state) {
    struct tmpdir *t = *state;
    tmpdir_write(t, "pids.current", "-3\n");
    tmpdir_write(t, "memory.current", "nan\n");
    tmpdir_write(t, "memory.max", "99999999999999999999999\n");
    tmpdir_write(t, "cpu.stat", "usage_usec\n\n usage_usec 5\nbase 7\nuser_usec x\nsystem_usec 5 6\n");
    tmpdir_write(t, "io.stat", "\nx\n8:\n:\n8:1 rbytes\n8:2 rbytes= base=9 major=9\n");
    Metrics *m = read_stats(t);
    assert_int_equal(m->pids->current, 0);
    assert_int_equal(m->memory->usage, 0);
    assert_int_equal(m->memory->usage_limit, 0);
    assert_int_equal(m->cpu->usage_usec, 0);
    assert_int_equal(m->cpu->user_usec, 0);
    io__containerd__cgroups__v2__metrics__free_unpacked(m, NULL);
}

static void test_many_devices(void **state) {
    struct tmpdir *t = *state;
    char text[200 * 32] = "";
    size_t n = 0;
    for (int i = 0; i < 200; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "7:%d rbytes=1\n", i);
    tmpdir_write(t, "io.stat", text);
    Metrics *m = read_stats(t);
    assert_int_equal(m->io->n_usage, STATS_DEVICES_MAX);
    io__containerd__cgroups__v2__metrics__free_unpacked(m, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_full, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(test_nothing, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(test_nonsense, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(test_many_devices, tmpdir_setup, tmpdir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
