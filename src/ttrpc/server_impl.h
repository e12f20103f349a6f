/* SPDX-License-Identifier: Apache-2.0 */
/* Internal: the server object, shared by server.c (connections and requests) and listener.c (where they come from). */
#pragma once

#include "ttrpc/frame.h"
#include "ttrpc/outbox.h"
#include "ttrpc/server.h"

#define LISTEN_RETRY (100 * USEC_PER_MSEC) /* after accept() failed for want of fds or memory */

struct service {
    struct service *next;
    const struct ttrpc_service *desc;
    void *userdata;
};

struct listener {
    struct listener *next;
    struct ttrpc_server *server;
    int fd;
    sd_event_source *io, *timer;
};

struct ttrpc_server {
    unsigned refs;
    bool dead; /* ttrpc_server_free() was called */
    sd_event *event;
    struct service *services;
    struct listener *listeners;
    struct ttrpc_conn *conns;
    size_t n_conns;
    void (*session)(void *userdata);
    void *session_userdata;
    void (*disconnect)(void *userdata);
    void *disconnect_userdata;
    const char *const *hold; /* the methods that are served; NULL: all */
};

struct ttrpc_conn {
    unsigned refs;
    bool ended;
    bool is_channel;
    struct ttrpc_conn *next;
    struct ttrpc_server *server;
    struct transport *transport;
    struct outbox outbox;
    struct ttrpc_decoder decoder;
    uint32_t last_stream;
    struct ttrpc_request *requests; /* unanswered */
    size_t n_requests;
};

struct ttrpc_request {
    struct ttrpc_conn *conn; /* NULL: lost, or its session is over */
    struct ttrpc_request *prev, *next;
    uint32_t stream;
    uint64_t deadline;
    const ProtobufCMethodDescriptor *method;
    ProtobufCMessage *in;
    void (*cancel)(struct ttrpc_request *req, void *userdata);
    void *cancel_userdata;
    void (*abandoned)(struct ttrpc_request *req, enum ttrpc_abandoned why, void *userdata);
    void *abandoned_userdata;
    sd_event_source *late; /* the deadline, when `abandoned` is set */
    ttrpc_handler_fn held; /* waits for ttrpc_server_hold(NULL) */
    void *held_userdata;
};

void listener_free(struct listener *l);
