/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves bytes from one fd to another, driven by the event loop, with one bounded buffer.
 *
 * The fds may be shared with other programs (a terminal, a shell's pipe), so their flags are left alone: reads follow
 * only a poll, and a write is at most PIPE_BUF bytes after a poll, which does not block.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "base/err.h"
#include "base/util.h"

#define PUMP_BUFFER ((size_t)64 << 10)
#define PUMP_ROOM 64 /* bytes that a filter may add to what was read */

struct pump;

struct pump_ops {
    /* Sees what was read before it is passed on and may change it: take bytes away to put them back later, up to
     * PUMP_ROOM more than came. It may stop the pump by returning true (the bytes are dropped then). May be NULL. */
    bool (*filter)(char *buf, size_t *len, void *userdata);
    /* The source is at its end and everything is written, or one side failed, or the filter stopped it. Once, from the
     * loop; the fds are still open. May be NULL. */
    void (*done)(struct pump *p, void *userdata);
};

/* The fds stay the caller's and must outlive the pump. */
int pump_new(sd_event *event, int from, int to, const struct pump_ops *ops, void *userdata, struct pump **ret,
             struct err *err);

/* Accepts NULL; returns NULL. */
struct pump *pump_free(struct pump *p);

const bool *pump_done(const struct pump *p);

/* Reading was refused because this process is in the background of its terminal: the pump waits for this call, which
 * belongs to SIGCONT. */
void pump_retry(struct pump *p);
