/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Terminals. crun makes a container's pty inside the container and hands the master over through a socket
 * (--console-socket). The socket's queue keeps it after crun has ended, so it is fetched then, without waiting.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

#define TTY_SIZE_MAX 65535 /* columns or rows */

/* Listens at path (a unix socket that does not exist yet). Returns the fd. */
int tty_listen(const char *path, struct err *err);

/* Takes the terminal that was sent to the listening socket. Returns a non-blocking fd; -EINVAL when none came or it is
 * no terminal. */
int tty_take(int listen_fd, struct err *err);

/* The process's end of a terminal, opened once more. Returns the fd or a negative errno. */
int tty_open_peer(int fd);

/* Sets the size, which tells the foreground process (SIGWINCH). A width or height of 0 leaves both as they are. */
/* The terminal (either end of it) no longer makes CR LF of a newline that a program writes: its output is relayed, and
 * the terminal it comes to does that, or is none. */
int tty_keep_newlines(int fd, struct err *err);

int tty_resize(int fd, uint32_t width, uint32_t height, struct err *err);
