/* SPDX-License-Identifier: Apache-2.0 */
/* Needs root: mounts for real, in a mount namespace of its own. */
#include "agent/criu.h"
#include "agent/criu_cgroups.h"
#include "support.h"

#include <sched.h>
#include <sys/mount.h>

static void test_yard(void **state) {
    const struct tmpdir *t = *state;
    cleanup_free char *yard = tmpdir_path(t, "a/yard");
    cleanup_free char *link = path_join(yard, "cpu,cpuacct");
    cleanup_free char *unified = path_join(yard, "unified");
    cleanup_free char *root = tmpdir_path(t, "root");
    char to[64] = "";
    /* The second time it is there. */
    assert_int_equal(mkdirat(t->fd, "root", 0755), 0);
    tmpdir_write(t, "root/cgroup.procs", "1");
    assert_int_equal(criu_cgroups_make(yard, root, NULL), 0);
    assert_int_equal(criu_cgroups_make(yard, root, NULL), 0);
    /* Relative, so that it means the same wherever the yard is seen from. */
    assert_int_equal(readlink(link, to, sizeof(to) - 1), strlen("unified"));
    assert_string_equal(to, "unified");
    assert_int_equal(faccessat(t->fd, "a/yard/cpu,cpuacct/cgroup.procs", F_OK, 0), 0);
    assert_int_equal(umount2(unified, 0), 0);
}

static void test_no_yard(void **state) {
    (void)state;
    struct err err = ERR_INIT;
    assert_true(criu_cgroups_make("/proc/nowhere/yard", "/sys/fs/cgroup", &err) < 0);
    assert_non_null(strstr(err.msg, "/proc/nowhere"));
}

static void test_conf(void **state) {
    (void)state;
    char conf[CRIU_CONF_MAX], small[16];
    size_t n = criu_cgroups_conf(conf, sizeof(conf));
    /* With room for all other lines. */
    assert_true(n == strlen(conf) && n < CRIU_CONF_MAX / 2);
    assert_int_equal(strncmp(conf, "cgroup-yard " CRIU_YARD "\n", strlen("cgroup-yard " CRIU_YARD "\n")), 0);
    assert_non_null(strstr(conf, "external mnt[/sys/fs/cgroup/cpu,cpuacct]:" CRIU_YARD_EMPTY "\n"));
    assert_int_equal(criu_cgroups_conf(small, sizeof(small)), n);
    assert_int_equal(strlen(small), sizeof(small) - 1);
}

int main(void) {
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        perror("a mount namespace");
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_yard, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test(test_no_yard),
        cmocka_unit_test(test_conf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
