/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events that wait to be published, oldest first, within bounds.
 *
 * When there is no room, an event of lower rank makes it (the oldest of the lowest rank first); when there is none, the
 * new one is lost. So an exit is lost only when the queue holds nothing but exits and deletes. The first event stays in
 * any case: it may be on its way.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#define EVENT_QUEUE_MAX 2048                    /* events */
#define EVENT_QUEUE_BYTES_MAX ((size_t)4 << 20) /* of them together, with what each costs to hold */

enum event_rank {
    EVENT_RANK_GUEST,  /* oom: comes as often as the guest likes */
    EVENT_RANK_DETAIL, /* exec-added, exec-started, paused, resumed: what is missing shows in the task's state */
    EVENT_RANK_NORMAL,
    EVENT_RANK_END, /* exit, delete: whoever waits for one waits for ever without it */
};

struct event {
    struct event *next;
    const char *topic;
    const char *type_url;
    enum event_rank rank; /* from the topic */
    uint64_t wall_usec;   /* when it was made */
    size_t len;
    uint8_t value[]; /* the message, encoded */
};

struct event_queue {
    struct event *first, *last;
    size_t n, bytes;
};

/* Encodes msg. topic and type_url are not copied. NULL: out of memory. Freed with free(). */
struct event *event_new(const char *topic, const char *type_url, const ProtobufCMessage *msg, uint64_t wall_usec);

/* Takes e. Returns how many events were lost for it, or with it. */
size_t event_queue_push(struct event_queue *q, struct event *e);

/* Frees the first event. */
void event_queue_pop(struct event_queue *q);

void event_queue_clear(struct event_queue *q);
