/* SPDX-License-Identifier: Apache-2.0 */
/* image_dir.c built with its fault points: every step of a commit fails once, over nothing, an empty directory and an
 * older checkpoint. Needs root, for files get an owner. */
#include "base/fault.h"
#include "sandbox/image_dir.h"
#include "support.h"

static const char *const steps[] = {"commit.ready",    "commit.move",   "commit.sync",
                                    "commit.sync-dir", "commit.rename", "commit.sync-name"};

static void write_file(const char *dir, const char *name, const char *text) {
    cleanup_free char *path = path_join(dir, name);
    assert_int_equal(file_write_atomic(path, text, strlen(text), 0600, false, NULL), 0);
}

static void arm(const struct tmpdir *t, const char *step) {
    cleanup_free char *file = tmpdir_path(t, "fault");
    cleanup_free char *line = str_printf("%s EIO\n", step);
    tmpdir_write(t, "fault", line);
    setenv(FAULT_FILE_ENV, file, 1);
}

/* One commit over what is there; returns its result. */
static int commit_once(const struct tmpdir *t, const char *final) {
    struct image_dir d = {0};
    struct image_totals totals = {0};
    struct err err = ERR_INIT;
    (void)t;
    if (image_dir_make(final, "", &d, &err) < 0)
        fail_msg("%s", err.msg);
    write_file(d.images, IMAGE_INVENTORY, "new");
    write_file(d.images, "pages-1.img", "new");
    int r = image_dir_commit(&d, &totals, &err);
    if (r < 0) {
        assert_non_null(strstr(err.msg, final));
        assert_non_null(strstr(err.msg, strerror(EIO)));
        assert_int_equal(totals.files, 0);
    }
    image_dir_clear(&d);
    return r;
}

static size_t count_in(const char *path) {
    size_t n = 0;
    cleanup_dir DIR *d = opendir(path);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.' || strlen(e->d_name) > 2;
    return n;
}

static void leaves_nothing(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *top = tmpdir_path(t, "top");
    cleanup_free char *final = path_join(top, "ck");
    assert_int_equal(mkdir(top, 0700), 0);
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        arm(t, steps[i]);
        assert_int_equal(commit_once(t, final), -EIO);
        assert_int_equal(count_in(top), 0);
    }
    unsetenv(FAULT_FILE_ENV);
    assert_int_equal(commit_once(t, final), 0);
    assert_int_equal(count_in(final), 2);
    assert_int_equal(count_in(top), 1);
}

static void leaves_an_older_checkpoint(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *top = tmpdir_path(t, "top");
    cleanup_free char *final = path_join(top, "ck");
    assert_int_equal(mkdir(top, 0700), 0);
    assert_int_equal(mkdir(final, 0700), 0);
    write_file(final, IMAGE_INVENTORY, "old");
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        cleanup_free char *text = NULL;
        arm(t, steps[i]);
        assert_int_equal(commit_once(t, final), -EIO);
        assert_int_equal(file_read_at(t->fd, "top/ck/" IMAGE_INVENTORY, 16, &text, NULL, NULL), 0);
        assert_string_equal(text, "old");
        assert_int_equal(count_in(final), 1);
        assert_int_equal(count_in(top), 1);
    }
    unsetenv(FAULT_FILE_ENV);
    assert_int_equal(commit_once(t, final), 0);
    assert_int_equal(count_in(final), 2);
}

int main(void) {
    if (geteuid() != 0)
        return EXIT_SKIPPED;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(leaves_nothing, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(leaves_an_older_checkpoint, tmpdir_setup, tmpdir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
