/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/criu_work.h"
#include "support.h"

#include <sys/stat.h>

struct work {
    struct tmpdir *dir;
    char *path; /* CRIU's own */
    int share;
};

static int setup(void **state) {
    struct work *w = calloc(1, sizeof(*w));
    void *dir;
    if (!w || tmpdir_setup(&dir) < 0)
        return -1;
    w->dir = dir;
    w->path = tmpdir_path(w->dir, "run/work");
    w->share = path_mkdirs_beneath(w->dir->fd, "share", 0755, NULL);
    *state = w;
    return w->share < 0 ? -1 : criu_work_make(w->path, NULL);
}

static int teardown(void **state) {
    struct work *w = *state;
    void *dir = w->dir;
    close(w->share);
    free(w->path);
    free(w);
    return tmpdir_teardown(&dir);
}

static void file_is(struct work *w, const char *name, const char *want) {
    cleanup_free char *text = NULL;
    assert_int_equal(file_read_at(w->dir->fd, name, 4096, &text, NULL, NULL), 0);
    assert_string_equal(text, want);
}

static void test_collect(void **state) {
    struct work *w = *state;
    tmpdir_write(w->dir, "run/work/dump.log", "one line\n");
    tmpdir_write(w->dir, "run/work/stats-dump", "");
    tmpdir_write(w->dir, "share/dump.log", "of an earlier attempt, and longer\n");
    assert_int_equal(mkdirat(w->dir->fd, "run/work/folder", 0700), 0);
    assert_int_equal(symlinkat("dump.log", w->dir->fd, "run/work/link"), 0);
    assert_int_equal(criu_work_collect(w->path, w->share, NULL), 0);
    file_is(w, "share/dump.log", "one line\n");
    file_is(w, "share/stats-dump", "");
    struct stat st;
    assert_int_equal(fstatat(w->share, "link", &st, AT_SYMLINK_NOFOLLOW), -1);
    assert_int_equal(fstatat(w->share, "folder", &st, AT_SYMLINK_NOFOLLOW), -1);

    /* Once more, when there is more of it. */
    tmpdir_write(w->dir, "run/work/dump.log", "one line\nand another\n");
    assert_int_equal(criu_work_collect(w->path, w->share, NULL), 0);
    file_is(w, "share/dump.log", "one line\nand another\n");
}

static void test_link_at_the_target(void **state) {
    struct work *w = *state;
    tmpdir_write(w->dir, "other", "untouched");
    tmpdir_write(w->dir, "run/work/dump.log", "log");
    assert_int_equal(symlinkat("../other", w->share, "dump.log"), 0);
    assert_int_equal(criu_work_collect(w->path, w->share, NULL), 0);
    file_is(w, "share/dump.log", "log");
    file_is(w, "other", "untouched");
}

static void test_many_files(void **state) {
    struct work *w = *state;
    struct stat st;
    unsigned found = 0;
    char name[32];
    for (unsigned i = 0; i < CRIU_WORK_FILES_MAX + 4; i++) {
        snprintf(name, sizeof(name), "run/work/%u", i);
        tmpdir_write(w->dir, name, "x");
    }
    assert_int_equal(criu_work_collect(w->path, w->share, NULL), 0);
    for (unsigned i = 0; i < CRIU_WORK_FILES_MAX + 4; i++) {
        snprintf(name, sizeof(name), "%u", i);
        found += fstatat(w->share, name, &st, 0) == 0;
    }
    assert_int_equal(found, CRIU_WORK_FILES_MAX);
}

static void test_make_is_empty_and_remove(void **state) {
    struct work *w = *state;
    struct stat st;
    struct err err = ERR_INIT;
    tmpdir_write(w->dir, "run/work/dump.log", "old");
    assert_int_equal(criu_work_make(w->path, NULL), 0);
    assert_int_equal(fstatat(w->dir->fd, "run/work/dump.log", &st, 0), -1);
    assert_int_equal(fstatat(w->dir->fd, "run/work", &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    criu_work_remove(w->path);
    criu_work_remove(w->path);
    assert_int_equal(criu_work_collect(w->path, w->share, &err), -ENOENT);
    assert_non_null(strstr(err.msg, w->path));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_collect, setup, teardown),
        cmocka_unit_test_setup_teardown(test_link_at_the_target, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_make_is_empty_and_remove, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
