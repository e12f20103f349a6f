/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/tty.h"

/* Its unlockpt() is part of this program, where it stands in for the C library's as in crun. */
#include "../../../src/agent/tty_setup.c"
#include "support.h"

#include <pty.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

/* What crun does: connects, sends the master and is gone. */
static void send_tty(const char *path, const int *fds, size_t n) {
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    assert_int_equal(connect(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(fd_send(fd, "/dev/ptmx", 9, fds, n), 9);
    close(fd);
}

static void test_take(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *path = tmpdir_path(t, "sock");
    cleanup_fd int listen_fd = tty_listen(path, NULL);
    int master, slave;
    char c;
    struct winsize ws;
    assert_true(listen_fd >= 0);
    assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
    send_tty(path, &master, 1);
    close(master);
    cleanup_fd int tty = tty_take(listen_fd, NULL);
    assert_true(tty >= 0);
    assert_int_equal(read(tty, &c, 1), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(tty_resize(tty, 132, 43, NULL), 0);
    assert_int_equal(ioctl(slave, TIOCGWINSZ, &ws), 0);
    assert_int_equal(ws.ws_col, 132);
    assert_int_equal(ws.ws_row, 43);
    assert_int_equal(tty_resize(tty, 0, 10, NULL), 0);
    assert_int_equal(tty_resize(tty, 70000, 10, NULL), -EINVAL);
    assert_int_equal(ioctl(slave, TIOCGWINSZ, &ws), 0);
    assert_int_equal(ws.ws_row, 43);
    close(slave);
}

static void test_nothing(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *path = tmpdir_path(t, "sock");
    cleanup_fd int listen_fd = tty_listen(path, NULL);
    int fds[2];
    assert_int_equal(tty_take(listen_fd, NULL), -EINVAL);
    send_tty(path, NULL, 0);
    assert_int_equal(tty_take(listen_fd, NULL), -EIO);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    send_tty(path, fds, 2);
    assert_int_equal(tty_take(listen_fd, NULL), -EINVAL);
    close(fds[0]);
    close(fds[1]);
}

static void test_path(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *path = tmpdir_path(t, "sock");
    char longer[200];
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(tty_listen(longer, NULL), -ENAMETOOLONG);
    cleanup_fd int fd = tty_listen(path, NULL);
    struct err err = ERR_INIT;
    assert_true(fd >= 0);
    assert_int_equal(tty_listen(path, &err), -EADDRINUSE);
    assert_non_null(strstr(err.msg, path));
}

/* What the other end gets of one line that is written to the terminal. */
static void expect_line(int master, int slave, const char *expected) {
    char text[16] = "";
    assert_int_equal(write(slave, "hi\n", 3), 3);
    ssize_t n = read(master, text, sizeof(text) - 1);
    assert_int_equal(n, strlen(expected));
    assert_string_equal(text, expected);
}

static int open_peer(int master) {
    int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(slave >= 0);
    return slave;
}

static void test_newlines(void **state) {
    (void)state;
    cleanup_fd int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_int_equal(unlockpt(master), 0);
    cleanup_fd int slave = open_peer(master);
    expect_line(master, slave, "hi\r\n");
    assert_int_equal(tty_keep_newlines(master, NULL), 0);
    expect_line(master, slave, "hi\n");
    cleanup_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_int_equal(tty_keep_newlines(null, NULL), -ENOTTY);
}

/* As in crun: between opening a terminal and using it. */
static void test_setup(void **state) {
    (void)state;
    struct winsize ws;
    char how[TTY_SETUP_SIZE];
    assert_true(snprintf(how, sizeof(how), TTY_SETUP_FORMAT, 65535u, 65535u, 1u) < (int)sizeof(how));
    cleanup_fd int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    setenv(TTY_SETUP, "77 33 1", 1);
    assert_int_equal(unlockpt(master), 0);
    unsetenv(TTY_SETUP);
    cleanup_fd int slave = open_peer(master);
    assert_int_equal(ioctl(slave, TIOCGWINSZ, &ws), 0);
    assert_int_equal(ws.ws_col, 77);
    assert_int_equal(ws.ws_row, 33);
    expect_line(master, slave, "hi\n");
    errno = 0;
    assert_int_equal(unlockpt(-1), -1);
    assert_int_equal(errno, EBADF);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_take, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(test_nothing, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test(test_newlines),
        cmocka_unit_test(test_setup),
        cmocka_unit_test_setup_teardown(test_path, tmpdir_setup, tmpdir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
