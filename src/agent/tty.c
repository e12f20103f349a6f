/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/tty.h"

#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"

int tty_listen(const char *path, struct err *err) {
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(addr.sun_path))
        return err_set(err, ENAMETOOLONG, "socket path %s is too long", path);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(err, errno, "cannot make the console socket");
    if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 1) < 0)
        return err_errno(err, errno, "cannot listen at %s", path);
    return TAKE_FD(fd);
}

int tty_take(int listen_fd, struct err *err) {
    cleanup_fd int conn = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (conn < 0)
        return err_set(err, EINVAL, "a terminal is requested, but the process object asks for none");
    char name[256];
    int fds[FD_PASS_MAX];
    size_t n = 0;
    ssize_t len = fd_receive(conn, name, sizeof(name), fds, &n);
    if (len < 0)
        return err_errno(err, (int)-len, "cannot receive the terminal from crun");
    if (n == FD_PASS_LOST)
        return err_set(err, EMFILE, "no descriptor is left for the terminal from crun");
    while (n > 1)
        fd_close(fds[--n]);
    if (n == 0)
        return err_set(err, EIO, "crun sent a message without a terminal");
    cleanup_fd int fd = fds[0];
    struct termios t;
    if (tcgetattr(fd, &t) < 0)
        return err_set(err, EINVAL, "what crun sent is no terminal");
    int r = fd_set_nonblock(fd, true);
    if (r < 0)
        return err_errno(err, -r, "cannot prepare the terminal");
    return TAKE_FD(fd);
}

int tty_keep_newlines(int fd, struct err *err) {
    struct termios t;
    if (tcgetattr(fd, &t) < 0)
        return err_errno(err, errno, "cannot read the terminal's mode");
    /* Where it is so, the program may be setting a mode of its own at this moment. */
    if (!(t.c_oflag & ONLCR))
        return 0;
    t.c_oflag &= ~(tcflag_t)ONLCR;
    return tcsetattr(fd, TCSANOW, &t) < 0 ? err_errno(err, errno, "cannot set the terminal's mode") : 0;
}

int tty_open_peer(int fd) {
    int peer = ioctl(fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    return peer < 0 ? -errno : peer;
}

int tty_resize(int fd, uint32_t width, uint32_t height, struct err *err) {
    if (width == 0 || height == 0)
        return 0;
    if (width > TTY_SIZE_MAX || height > TTY_SIZE_MAX)
        return err_set(err, EINVAL, "terminal size %ux%u is out of range", width, height);
    struct winsize ws = {.ws_col = (unsigned short)width, .ws_row = (unsigned short)height};
    if (ioctl(fd, TIOCSWINSZ, &ws) < 0)
        return err_errno(err, errno, "cannot resize the terminal");
    return 0;
}
