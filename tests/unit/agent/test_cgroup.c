/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/cgroup.h"
#include "support.h"

static void test_path(void **state) {
    (void)state;
    char *path = NULL;
    assert_int_equal(cgroup_path_parse("0::/stasis/c1\n", &path), 0);
    assert_string_equal(path, "/stasis/c1");
    free(path);
    assert_int_equal(cgroup_path_parse("9:name=systemd:/a\n1:cpu:/b\n0::/\n", &path), 0);
    assert_string_equal(path, "/");
    free(path);
    assert_int_equal(cgroup_path_parse("", &path), -ENODATA);
    assert_int_equal(cgroup_path_parse("1:cpu:/b\n10::/c\n", &path), -ENODATA);
}

static void add_group(const struct tmpdir *t, const char *name, const char *procs) {
    cleanup_free char *file = str_printf("%s/cgroup.procs", name);
    assert_int_equal(mkdirat(t->fd, name, 0755), 0);
    tmpdir_write(t, file, procs);
}

static void test_pids(void **state) {
    struct tmpdir *t = *state;
    tmpdir_write(t, "cgroup.procs", "10\n11\n0\n-5\n");
    add_group(t, "a", "20\n");
    add_group(t, "a/b", "30\nx\n40\n");
    add_group(t, "empty", "");
    assert_int_equal(mkdirat(t->fd, "threaded", 0755), 0);
    assert_int_equal(symlinkat("/", t->fd, "link"), 0);
    pid_t *pids = NULL;
    size_t n = 0;
    int sum = 0;
    assert_int_equal(cgroup_pids(t->fd, &pids, &n, NULL), 0);
    for (size_t i = 0; i < n; i++)
        sum += pids[i];
    assert_int_equal(n, 4);
    assert_int_equal(sum, 10 + 11 + 20 + 30);
    free(pids);
}

static void test_pids_bounds(void **state) {
    struct tmpdir *t = *state;
    char path[1024] = "d";
    size_t len = 1;
    /* Deeper than anybody needs: what is below is left out, and nothing breaks. */
    for (int i = 0; i < CGROUP_DEPTH_MAX + 5; i++) {
        add_group(t, path, "1\n");
        len += (size_t)snprintf(path + len, sizeof(path) - len, "/d");
    }
    cleanup_file FILE *f = NULL;
    cleanup_free char *file = tmpdir_path(t, "cgroup.procs");
    f = fopen(file, "we");
    assert_non_null(f);
    for (int i = 0; i < CGROUP_PIDS_MAX + 100; i++)
        fprintf(f, "7\n");
    fflush(f);
    pid_t *pids = NULL;
    size_t n = 0;
    assert_int_equal(cgroup_pids(t->fd, &pids, &n, NULL), 0);
    assert_int_equal(n, CGROUP_PIDS_MAX);
    free(pids);
    tmpdir_write(t, "cgroup.procs", "");
    assert_int_equal(cgroup_pids(t->fd, &pids, &n, NULL), 0);
    assert_int_equal(n, CGROUP_DEPTH_MAX);
    free(pids);
}

static void test_key(void **state) {
    struct tmpdir *t = *state;
    uint64_t v = 0;
    tmpdir_write(t, "memory.events", "oom 3\noom_kill 4\nhigh x\n");
    assert_int_equal(cgroup_read_key(t->fd, "memory.events", "oom_kill", &v), 0);
    assert_int_equal(v, 4);
    assert_int_equal(cgroup_read_key(t->fd, "memory.events", "oom", &v), 0);
    assert_int_equal(v, 3);
    assert_int_equal(cgroup_read_key(t->fd, "memory.events", "kill", &v), -ENODATA);
    assert_int_equal(cgroup_read_key(t->fd, "memory.events", "high", &v), -EINVAL);
    assert_int_equal(cgroup_read_key(t->fd, "none", "high", &v), -ENOENT);
}

static void test_orders(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *text = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(cgroup_kill(t->fd, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "cgroup.kill"));
    tmpdir_write(t, "cgroup.freeze", "0");
    assert_int_equal(cgroup_freeze(t->fd, true, NULL), 0);
    assert_int_equal(file_read_at(t->fd, "cgroup.freeze", 16, &text, NULL, NULL), 0);
    assert_string_equal(text, "1");
}

static void test_remove(void **state) {
    struct tmpdir *t = *state;
    struct err err = ERR_INIT;
    cleanup_free char *path = tmpdir_path(t, "a");
    assert_int_equal(cgroup_remove(path, NULL), 0);
    close(path_mkdirs_beneath(t->fd, "a/b/c", 0755, NULL));
    close(path_mkdirs_beneath(t->fd, "a/d", 0755, NULL));
    assert_int_equal(cgroup_remove(path, NULL), 0);
    assert_false(tmpdir_has(t, "a"));
    /* A file stands for what cannot be removed. */
    close(path_mkdirs_beneath(t->fd, "a/b", 0755, NULL));
    tmpdir_write(t, "a/b/file", "");
    assert_true(cgroup_remove(path, &err) < 0);
    assert_non_null(strstr(err.msg, path));
    tmpdir_remove(t, "a/b/file");
    /* Not through a link. */
    assert_int_equal(mkdirat(t->fd, "other", 0700), 0);
    assert_int_equal(symlinkat("../other", t->fd, "a/link"), 0);
    assert_true(cgroup_remove(path, NULL) < 0);
    assert_true(tmpdir_has(t, "other"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path),
        cmocka_unit_test_setup_teardown(test_pids, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(test_pids_bounds, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(test_key, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(test_orders, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(test_remove, tmpdir_setup, tmpdir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
