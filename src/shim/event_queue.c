/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/event_queue.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

static const struct {
    const char *topic;
    enum event_rank rank;
} ranks[] = {
    {"/tasks/exit", EVENT_RANK_END},          {"/tasks/delete", EVENT_RANK_END},
    {"/tasks/exec-added", EVENT_RANK_DETAIL}, {"/tasks/exec-started", EVENT_RANK_DETAIL},
    {"/tasks/paused", EVENT_RANK_DETAIL},     {"/tasks/resumed", EVENT_RANK_DETAIL},
    {"/tasks/oom", EVENT_RANK_GUEST},
};

static enum event_rank rank_of(const char *topic) {
    for (size_t i = 0; i < ARRAY_SIZE(ranks); i++)
        if (strcmp(ranks[i].topic, topic) == 0)
            return ranks[i].rank;
    return EVENT_RANK_NORMAL;
}

struct event *event_new(const char *topic, const char *type_url, const ProtobufCMessage *msg, uint64_t wall_usec) {
    size_t len = protobuf_c_message_get_packed_size(msg);
    struct event *e = malloc(sizeof(*e) + len);
    if (!e)
        return NULL;
    *e = (struct event){
        .topic = topic, .type_url = type_url, .rank = rank_of(topic), .wall_usec = wall_usec, .len = len};
    protobuf_c_message_pack(msg, e->value);
    return e;
}

static size_t cost(const struct event *e) {
    return sizeof(*e) + e->len;
}

static void unlink_after(struct event_queue *q, struct event *before) {
    struct event **link = before ? &before->next : &q->first;
    struct event *e = *link;
    *link = e->next;
    if (q->last == e)
        q->last = before;
    q->n--;
    q->bytes -= cost(e);
    free(e);
}

/* Drops the oldest event of the lowest rank, if that is below `rank`. */
static bool make_room(struct event_queue *q, enum event_rank rank) {
    struct event *before = NULL;
    for (struct event *e = q->first; e && e->next; e = e->next)
        if (e->next->rank < rank) {
            rank = e->next->rank;
            before = e;
        }
    if (before)
        unlink_after(q, before);
    return before;
}

size_t event_queue_push(struct event_queue *q, struct event *e) {
    size_t lost = 0;
    bool fits = cost(e) <= EVENT_QUEUE_BYTES_MAX;
    while (fits && (q->n >= EVENT_QUEUE_MAX || q->bytes + cost(e) > EVENT_QUEUE_BYTES_MAX)) {
        fits = make_room(q, e->rank);
        lost += fits;
    }
    if (!fits) {
        free(e);
        return lost + 1;
    }
    if (q->last)
        q->last->next = e;
    else
        q->first = e;
    q->last = e;
    q->n++;
    q->bytes += cost(e);
    return lost;
}

void event_queue_pop(struct event_queue *q) {
    unlink_after(q, NULL);
}

void event_queue_clear(struct event_queue *q) {
    while (q->first)
        event_queue_pop(q);
}
