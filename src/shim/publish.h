/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The events of this daemon's tasks, published to containerd: strictly in order, one at a time, again and again while
 * containerd is away.
 *
 * Theory of operation. Events wait in a bounded queue (event_queue.h) until containerd has taken the first of them. It
 * goes to containerd's ttrpc socket, over a connection that is made when it is needed, kept, and made anew after any
 * failure; where there is no such socket, or nothing behind it that takes events, containerd's program is run for each
 * event (publish_program.h). A failure leaves the event where it is and is followed by a pause that doubles. So an
 * event can reach containerd twice (when containerd ended between taking and answering it) but never out of order.
 *
 * All this happens in an event loop of the publisher's own, which the daemon's loop turns whenever something is due in
 * it: so publisher_flush() can go on with it when the daemon's loop is over, without starting anything anew.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/err.h"
#include "base/util.h"

#define PUBLISH_TIMEOUT_USEC (5 * USEC_PER_SEC)          /* for containerd's answer to one event */
#define PUBLISH_PROGRAM_TIMEOUT_USEC (10 * USEC_PER_SEC) /* for one run of its program */
#define PUBLISH_PAUSE_MIN_USEC (100 * USEC_PER_MSEC)     /* after the first failure; doubles with each */
#define PUBLISH_PAUSE_MAX_USEC (5 * USEC_PER_SEC)
/* An event that a containerd which is there refuses this often, for whatever reason, is dropped: the others must get
 * through. With the pauses that is about a minute. */
#define PUBLISH_REFUSALS_MAX 16

struct publisher;

/* All strings are copied; NULL is as good as "". */
struct publisher_spec {
    const char *ttrpc_address; /* TTRPC_ADDRESS: a socket's absolute path, with or without unix://; "" none */
    const char *grpc_address;  /* for the program */
    const char *namespace;
    const char *publish_binary; /* the program; "" none */
};

/* Connects to nothing yet. Errors: -EINVAL when the spec names neither a socket nor a program, or the address is no
 * absolute path that fits a socket's. */
int publisher_new(sd_event *event, const struct publisher_spec *spec, struct publisher **ret, struct err *err);

/* What is still queued is lost, and logged. Accepts NULL; returns NULL. */
struct publisher *publisher_free(struct publisher *p);
DEFINE_CLEANUP(struct publisher *, publisher_free);

/* Encodes the event with the current time and queues it. Never blocks, never fails: an event for which there is no room
 * is dropped, which is logged. topic and type_url are kept, not copied (string literals). p may be NULL: nothing
 * happens. */
void publisher_send(struct publisher *p, const char *topic, const char *type_url, const ProtobufCMessage *event);

/* True when containerd has taken all events; also of NULL. */
bool publisher_is_idle(const struct publisher *p);

/* Blocks until publisher_is_idle(), at most timeout_usec (-ETIMEDOUT). For a daemon about to end; works also when its
 * event loop is over. If containerd was away, it is tried again at once. */
int publisher_flush(struct publisher *p, uint64_t timeout_usec);
