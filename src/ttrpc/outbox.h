/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Internal: whole frames on their way to a transport, in order. The transport's own queue takes two of the largest
 * frames; when several large ones are due at once, they wait here instead of failing.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "ttrpc/transport.h"

#define OUTBOX_MAX ((size_t)32 << 20)    /* bytes waiting, besides the transport's queue */
#define OUTBOX_RESERVE ((size_t)1 << 20) /* more of them for frames of at most OUTBOX_SMALL: they say what failed */
#define OUTBOX_SMALL ((size_t)8 << 10)

struct outbox_item;

struct outbox {
    struct transport *transport; /* not owned */
    struct outbox_item *first, **end;
    size_t len;
};

void outbox_init(struct outbox *o, struct transport *t);

/* Sends or keeps a frame. Takes `frame` (malloc'd), also on failure. Frames with fds are never kept. Errors: -ENOBUFS,
 * -ENOMEM, -ENOTCONN. */
int outbox_send(struct outbox *o, uint8_t *frame, size_t len, const int *fds, size_t n_fds, struct err *err);

/* Hands to the transport what it takes now: for its drained(). */
void outbox_push(struct outbox *o);

/* Waits until all of it is written, at most timeout_usec. Returns as transport_flush. */
int outbox_flush(struct outbox *o, uint64_t timeout_usec);

void outbox_clear(struct outbox *o);
