/* SPDX-License-Identifier: Apache-2.0 */
/* The library's functions are part of this program, where they stand in for the C library's as in CRIU. */
#include "../../../src/agent/criu_direct.c"

#include <sys/mman.h>

#include "support.h"

#define LARGE ((size_t)1 << 20)

static int make(struct tmpdir *dir, const char *name) {
    int fd = openat64(dir->fd, name, O_RDWR | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    return fd;
}

static bool is_direct(int fd) {
    return fcntl(fd, F_GETFL) & O_DIRECT;
}

static bool can_be_direct(int fd) {
    return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_DIRECT) == 0;
}

static void only_pages_are_direct(void **state) {
    struct tmpdir *dir = *state;
    static const char *const others[] = {"pagemap-1.img", "inventory.img", "my-pages-1.img"};
    int fd = make(dir, "pages-1.img");
    struct stat st;
    bool possible = is_direct(fd) || can_be_direct(fd);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    fd_close(fd);
    fd = openat64(dir->fd, "pages-1.img", O_RDONLY);
    assert_int_equal(is_direct(fd), possible);
    fd_close(fd);
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        fd = make(dir, others[i]);
        assert_false(is_direct(fd));
        fd_close(fd);
    }
    errno = 0;
    assert_int_equal(openat64(dir->fd, "pages-2.img", O_RDONLY), -1);
    assert_int_equal(errno, ENOENT);
}

static void a_small_read_ends_it(void **state) {
    struct tmpdir *dir = *state;
    void *buf = NULL;
    int fd = make(dir, "pages-1.img");
    bool possible = is_direct(fd);
    assert_int_equal(posix_memalign(&buf, 4096, LARGE), 0);
    memset(buf, 'x', LARGE);
    struct iovec iov[2] = {{.iov_base = buf, .iov_len = LARGE / 2},
                           {.iov_base = (char *)buf + LARGE / 2, .iov_len = LARGE / 2}};
    assert_int_equal(write(fd, buf, LARGE), LARGE);
    assert_int_equal(pread64(fd, buf, LARGE, 0), LARGE);
    assert_int_equal(preadv64(fd, iov, 2, 0), LARGE);
    assert_int_equal(is_direct(fd), possible);
    iov[0].iov_len = iov[1].iov_len = 1000;
    memset(buf, 0, LARGE);
    assert_int_equal(preadv64(fd, iov, 2, 1), 2000);
    assert_int_equal(((char *)buf)[999], 'x');
    assert_false(is_direct(fd));
    set_direct(fd, true);
    assert_int_equal(pread64(fd, buf, 10, 5), 10);
    assert_false(is_direct(fd));
    free(buf);
    fd_close(fd);
}

/* What cannot be direct stays as it is, and nobody is told. */
static void a_refusal_is_no_error(void **state) {
    (void)state;
    int fd = memfd_create("plain", MFD_CLOEXEC), p[2];
    char c = 'x';
    assert_int_equal(pipe(p), 0);
    errno = 7;
    set_direct(-1, true);
    set_direct(p[0], false);
    assert_int_equal(errno, 7);
    assert_int_equal(write(fd, &c, 1), 1);
    assert_int_equal(pread64(fd, &c, 1, 0), 1);
    fd_close(p[0]);
    fd_close(p[1]);
    fd_close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_pages_are_direct, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(a_small_read_ends_it, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test(a_refusal_is_no_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
