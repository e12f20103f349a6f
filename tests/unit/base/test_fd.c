/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "tmpdir.h"

static int count_fds(void) {
    cleanup_dir DIR *d = opendir("/proc/self/fd");
    int n = 0;
    while (readdir(d))
        n++;
    return n;
}

static void close_keeps_errno(void **state) {
    (void)state;
    errno = ENOTTY;
    assert_int_equal(fd_close(-1), -1);
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    errno = ENOTTY;
    assert_int_equal(fd_close(fd), -1);
    assert_int_equal(errno, ENOTTY);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void flags_are_set_and_cleared(void **state) {
    (void)state;
    cleanup_fd int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(fd_set_nonblock(fd, true), 0);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_int_equal(fd_set_nonblock(fd, false), 0);
    assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_int_equal(fd_set_cloexec(fd, false), 0);
    assert_false(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(fd_set_cloexec(fd, true), 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(fd_set_nonblock(9999, true), -EBADF);
    assert_int_equal(fd_set_cloexec(9999, true), -EBADF);
}

static void wait_times_out_and_wakes(void **state) {
    (void)state;
    int p[2];
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    uint64_t start = now_usec();
    assert_int_equal(fd_wait(p[0], POLLIN, 20000), 0);
    assert_true(now_usec() - start >= 20000);
    assert_int_equal(fd_wait(p[0], POLLIN, 0), 0);
    assert_int_equal(write(p[1], "x", 1), 1);
    assert_true(fd_wait(p[0], POLLIN, UINT64_MAX) & POLLIN);
    close(p[0]);
    close(p[1]);
}

/* More than a pipe holds, into a non-blocking one, with a reader that is late. */
static void write_all_waits_for_room(void **state) {
    (void)state;
    enum { SIZE = 1 << 20 };
    int p[2];
    assert_int_equal(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(p[1]);
        fd_set_nonblock(p[0], false);
        size_t n = 0;
        char buf[4096];
        ssize_t k;
        bool good = true;
        while ((k = read(p[0], buf, sizeof(buf))) > 0)
            for (ssize_t i = 0; i < k; i++)
                good &= buf[i] == (char)(n++ % 251);
        _exit(good && n == SIZE ? 0 : 1);
    }
    close(p[0]);
    char *data = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (char)(i % 251);
    assert_int_equal(fd_write_all(p[1], data, SIZE), 0);
    close(p[1]);
    free(data);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void write_all_reports_errors(void **state) {
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    int p[2];
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    close(p[0]);
    assert_int_equal(fd_write_all(p[1], "x", 1), -EPIPE);
    close(p[1]);
    assert_int_equal(fd_write_all(9999, "x", 1), -EBADF);
    cleanup_fd int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_int_equal(fd_write_all(full, "x", 1), -ENOSPC);
}

static void read_all_has_a_bound(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_free char *path = tmpdir_path(t, "f");
    cleanup_free char *text = NULL;
    size_t len = 99;
    tmpdir_write(t, "f", "12345");
    assert_int_equal(file_read_at(AT_FDCWD, path, 5, &text, &len, &e), 0);
    assert_int_equal(len, 5);
    assert_string_equal(text, "12345");
    char *untouched = (char *)1;
    assert_int_equal(file_read_at(AT_FDCWD, path, 4, &untouched, NULL, &e), -EFBIG);
    assert_ptr_equal(untouched, (char *)1);
    assert_non_null(strstr(e.msg, path));
    assert_int_equal(file_read_at(AT_FDCWD, path, 0, &untouched, NULL, &e), -EFBIG);

    /* an endless one ends at the bound */
    assert_int_equal(file_read_at(AT_FDCWD, "/dev/zero", 100000, &untouched, NULL, &e), -EFBIG);

    tmpdir_write(t, "empty", "");
    cleanup_free char *nothing = NULL;
    assert_int_equal(file_read_at(t->fd, "empty", 0, &nothing, &len, &e), 0);
    assert_int_equal(len, 0);
    assert_string_equal(nothing, "");
}

static void read_errors_name_the_file(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    char *text = NULL;
    assert_int_equal(file_read_at(t->fd, "none", 10, &text, NULL, &e), -ENOENT);
    assert_string_equal(e.msg, "cannot open none: No such file or directory");
    assert_int_equal(file_read_at(AT_FDCWD, t->path, 10, &text, NULL, &e), -EISDIR);
    assert_null(text);
}

static unsigned entries(const struct tmpdir *t) {
    cleanup_dir DIR *d = opendir(t->path);
    unsigned n = 0;
    struct dirent *e;
    while ((e = readdir(d)))
        n += e->d_name[0] != '.';
    return n;
}

static void write_atomic_replaces_whole_files(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_free char *path = tmpdir_path(t, "f");
    assert_int_equal(file_write_atomic(path, "one", 3, 0600, true, &e), 0);
    assert_int_equal(file_write_atomic(path, "second", 6, 0640, false, &e), 0);
    cleanup_free char *text = NULL;
    assert_int_equal(file_read_at(AT_FDCWD, path, 100, &text, NULL, &e), 0);
    assert_string_equal(text, "second");
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_int_equal(entries(t), 1);
}

static void write_atomic_leaves_nothing_behind(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_free char *dir = tmpdir_path(t, "dir");
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(file_write_atomic(dir, "x", 1, 0600, false, &e), -EISDIR);
    assert_non_null(strstr(e.msg, dir));
    assert_int_equal(entries(t), 1);
    cleanup_free char *lost = tmpdir_path(t, "no/such/f");
    assert_int_equal(file_write_atomic(lost, "x", 1, 0600, true, &e), -ENOENT);
    assert_int_equal(file_write_atomic("/proc/x", "x", 1, 0600, true, &e), -ENOENT);
}

static void write_at_does_not_create(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    assert_int_equal(file_write_at(t->fd, "none", "1", &e), -ENOENT);
    tmpdir_write(t, "f", "");
    assert_int_equal(file_write_at(t->fd, "f", "42", &e), 0);
    cleanup_free char *text = NULL;
    assert_int_equal(file_read_at(t->fd, "f", 10, &text, NULL, &e), 0);
    assert_string_equal(text, "42");
    assert_int_equal(file_write_at(AT_FDCWD, "/dev/full", "42", &e), -ENOSPC);
    assert_string_equal(e.msg, "cannot write \"42\" to /dev/full: No space left on device");
}

static void fds_pass_over_a_socket(void **state) {
    (void)state;
    int s[2], fds[FD_PASS_MAX];
    size_t n = 99;
    char buf[16];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
    int before = count_fds();

    int send[FD_PASS_MAX];
    for (size_t i = 0; i < FD_PASS_MAX; i++)
        send[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(fd_send(s[0], "hello", 5, send, FD_PASS_MAX), 5);
    assert_int_equal(fd_receive(s[1], buf, sizeof(buf), fds, &n), 5);
    assert_int_equal(n, FD_PASS_MAX);
    assert_memory_equal(buf, "hello", 5);
    for (size_t i = 0; i < n; i++) {
        assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
        close(fds[i]);
        close(send[i]);
    }
    assert_int_equal(fd_send(s[0], "x", 1, send, FD_PASS_MAX + 1), -EINVAL);
    assert_int_equal(fd_send(s[0], "x", 1, NULL, 0), 1);
    assert_int_equal(fd_receive(s[1], buf, sizeof(buf), fds, &n), 1);
    assert_int_equal(n, 0);
    assert_int_equal(count_fds(), before);

    close(s[0]);
    assert_int_equal(fd_receive(s[1], buf, sizeof(buf), fds, &n), 0);
    close(s[1]);
    assert_int_equal(fd_receive(9999, buf, sizeof(buf), fds, &n), -EBADF);
}

/* A peer that sends more fds than we take must not fill our table. */
static void too_many_fds_are_all_closed(void **state) {
    (void)state;
    enum { MANY = FD_PASS_MAX + 5 };
    int s[2], fds[FD_PASS_MAX];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
    union {
        char data[CMSG_SPACE(sizeof(int) * MANY)];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {.iov_base = (char[]){"x"}, .iov_len = 1};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.data, .msg_controllen = sizeof(control.data)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int) * MANY)};
    for (size_t i = 0; i < MANY; i++)
        memcpy(CMSG_DATA(c) + i * sizeof(int), &s[0], sizeof(int));
    int before = count_fds();
    assert_int_equal(sendmsg(s[0], &msg, 0), 1);
    char buf[4];
    size_t n = 99;
    assert_int_equal(fd_receive(s[1], buf, sizeof(buf), fds, &n), -EMSGSIZE);
    assert_int_equal(n, 0);
    assert_int_equal(count_fds(), before);
    close(s[0]);
    close(s[1]);
}

/* There are no descriptors left for what comes: the bytes do. */
static void receives_without_descriptors(void **state) {
    (void)state;
    int s[2], fds[FD_PASS_MAX], pass[2] = {STDIN_FILENO, STDIN_FILENO};
    struct rlimit old, none;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
    assert_int_equal(fd_send(s[0], "x", 1, pass, 2), 1);
    int before = count_fds();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = (struct rlimit){.rlim_cur = (rlim_t)s[1] + 2, .rlim_max = old.rlim_max}; /* room for one of the two */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    char buf[4];
    size_t n = 99;
    ssize_t r = fd_receive(s[1], buf, sizeof(buf), fds, &n);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(r, 1);
    assert_int_equal(n, FD_PASS_LOST);
    assert_int_equal(count_fds(), before);
    close(s[0]);
    close(s[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(receives_without_descriptors),
        cmocka_unit_test(close_keeps_errno),
        cmocka_unit_test(flags_are_set_and_cleared),
        cmocka_unit_test(wait_times_out_and_wakes),
        cmocka_unit_test(write_all_waits_for_room),
        cmocka_unit_test(write_all_reports_errors),
        cmocka_unit_test_setup_teardown(read_all_has_a_bound, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(read_errors_name_the_file, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(write_atomic_replaces_whole_files, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(write_atomic_leaves_nothing_behind, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(write_at_does_not_create, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test(fds_pass_over_a_socket),
        cmocka_unit_test(too_many_fds_are_all_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
