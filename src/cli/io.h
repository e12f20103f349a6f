/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the stdio of a new process goes.
 *
 * Theory of operation. The daemon gets fds and moves the bytes itself; so without a terminal it simply gets ours. Two
 * things it cannot do for us, because they need a process in the terminal's session: read from a terminal, and hold it
 * in raw mode. So
 *
 *   foreground, terminal       our terminal is raw; a socket pair stands for it, we relay
 *   the same, none of ours     our fds as they are (only for who attaches)
 *   foreground, stdin is a tty a pipe stands for stdin, we relay
 *   detached, terminal         a new pty; its master went to --console-socket, the daemon gets the slave
 *   detached                   our fds as they are; a terminal as stdin becomes no stdin
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/util.h"
#include "cli/task.h"
#include "cli/terminal.h"

struct io_request {
    bool terminal, detach;
    const char *console_socket; /* NULL: none */
    uint32_t width, height;     /* of a new pty as the spec says (consoleSize); 0: unknown */
    bool no_stdin;              /* the process gets none, or no more than it has */
    bool optional_terminal;     /* foreground: without a terminal of ours the process's is relayed as it is */
};

struct io {
    struct task_stdio pass; /* what the daemon is told and given */
    int fds[3];             /* behind pass.fds; owned where own_fds says so */
    bool own_fds[3];
    struct terminal terminal; /* ours, in raw mode, when it is relayed */
    int to_process;           /* relay: what we read from fd 0 goes here; owned; -1: no relay */
    int from_process;         /* relay: what comes from here goes to fd 1; owned; -1: no relay */
    int slave;                /* of the new pty, for the monitor; owned; -1: none */
};
#define IO_NONE                                                                                                        \
    (struct io) {                                                                                                      \
        .terminal = TERMINAL_NONE, .to_process = -1, .from_process = -1, .slave = -1                                   \
    }

/* Refuses combinations that make no sense, with runc's words; before anything is made. */
int io_check(const struct io_request *req, struct err *err);

/* Sets *io up; it must not move afterwards. The terminal is not raw yet (attach.h does it). */
int io_prepare(const struct io_request *req, struct io *io, struct err *err);

/* Closes what the daemon has its own copy of by now. */
void io_passed(struct io *io);

/* Closes all and restores the terminal. Accepts IO_NONE. */
void io_close(struct io *io);
#define cleanup_io CLEANUP(io_close)
