/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/terminal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"

int terminal_open(struct terminal *t, struct err *err) {
    static const int std[] = {STDERR_FILENO, STDOUT_FILENO, STDIN_FILENO};
    t->raw = false;
    for (size_t i = 0; i < ARRAY_SIZE(std); i++)
        if (isatty(std[i])) {
            t->fd = fcntl(std[i], F_DUPFD_CLOEXEC, 3);
            return t->fd < 0 ? err_errno(err, errno, "cannot use the terminal") : 0;
        }
    t->fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    return t->fd < 0 ? err_errno(err, errno,
                                 "a terminal is asked for (process.terminal, --tty), but this process has none: open "
                                 "/dev/tty")
                     : 0;
}

int terminal_set_raw(struct terminal *t, struct err *err) {
    if (tcgetattr(t->fd, &t->saved) < 0)
        return err_errno(err, errno, "cannot read the terminal's mode");
    struct termios raw = t->saved;
    cfmakeraw(&raw);
    /* Newlines come as the program wrote them (ONLCR is off at the other end), and this terminal makes CR LF of them.*/
    raw.c_oflag = t->saved.c_oflag | OPOST;
    if (tcsetattr(t->fd, TCSANOW, &raw) < 0)
        return err_errno(err, errno, "cannot set the terminal to raw mode");
    t->raw = true;
    return 0;
}

void terminal_close(struct terminal *t) {
    /* What the other side wrote last is to be shown as it was meant: output first, then the mode. */
    if (t->raw)
        (void)tcsetattr(t->fd, TCSADRAIN, &t->saved);
    t->raw = false;
    t->fd = fd_close(t->fd);
}

void terminal_size(int fd, uint32_t *ret_width, uint32_t *ret_height) {
    struct winsize ws;
    *ret_width = *ret_height = 0;
    if (ioctl(fd, TIOCGWINSZ, &ws) == 0) {
        *ret_width = ws.ws_col;
        *ret_height = ws.ws_row;
    }
}

/* Connects by way of the directory's fd, so that the path may be longer than sun_path. */
static int connect_console(const char *path, struct err *err) {
    const char *slash = strrchr(path, '/');
    cleanup_free char *dir_path = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    const char *name = slash ? slash + 1 : path;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    cleanup_fd int dir = dir_path ? open(dir_path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (dir < 0)
        return err_errno(err, errno, "--console-socket %s", path);
    if (snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/%s", dir, name) >= (int)sizeof(addr.sun_path))
        return err_set(err, ENAMETOOLONG, "--console-socket %s: the socket's name is too long", path);
    cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        return err_errno(err, errno, "--console-socket %s: cannot connect", path);
    return TAKE_FD(fd);
}

static int open_pty(uint32_t width, uint32_t height, int *ret_master, int *ret_slave, char *name, size_t size,
                    struct err *err) {
    cleanup_fd int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
        return err_errno(err, errno, "cannot make a pseudoterminal");
    int e = ptsname_r(master, name, size);
    if (e != 0)
        return err_errno(err, e, "cannot make a pseudoterminal");
    cleanup_fd int slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct termios tio;
    if (slave < 0 || tcgetattr(slave, &tio) < 0)
        return err_errno(err, errno, "cannot open %s", name);
    cfmakeraw(&tio);
    if (tcsetattr(slave, TCSANOW, &tio) < 0)
        return err_errno(err, errno, "cannot set %s to raw mode", name);
    struct winsize ws = {.ws_col = (unsigned short)width, .ws_row = (unsigned short)height};
    if (width && height && ioctl(master, TIOCSWINSZ, &ws) < 0)
        return err_errno(err, errno, "cannot set the size of %s", name);
    *ret_master = TAKE_FD(master);
    *ret_slave = TAKE_FD(slave);
    return 0;
}

int terminal_send_console(const char *socket_path, uint32_t width, uint32_t height, int *ret_slave, struct err *err) {
    cleanup_fd int sock = connect_console(socket_path, err);
    if (sock < 0)
        return sock;
    cleanup_fd int master = -1, slave = -1;
    char name[64];
    int r = open_pty(width, height, &master, &slave, name, sizeof(name), err);
    if (r < 0)
        return r;
    ssize_t n = fd_send(sock, name, strlen(name), &master, 1);
    if (n < 0)
        return err_errno(err, (int)-n, "--console-socket %s: cannot send the terminal", socket_path);
    *ret_slave = TAKE_FD(slave);
    return 0;
}
