/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel then forgets of a share is tried in tests/integration/held_files.bats. */
#include "agent/forget.h"
#include "fake_guest.h"

#define GUEST_TEST(fn) cmocka_unit_test_setup_teardown(fn, guest_setup, guest_teardown)

static int share_of(struct guest *g) {
    assert_int_equal(path_mkdirs(g->share, 0755, NULL), 0);
    int fd = open(g->share, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void test_nothing_is_made_or_lost(void **state) {
    struct guest *g = *state;
    struct err err = ERR_INIT;
    cleanup_fd int share = share_of(g);
    struct stat st;
    assert_int_equal(mkdirat(share, "c1", 0755), 0);
    assert_int_equal(mkdirat(share, "c1/checkpoint", 0755), 0);
    assert_int_equal(forget_path(share, "c1/checkpoint/images+1", &err), 0);
    assert_int_equal(forget_path(share, "c2", &err), 0);
    assert_int_equal(forget_path(share, "c2/checkpoint/images+1", &err), 0);
    assert_true(fstatat(share, "c1/checkpoint/images+1", &st, 0) < 0);
    assert_true(fstatat(share, "c2", &st, 0) < 0);
    /* The host still has it. */
    assert_int_equal(forget_path(share, "c1/checkpoint", &err), -EEXIST);
    assert_non_null(strstr(err.msg, "c1/checkpoint"));
    assert_int_equal(fstatat(share, "c1/checkpoint", &st, 0), 0);
    /* Not by way of a link. */
    assert_int_equal(symlinkat(g->root, share, "link"), 0);
    assert_int_equal(forget_path(share, "link/x", &err), -ELOOP);
}

static void test_requests(void **state) {
    struct guest *g = *state;
    struct outcome o = {0};
    struct err err = ERR_INIT;
    char *const wrong[] = {(char[]){""}, (char[]){"/c1"}, (char[]){"../c1"}, (char[]){"c1/../../x"}, (char[]){"c1/"}};
    char *many[FORGET_PATHS_MAX + 1], good[] = "c1/checkpoint/images+1";
    close(share_of(g));
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_int_equal(forget_paths(&g->a, &wrong[i], 1, on_outcome, &o, &err), -EINVAL);
    for (size_t i = 0; i < ARRAY_SIZE(many); i++)
        many[i] = good;
    assert_int_equal(forget_paths(&g->a, many, ARRAY_SIZE(many), on_outcome, &o, &err), -E2BIG);
    assert_int_equal(o.n, 0);
    assert_int_equal(forget_paths(&g->a, many, FORGET_PATHS_MAX, on_outcome, &o, &err), 0);
    RUN_UNTIL(g->f->event, o.n);
    assert_int_equal(o.code, 0);
}

static void test_without_a_share(void **state) {
    struct guest *g = *state;
    struct outcome o = {0};
    char *const paths[] = {(char[]){"c1"}};
    assert_int_equal(forget_paths(&g->a, paths, 1, on_outcome, &o, NULL), 0);
    RUN_UNTIL(g->f->event, o.n);
    assert_int_equal(o.code, EIO);
    assert_non_null(strstr(o.msg, "c1"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        GUEST_TEST(test_nothing_is_made_or_lost),
        GUEST_TEST(test_requests),
        GUEST_TEST(test_without_a_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
