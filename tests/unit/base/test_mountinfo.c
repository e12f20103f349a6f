/* SPDX-License-Identifier: Apache-2.0 */
#include "../sandbox/support.h"
#include "base/mountinfo.h"

static void test_entries(void **state) {
    const struct tmpdir *t = *state;
    tmpdir_write(t, "table",
                 "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"
                 "no entry\n"
                 "37 35 0:5 / /with\\040blank\\134and\\011tab rw shared:7 master:2 propagate_from:1 - tmpfs  rw\n"
                 "38 35 0:6 / /cut rw - \n"
                 "39 35 0:7 / /cut rw shared:1\n"
                 "\n"
                 "40 35 0:30 /a\\012b /sys/fs/cgroup/cpu\\04 rw - cgroup cgroup rw,cpu,cpuacct");
    cleanup_free char *path = tmpdir_path(t, "table");
    struct mountinfo m = {0};
    struct mountinfo_entry e;
    struct err err = ERR_INIT;
    assert_int_equal(mountinfo_open(path, &m, &err), 0);

    assert_true(mountinfo_next(&m, &e));
    assert_string_equal(e.dev, "98:0");
    assert_string_equal(e.root, "/mnt1");
    assert_string_equal(e.mount_point, "/mnt2");
    assert_string_equal(e.type, "ext3");
    assert_string_equal(e.super_options, "rw,errors=continue");

    assert_true(mountinfo_next(&m, &e)); /* an empty source */
    assert_string_equal(e.dev, "0:5");
    assert_string_equal(e.mount_point, "/with blank\\and\ttab");
    assert_string_equal(e.type, "tmpfs");
    assert_string_equal(e.super_options, "rw");

    assert_true(mountinfo_next(&m, &e)); /* no newline at the end; no escape of three digits */
    assert_string_equal(e.root, "/a\nb");
    assert_string_equal(e.mount_point, "/sys/fs/cgroup/cpu\\04");
    assert_string_equal(e.super_options, "rw,cpu,cpuacct");
    assert_false(mountinfo_next(&m, &e));
    assert_false(mountinfo_next(&m, &e));
    mountinfo_close(&m);
    mountinfo_close(&m);
    assert_false(mountinfo_next(&m, &e));
}

static void test_own(void **state) {
    (void)state;
    struct mountinfo m = {0};
    struct mountinfo_entry e;
    struct err err = ERR_INIT;
    bool proc = false;
    assert_int_equal(mountinfo_open(MOUNTINFO_SELF, &m, &err), 0);
    while (mountinfo_next(&m, &e))
        proc = proc || (strcmp(e.mount_point, "/proc") == 0 && strcmp(e.type, "proc") == 0);
    mountinfo_close(&m);
    assert_true(proc);
}

static void test_missing(void **state) {
    const struct tmpdir *t = *state;
    cleanup_free char *path = tmpdir_path(t, "table");
    struct mountinfo m = {0};
    struct err err = ERR_INIT;
    assert_int_equal(mountinfo_open(path, &m, &err), -ENOENT);
    ASSERT_SAYS(&err, path);
    assert_null(m.text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_entries, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test(test_own),
        cmocka_unit_test_setup_teardown(test_missing, tmpdir_setup, tmpdir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
