/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's FIFOs, used so that a peer who is not there never blocks the daemon.
 *
 * Of an output FIFO only a write end is held. So a reader who opens it gets end of file when the stream ends, and while
 * nobody has it open a write fails with EPIPE instead of filling a buffer that is lost with the last descriptor.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "base/err.h"

/* Opens path, which must be a FIFO and no symbolic link, for reading (input) or for writing. Returns an fd that does
 * not block, or -errno: -EINVAL when it is something else. */
int fifo_open(const char *path, bool input, struct err *err);

/* A new read end of the FIFO of fd, for which no writer has left yet. Returns the fd or -errno. */
int fifo_reopen_input(int fd);

/* Of a write end: does anybody have it open for reading? */
bool fifo_has_reader(int fd);

/* Bytes in it that nobody has read. */
size_t fifo_pending(int fd);

struct fifo_watch;

/* opened() is called from the loop whenever somebody may have opened the FIFO of fd, a write end that must stay open
 * meanwhile. A reader that came before is not reported: look with fifo_has_reader() afterwards. */
int fifo_watch_new(sd_event *event, int fd, void (*opened)(void *userdata), void *userdata, struct fifo_watch **ret,
                   struct err *err);

/* Accepts NULL; returns NULL. */
struct fifo_watch *fifo_watch_free(struct fifo_watch *w);
