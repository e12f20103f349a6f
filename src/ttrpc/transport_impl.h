/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Internal to src/ttrpc: what the plain transport and the channel have in common.
 *
 * Whoever calls out (an operation of transport_ops) from the event loop holds a reference and asks transport_alive()
 * afterwards: the callback may have freed the object.
 */
#pragma once

#include "ttrpc/outq.h"
#include "ttrpc/transport.h"

#define TRANSPORT_READ_SIZE ((size_t)64 << 10)
#define TRANSPORT_READS_MAX 16 /* per turn of the loop, so that one busy peer does not starve the others */

struct transport_kind {
    /* The fd is readable, or hung up. */
    void (*input)(struct transport *t, uint32_t revents);
    /* Queues; the common part then writes what it can. fds and n as in transport_send_fds. */
    int (*send)(struct transport *t, const void *buf, size_t len, const int *fds, size_t n, struct err *err);
    /* From the loop: a write failed. */
    void (*write_failed)(struct transport *t, const struct err *err);
    /* From the loop: the user gave up on the peer (a negative return from data(), transport_abort). */
    void (*rejected)(struct transport *t, const struct err *err);
    /* Frees what the kind itself holds; then the memory is freed. May be NULL. */
    void (*destroy)(struct transport *t);
};

struct transport {
    const struct transport_kind *kind;
    const struct transport_ops *ops;
    void *userdata;
    unsigned refs;
    sd_event *event;
    sd_event_source *io, *defer;
    int fd;
    bool is_socket;
    bool dead;     /* transport_free() was called */
    bool closed;   /* closed() was called */
    bool ready;    /* sending is possible */
    bool announce; /* ready() is due from the loop */
    bool full;     /* the queue was above half of TRANSPORT_SEND_MAX, or refused: drained() is due below half */
    enum { FAILURE_NONE, FAILURE_WRITE, FAILURE_REJECTED } failure_kind;
    struct err failure; /* found within a call, to be handled from the loop */
    uint32_t events;    /* wanted always; EPOLLOUT is added while something is queued */
    uint32_t events_set;
    struct outq queue;
    int fds[TRANSPORT_FDS_MAX]; /* received */
    size_t n_fds;
    bool fds_lost; /* some came when this process had no descriptors left */
};

/* Initialises the common part of a zeroed object with one reference. Takes fd, also on failure; then
 * transport_unref() still frees the object. */
int transport_init(struct transport *t, const struct transport_kind *kind, sd_event *event, int fd,
                   const struct transport_ops *ops, void *userdata, struct err *err);
void transport_ref(struct transport *t);
void transport_unref(struct transport *t);

static inline bool transport_alive(const struct transport *t) {
    return !t->dead && !t->closed;
}

/* From the loop only: the end, with closed(). err->code 0: the peer's. */
void transport_close(struct transport *t, const struct err *err);

/* As a negative return from data(), but allowed anywhere: takes effect from the loop. */
void transport_abort(struct transport *t, const struct err *err);

/* Writes what the fd takes. A failure is kept and handled from the loop. */
void transport_write(struct transport *t);

/* Registers t->events (and EPOLLOUT) with the loop. */
void transport_update_events(struct transport *t);

/* -ENOBUFS if len more bytes would be too many. */
int transport_check_room(struct transport *t, size_t len, struct err *err);
