/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines from a stream that another party writes at will: the guest's serial port, the error output of QEMU and of
 * virtiofsd.
 *
 * Theory of operation. The stream is read in gulps, with a pause after each, so that a flood costs a bounded number of
 * wake-ups; when the writer is faster its socket fills and it waits. Every byte is made printable ASCII (escape
 * sequences are removed), lines are cut at CONSOLE_LINE_MAX. Above CONSOLE_LINES_PER_SEC lines are counted instead of
 * delivered, and the count is delivered as a line. The last CONSOLE_TAIL_LINES are kept for error messages.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/err.h"

#define CONSOLE_LINE_MAX 1024 /* bytes without NUL */
#define CONSOLE_TAIL_LINES 20
#define CONSOLE_LINES_PER_SEC 200
#define CONSOLE_LINES_BURST 2000
#define CONSOLE_GULP ((size_t)16 << 10)       /* bytes per wake-up */
#define CONSOLE_PAUSE_USEC UINT64_C(20000)    /* between wake-ups */
#define CONSOLE_DRAIN_MAX ((size_t)256 << 10) /* bytes console_drain() takes at most */

struct console;

/* A line without newline. May not free the console. */
typedef void (*console_line_fn)(void *userdata, const char *line);

/* Takes over fd, which becomes non-blocking. fn may be NULL. */
int console_new(sd_event *event, int fd, console_line_fn fn, void *userdata, struct console **ret, struct err *err);

/* Accepts NULL; returns NULL. Undelivered input is lost. */
struct console *console_free(struct console *c);

/* Takes what is in the stream now, for when its writer has ended, and ends the last line. */
void console_drain(struct console *c);

/* The last lines, newline-separated, without a trailing newline; "" if there were none. Valid until the next call. */
const char *console_tail(struct console *c);

/* The last line alone. Valid until the next line comes. */
const char *console_last_line(const struct console *c);

/* When the first byte came (monotonic µs); 0: not yet. */
uint64_t console_first_usec(const struct console *c);

/* The parser alone, for tests and fuzzing: as if these bytes had been read. */
void console_feed(struct console *c, const char *bytes, size_t n);
