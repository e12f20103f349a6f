/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/criu_stats.h"

#include "criu_support.h"

static void reads_a_dump(void **state) {
    struct tmpdir *t = *state;
    struct criu_stats s;
    struct err e = ERR_INIT;
    criu_write_all(t);
    if (criu_stats_read(t->fd, CRIU_STATS_DUMP, &s, &e) < 0)
        fail_msg("%s", e.msg);
    assert_true(s.has_dump);
    assert_false(s.has_restore);
    assert_int_equal(s.dump.freezing_usec, 11);
    assert_int_equal(s.dump.frozen_usec, 22);
    assert_int_equal(s.dump.memdump_usec, 33);
    assert_int_equal(s.dump.memwrite_usec, 44);
    assert_int_equal(s.dump.pages_scanned, 5000);
    assert_int_equal(s.dump.pages_skipped_parent, 10);
    assert_int_equal(s.dump.pages_written, 4000);
    assert_int_equal(s.dump.shpages_written, 1);
}

static void reads_a_restore(void **state) {
    struct tmpdir *t = *state;
    cleanup_criu_bytes struct criu_bytes b = {0};
    Criu__RestoreStats restore = CRIU__RESTORE_STATS__INIT;
    Criu__Stats stats = CRIU__STATS__INIT;
    struct criu_stats s;
    restore.pages_compared = 1;
    restore.pages_skipped_cow = 2;
    restore.forking_time = 3;
    restore.restore_time = 4;
    restore.has_pages_restored = true;
    restore.pages_restored = UINT64_MAX;
    stats.restore = &restore;
    criu_begin(&b, "stats-dump");
    criu_entry(&b, &stats);
    criu_write(t, CRIU_STATS_RESTORE, b.data, b.len);
    assert_int_equal(criu_stats_read(t->fd, CRIU_STATS_RESTORE, &s, NULL), 0);
    assert_true(s.has_restore && !s.has_dump);
    assert_int_equal(s.restore.pages_compared, 1);
    assert_int_equal(s.restore.pages_skipped_cow, 2);
    assert_int_equal(s.restore.forking_usec, 3);
    assert_int_equal(s.restore.restore_usec, 4);
    assert_true(s.restore.pages_restored == UINT64_MAX);
}

/* No byte changed makes it crash, and whatever fails names the file. */
static void any_byte_may_be_wrong(void **state) {
    struct tmpdir *t = *state;
    size_t len;
    cleanup_free char *data = criu_fixture("stats-dump", &len);
    for (size_t i = 0; i < len * 8; i++) {
        struct criu_stats s;
        struct err e = ERR_INIT;
        data[i / 8] ^= (char)(1 << (i % 8));
        criu_write(t, CRIU_STATS_DUMP, data, len);
        int r = criu_stats_read(t->fd, CRIU_STATS_DUMP, &s, &e);
        if (i < (size_t)MAGICS * 8)
            assert_int_equal(r, -EINVAL);
        if (r < 0)
            assert_non_null(strstr(e.msg, "stats-dump"));
        data[i / 8] ^= (char)(1 << (i % 8));
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, tmpdir_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {T(reads_a_dump), T(reads_a_restore), T(any_byte_may_be_wrong)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
