/* SPDX-License-Identifier: Apache-2.0 */
#include "../sandbox/support.h"
#include "base/cgroup_path.h"

#include <limits.h>

/* "a/b" of the names. */
static char *joined(const struct strv *names) {
    char *all = strdup("");
    for (size_t i = 0; i < names->n; i++) {
        char *longer = str_printf("%s%s%s", all, i ? "/" : "", names->v[i]);
        free(all);
        all = longer;
    }
    assert_non_null(all);
    return all;
}

static void test_good(void **state) {
    (void)state;
    static const struct {
        const char *path, *names;
    } cases[] = {
        {"/a/b", "a/b"},
        {"a/b", "a/b"},
        {"/default/web", "default/web"},
        {"//a///b//", "a/b"},
        {"/a/.../..b", "a/.../..b"},
        {"/a:b:c", "a:b:c"},
        {"a:b", "a:b"},
        {"a:b:c:d", "a:b:c:d"},
        {"kubepods-burstable-pod12.slice:cri-containerd:abc",
         "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12.slice/cri-containerd-abc.scope"},
        {"user.slice:libpod:0a-1b", "user.slice/libpod-0a-1b.scope"},
        {":stasis:web", "system.slice/stasis-web.scope"},
        {"::web", "system.slice/web.scope"},
        {"-.slice:p:n", "p-n.scope"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_strv struct strv names = {0};
        struct err err = ERR_INIT;
        if (cgroup_path_split(cases[i].path, &names, &err) < 0)
            fail_msg("%s: %s", cases[i].path, err.msg);
        cleanup_free char *all = joined(&names);
        assert_string_equal(all, cases[i].names);
    }
}

static void test_bad(void **state) {
    (void)state;
    static const struct {
        const char *path, *says;
    } cases[] = {
        {"", "root"},
        {"/", "root"},
        {"///", "root"},
        {"/..", ".."},
        {"/a/../b", ".."},
        {"../a", ".."},
        {"a/.", "not allowed"},
        {"./a", "not allowed"},
        {"/a\nb", "control"},
        {"/a\x7f", "control"},
        {"a.scope:b:c", "slice"},
        {".slice:b:c", "slice"},
        {"-a.slice:b:c", "empty part"},
        {"a-.slice:b:c", "empty part"},
        {"a--b.slice:b:c", "empty part"},
        {"--.slice:b:c", "empty part"},
        {"a/b.slice:c:d", "slice"},
        {"a.slice:b:", "scope"},
        {"a.slice:b/../c:d", "scope"},
        {"a.slice:b:../c", "scope"},
        {"..:b:c", "slice"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_strv struct strv names = {0};
        struct err err = ERR_INIT;
        if (cgroup_path_split(cases[i].path, &names, &err) != -EINVAL)
            fail_msg("\"%s\" is taken: %s", cases[i].path, err.msg);
        ASSERT_SAYS(&err, cases[i].says);
    }
}

static int split(const char *path) {
    cleanup_strv struct strv names = {0};
    struct err err = ERR_INIT;
    int r = cgroup_path_split(path, &names, &err);
    assert_int_equal(err.code, -r);
    return r;
}

/* Each bound, on it and past it. */
static void test_bounds(void **state) {
    (void)state;
    char name[NAME_MAX + 2], path[CGROUP_PATH_MAX + 8], *p = path;
    memset(name, 'n', sizeof(name));
    name[NAME_MAX] = '\0';
    assert_int_equal(split(name), 0);
    name[NAME_MAX] = 'n';
    name[NAME_MAX + 1] = '\0';
    assert_int_equal(split(name), -ENAMETOOLONG);

    for (int i = 0; i < CGROUP_DEPTH_MAX; i++)
        p = stpcpy(p, "/d");
    assert_int_equal(split(path), 0);
    stpcpy(p, "/d");
    assert_int_equal(split(path), -ENAMETOOLONG);

    memset(path, '/', sizeof(path));
    path[CGROUP_PATH_MAX - 1] = 'a';
    path[CGROUP_PATH_MAX] = '\0';
    assert_int_equal(split(path), 0);
    path[CGROUP_PATH_MAX] = 'a';
    path[CGROUP_PATH_MAX + 1] = '\0';
    assert_int_equal(split(path), -ENAMETOOLONG);

    /* Short, but what it stands for is not: the parts of a slice add up. */
    p = path;
    for (int i = 0; i < 60; i++)
        p = stpcpy(p, i ? "-abc" : "abc");
    stpcpy(p, ".slice:b:c");
    assert_int_equal(split(path), -ENAMETOOLONG);
    /* And a scope's name may be too long, where neither part is. */
    snprintf(path, sizeof(path), ":%.200s:%.200s", name, name);
    assert_int_equal(split(path), -ENAMETOOLONG);
    snprintf(path, sizeof(path), "%.250s.slice:b:c", name);
    assert_int_equal(split(path), -ENAMETOOLONG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
