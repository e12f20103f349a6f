/* SPDX-License-Identifier: Apache-2.0 */
/* Needs root and the kernel's loop devices. */
#include "sandbox/loop.h"
#include "support.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

static char *image(const struct tmpdir *t, const char *name) {
    char *path = tmpdir_path(t, name);
    assert_non_null(path);
    cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "hello", 5, 4096), 5);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    return path;
}

/* The file behind a loop device as the kernel tells it; false if none is. */
static bool backing_file(const char *device, char *buf, size_t size) {
    cleanup_free char *path = str_printf("/sys/block/%s/loop/backing_file", strrchr(device, '/') + 1);
    cleanup_free char *text = NULL;
    if (file_read_at(AT_FDCWD, path, 4096, &text, NULL, NULL) < 0)
        return false;
    snprintf(buf, size, "%.*s", (int)strcspn(text, "\n"), text);
    return true;
}

static void test_attach(void **state) {
    const struct tmpdir *t = *state;
    cleanup_free char *file = image(t, "image");
    for (int read_only = 0; read_only < 2; read_only++) {
        struct err err = ERR_INIT;
        char name[LOOP_NAME_MAX], behind[256], data[5];
        cleanup_fd int fd = loop_attach(file, read_only, name, &err);
        if (fd < 0)
            fail_msg("%s", err.msg);
        assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
        assert_true(backing_file(name, behind, sizeof(behind)));
        assert_string_equal(behind, file);
        uint64_t size = 0;
        int ro = -1;
        assert_int_equal(ioctl(fd, BLKGETSIZE64, &size), 0);
        assert_int_equal(size, 1 << 20);
        assert_int_equal(ioctl(fd, BLKROGET, &ro), 0);
        assert_int_equal(ro, read_only);
        assert_int_equal(pread(fd, data, 5, 4096), 5);
        assert_memory_equal(data, "hello", 5);
        /* The file goes with the last fd. */
        fd = fd_close(fd);
        if (backing_file(name, behind, sizeof(behind)))
            assert_string_not_equal(behind, file);
    }
}

static void test_fails(void **state) {
    const struct tmpdir *t = *state;
    cleanup_free char *missing = tmpdir_path(t, "missing");
    struct err err = ERR_INIT;
    char name[LOOP_NAME_MAX] = "untouched";
    assert_int_equal(loop_attach(missing, true, name, &err), -ENOENT);
    ASSERT_SAYS(&err, missing);
    err = (struct err)ERR_INIT;
    assert_true(loop_attach(t->path, true, name, &err) < 0); /* a directory */
    ASSERT_SAYS(&err, t->path);
    assert_string_equal(name, "untouched");
}

int main(void) {
    if (geteuid() != 0 || access("/dev/loop-control", F_OK) < 0)
        return EXIT_SKIPPED;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_attach, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(test_fails, tmpdir_setup, tmpdir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
