/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "vm/memory.h"

static void is_sparse_and_of_the_size(void **state) {
    (void)state;
    struct err err = ERR_INIT;
    cleanup_fd int fd = memory_create("a", UINT64_C(8) << 30, &err);
    assert_true(fd >= 0);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, INT64_C(8) << 30);
    assert_int_equal(st.st_blocks, 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static void cannot_be_resized(void **state) {
    (void)state;
    cleanup_fd int fd = memory_create("a", MEMORY_MIN, NULL);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)(MEMORY_MIN / 2)), -1);
    assert_int_equal(ftruncate(fd, (off_t)(MEMORY_MIN * 2)), -1);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(fallocate(fd, 0, (off_t)MEMORY_MIN, 4096), -1);
    assert_int_equal(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    /* but written, and freed in part */
    assert_int_equal(pwrite(fd, "x", 1, 12345), 1);
    assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20), 0);
    char c = 'y';
    assert_int_equal(pread(fd, &c, 1, 12345), 1);
    assert_int_equal(c, 0);
}

static void opens_again_for_another_user(void **state) {
    (void)state;
    cleanup_fd int fd = memory_create("a", MEMORY_MIN, NULL);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0666);
}

static void sizes_are_checked(void **state) {
    (void)state;
    const uint64_t bad[] = {0, 1, MEMORY_MIN - MEMORY_STEP, MEMORY_MIN + 1, MEMORY_MAX + MEMORY_STEP, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct err err = ERR_INIT;
        assert_int_equal(memory_create("box", bad[i], &err), -EINVAL);
        assert_non_null(strstr(err.msg, "box"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_sparse_and_of_the_size),
        cmocka_unit_test(cannot_be_resized),
        cmocka_unit_test(opens_again_for_another_user),
        cmocka_unit_test(sizes_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
