/* SPDX-License-Identifier: Apache-2.0 */
/* A pseudoterminal of the container's own: size, settings, data in flight, a session with it as controlling terminal.
 */
#include "workload.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>

static int master;
static pid_t child;

/* Answers each line with its terminal's foreground group and size. */
__attribute__((noreturn)) static void session(const char *slave) {
    int fd;
    char line[64];
    must(setsid() > 0);
    must((fd = open(slave, O_RDWR)) >= 0 && !ioctl(fd, TIOCSCTTY, 0));
    must(write(fd, "ready\n", 6) == 6);
    for (;;) {
        ssize_t n = read(fd, line, sizeof(line));
        if (n <= 0)
            _exit(0);
        must(tcgetpgrp(fd) == getpid() && tcgetsid(fd) == getpid());
        must(write(fd, line, (size_t)n) == n);
    }
}

void set_up(void) {
    struct termios t;
    must((master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) >= 0 && !grantpt(master) && !unlockpt(master));
    must(!tcgetattr(master, &t));
    t.c_lflag &= ~(tcflag_t)ECHO;
    t.c_oflag &= ~(tcflag_t)OPOST;
    t.c_cc[VINTR] = 'X';
    must(!tcsetattr(master, TCSANOW, &t));
    must(!ioctl(master, TIOCSWINSZ, &(struct winsize){.ws_row = 33, .ws_col = 111}));
    char slave[64];
    must(!ptsname_r(master, slave, sizeof(slave)));
    must((child = fork_bound()) >= 0);
    if (child == 0)
        session(slave);
    must(reads(master, "ready\n", 6));
}

void check(void) {
    struct termios t;
    struct winsize size;
    must(!tcgetattr(master, &t) && !(t.c_lflag & ECHO) && t.c_lflag & ICANON && t.c_cc[VINTR] == 'X');
    must(!(t.c_oflag & OPOST));
    must(!ioctl(master, TIOCGWINSZ, &size) && size.ws_row == 33 && size.ws_col == 111);
    must(write(master, "over there\n", 11) == 11 && readable(master) && reads(master, "over there\n", 11));
}
