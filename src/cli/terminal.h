/* SPDX-License-Identifier: Apache-2.0 */
/* Terminals of this host: the one this program was started on, and new ones handed out over a console socket. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <termios.h>

#include "base/err.h"

/* This process's terminal. */
struct terminal {
    int fd;   /* owned; -1: none */
    bool raw; /* `saved` is to be restored */
    struct termios saved;
};
#define TERMINAL_NONE                                                                                                  \
    (struct terminal) {                                                                                                \
        .fd = -1                                                                                                       \
    }

/* Finds it as runc does: stderr, stdout, stdin, then /dev/tty. -ENXIO when there is none. */
int terminal_open(struct terminal *t, struct err *err);

/* Raw mode: every key goes to the other side. Works from the background too. */
int terminal_set_raw(struct terminal *t, struct err *err);

/* Restores and closes. Accepts TERMINAL_NONE. */
void terminal_close(struct terminal *t);

/* Size in characters; 0 where it is unknown. */
void terminal_size(int fd, uint32_t *ret_width, uint32_t *ret_height);

/*
 * Makes a pty of the host, its slave raw (the guest's terminal has the line discipline; two would echo twice), sends
 * the master over the unix socket at `socket_path` as OCI runtimes do: one message, the terminal's name as data, the fd
 * beside it. The slave is returned, owned by the caller. A size of 0 is left to the receiver.
 */
int terminal_send_console(const char *socket_path, uint32_t width, uint32_t height, int *ret_slave, struct err *err);
