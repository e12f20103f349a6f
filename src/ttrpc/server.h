/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ttrpc server: services over any number of connections; a handler may answer later.
 *
 * A handler gets a request object it owns until it calls ttrpc_reply() or ttrpc_fail(), once. When the connection goes
 * away first, the answer is dropped silently, and the handler is told through the request's cancel callback if it set
 * one. A slow handler delays no other request.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/err.h"
#include "base/util.h"
#include "ttrpc/transport.h"

#define TTRPC_SERVER_CONNS_MAX 256
#define TTRPC_SERVER_REQUESTS_MAX 1024 /* unanswered, per connection; one more is answered with RESOURCE_EXHAUSTED */

struct ttrpc_server;
struct ttrpc_conn;
struct ttrpc_request;

/* `in` is decoded from the request and valid until the request is answered. */
typedef void (*ttrpc_handler_fn)(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata);

struct ttrpc_handler {
    const char *method;
    ttrpc_handler_fn fn;
};

struct ttrpc_service {
    const ProtobufCServiceDescriptor *desc; /* protobuf-c generated; gives the message types of each method */
    const char *name;                       /* as on the wire; NULL: desc->name. Lets one table serve Task v2 and v3 */
    const struct ttrpc_handler *handlers;   /* ends with a NULL method; a method without entry is UNIMPLEMENTED */
};

int ttrpc_server_new(sd_event *event, struct ttrpc_server **ret, struct err *err);
struct ttrpc_server *ttrpc_server_free(struct ttrpc_server *s); /* closes all; accepts NULL; returns NULL */
DEFINE_CLEANUP(struct ttrpc_server *, ttrpc_server_free);

/* `service` must outlive the server. */
int ttrpc_server_add(struct ttrpc_server *s, const struct ttrpc_service *service, void *userdata, struct err *err);

/* Accepts on a listening unix socket (takes fd). Peers of another uid than 0 or our own are refused. */
int ttrpc_server_listen(struct ttrpc_server *s, int fd, struct err *err);

/* Serves one connected socket (takes fd), or the agent's end of the channel (takes fd). */
int ttrpc_server_add_plain(struct ttrpc_server *s, int fd, struct err *err);
int ttrpc_server_add_channel(struct ttrpc_server *s, int fd, struct err *err);

/* Called when a channel (again) came in step: whatever an earlier session asked for is void. May be NULL. */
void ttrpc_server_on_session(struct ttrpc_server *s, void (*fn)(void *userdata), void *userdata);
/* Called when a connection ends (a channel: never while the device is there). May be NULL. */
void ttrpc_server_on_disconnect(struct ttrpc_server *s, void (*fn)(void *userdata), void *userdata);

/* From now on only requests for these methods (NULL-terminated, must stay) reach their handlers; the others wait. NULL
 * lets those go on, in the order in which each connection sent them; one whose deadline has passed fails with ETIMEDOUT
 * instead. A connection that ends, or a new session, takes what waits with it. */
void ttrpc_server_hold(struct ttrpc_server *s, const char *const *methods);

/* Number of open connections. */
size_t ttrpc_server_connections(const struct ttrpc_server *s);

/* Waits until everything queued is written on all connections, at most timeout_usec. For a process about to end. */
int ttrpc_server_flush(struct ttrpc_server *s, uint64_t timeout_usec);

/* Each answers and frees the request. `out` is of the method's output type; NULL: an empty message. The status code
 * comes from err->code (status.h). */
void ttrpc_reply(struct ttrpc_request *req, const ProtobufCMessage *out);
void ttrpc_fail(struct ttrpc_request *req, const struct err *err);

/* The request's deadline as the client gave it, on the monotonic clock in µs; 0: none. */
uint64_t ttrpc_request_deadline(const struct ttrpc_request *req);

/* The oldest fd that came beside this connection's requests and was not taken yet, or -ENOENT, or -EMFILE when some
 * were lost for want of descriptors. The caller owns it. */
int ttrpc_request_take_fd(struct ttrpc_request *req);

/* Why an answer is wanted no more. */
enum ttrpc_abandoned {
    TTRPC_ABANDONED_LOST,      /* the connection ended */
    TTRPC_ABANDONED_LATE,      /* the deadline that the client gave has passed */
    TTRPC_ABANDONED_CANCELLED, /* ttrpc_request_cancel_others() */
};
const char *ttrpc_abandoned_text(enum ttrpc_abandoned why);

/* fn runs, once, when nobody wants the answer any more, so that what the request began can be given up; the request
 * must still be answered or failed (which frees it), in fn or later. */
int ttrpc_request_on_abandoned(struct ttrpc_request *req,
                               void (*fn)(struct ttrpc_request *req, enum ttrpc_abandoned why, void *userdata),
                               void *userdata, struct err *err);

/* Abandons all other requests of the same connection that have asked for that. */
void ttrpc_request_cancel_others(struct ttrpc_request *req);

/* fn runs when the connection is lost before the answer; the request must still be answered or failed (which frees it).
 */
void ttrpc_request_on_cancel(struct ttrpc_request *req, void (*fn)(struct ttrpc_request *req, void *userdata),
                             void *userdata);
