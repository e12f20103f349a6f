/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Part of the library that is preloaded into crun (criu_direct.c says which). `crun exec` makes a terminal, runs the
 * program on it and only then hands the terminal to the agent; what the agent sets then comes too late for what the
 * program has read or written. crun calls unlockpt() between opening the terminal and using it, so it is done there.
 */
#include "agent/tty_setup.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>

/* A terminal that cannot be set up is used as it is: the agent tries again. */
static void set_up(int fd, const char *how) {
    unsigned long value[3]; /* width, height, relayed */
    struct termios t;
    for (int i = 0; i < 3; i++) {
        char *end;
        value[i] = strtoul(how, &end, 10);
        if (end == how)
            return;
        how = end;
    }
    struct winsize ws = {.ws_col = (unsigned short)value[0], .ws_row = (unsigned short)value[1]};
    if (ws.ws_col && ws.ws_row)
        (void)ioctl(fd, TIOCSWINSZ, &ws);
    if (!value[2] || tcgetattr(fd, &t) < 0)
        return;
    t.c_oflag &= ~(tcflag_t)ONLCR;
    (void)tcsetattr(fd, TCSANOW, &t);
}

/* Stands in for the C library's. */
int unlockpt(int fd) {
    int unlock = 0;
    int r = ioctl(fd, TIOCSPTLCK, &unlock);
    const char *how = r < 0 ? NULL : getenv(TTY_SETUP);
    int saved = errno;
    if (how)
        set_up(fd, how);
    errno = saved;
    return r;
}
