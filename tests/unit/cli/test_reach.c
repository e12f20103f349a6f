/* SPDX-License-Identifier: Apache-2.0 */
/* Needs root: sets owners. The test's directory is in /tmp, which all users reach. */
#include "cli/reach.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <cmocka.h>

#include "tmpdir.h"

static void a_directory_above_keeps_others_out(void **state) {
    const struct tmpdir *t = *state;
    static const struct {
        mode_t mode;
        uid_t uid;
        gid_t gid;
        int reached;
    } cases[] = {
        {0755, 0, 0, 1}, {0711, 0, 0, 1},    {0701, 0, 0, 1},    {0750, 0, 0, 0}, {0750, 0, 1000, 1},
        {0740, 0, 0, 0}, {0740, 0, 1000, 0}, {0700, 1000, 0, 1}, {0700, 0, 0, 0}, {0766, 0, 1000, 0},
    };
    cleanup_free char *inner = tmpdir_path(t, "a/b/rootfs"), *link = tmpdir_path(t, "link");
    close(path_mkdirs_beneath(t->fd, "a/b/rootfs", 0755, NULL));
    assert_int_equal(symlinkat("a/b/rootfs", t->fd, "link"), 0);
    assert_int_equal(chmod(t->path, 0755), 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        static const char *const places[] = {"a", "a/b", "a/b/rootfs"};
        for (size_t k = 0; k < ARRAY_SIZE(places); k++) {
            assert_int_equal(fchownat(t->fd, places[k], cases[i].uid, cases[i].gid, 0), 0);
            assert_int_equal(fchmodat(t->fd, places[k], cases[i].mode, 0), 0);
            if (reach_by_others(inner, NULL) != cases[i].reached || reach_by_others(link, NULL) != cases[i].reached)
                fail_msg("%s %04o %u:%u", places[k], cases[i].mode, cases[i].uid, cases[i].gid);
            assert_int_equal(fchownat(t->fd, places[k], 0, 0, 0), 0);
            assert_int_equal(fchmodat(t->fd, places[k], 0755, 0), 0);
        }
    }
    struct err e = ERR_INIT;
    assert_int_equal(reach_by_others("/no/such", &e), -ENOENT);
    assert_non_null(strstr(e.msg, "/no/such"));
}

/* A list may let in whom the mode keeps out: its bound is the group's bits. */
static void access_control_lists(void **state) {
    const struct tmpdir *t = *state;
    /* version 2; user rwx, user 1000 r-x, group ---, mask r-x, other --- */
    static const unsigned char acl[] = {2, 0,   0,   0,   1,   0,   7,  0, 255, 255, 255, 255, 2,   0,  5,
                                        0, 232, 3,   0,   0,   4,   0,  0, 0,   255, 255, 255, 255, 16, 0,
                                        5, 0,   255, 255, 255, 255, 32, 0, 0,   0,   255, 255, 255, 255};
    cleanup_free char *dir = tmpdir_path(t, "dir");
    assert_int_equal(chmod(t->path, 0755), 0);
    assert_int_equal(mkdirat(t->fd, "dir", 0700), 0);
    if (setxattr(dir, "system.posix_acl_access", acl, sizeof(acl), 0) < 0)
        skip(); /* a file system without */
    assert_int_equal(reach_by_others(dir, NULL), 1);
    assert_int_equal(chmod(dir, 0700), 0); /* the mask */
    assert_int_equal(reach_by_others(dir, NULL), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, tmpdir_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {T(a_directory_above_keeps_others_out), T(access_control_lists)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
