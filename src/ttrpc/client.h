/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ttrpc client: calls over one transport, answered in any order.
 *
 * Every call has a deadline. When the transport closes or a channel begins a new session, all pending calls fail at
 * once. A response to a call never made, made twice, or of the wrong type is a protocol error that closes the client
 * (threats.md 11).
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/err.h"
#include "base/util.h"
#include "ttrpc/transport.h"

#define TTRPC_PENDING_MAX 4096 /* calls under way at once */
#define TTRPC_NO_DEADLINE 0

struct ttrpc_client;
struct ttrpc_call;

struct ttrpc_client_ops {
    void (*ready)(struct ttrpc_client *c, void *userdata); /* may be NULL */
    void (*closed)(struct ttrpc_client *c, const struct err *err,
                   void *userdata); /* may be NULL; after all calls failed */
};

/* Called exactly once for each call that was started and not cancelled. On success err is NULL and reply is the decoded
 * message (freed after the callback unless *reply is taken by setting it to NULL); otherwise reply is NULL. The
 * callback may start other calls and may free the client. */
typedef void (*ttrpc_reply_fn)(void *userdata, ProtobufCMessage **reply, const struct err *err);

/* Over a plain socket (takes fd), or over the agent's channel (takes fd). Errors as the transport's. */
int ttrpc_client_new_plain(sd_event *event, int fd, const struct ttrpc_client_ops *ops, void *userdata,
                           struct ttrpc_client **ret, struct err *err);
int ttrpc_client_new_channel(sd_event *event, int fd, uint64_t sync_timeout_usec, const struct ttrpc_client_ops *ops,
                             void *userdata, struct ttrpc_client **ret, struct err *err);

/* Pending calls fail with ECANCELED (their callbacks run from within). Accepts NULL; returns NULL. */
struct ttrpc_client *ttrpc_client_free(struct ttrpc_client *c);
DEFINE_CLEANUP(struct ttrpc_client *, ttrpc_client_free);

bool ttrpc_client_is_ready(const struct ttrpc_client *c);

/* The transport is over, from before the calls fail of that. */
bool ttrpc_client_is_closed(const struct ttrpc_client *c);

/*
 * Starts a call. `method` is from the service's descriptor (protobuf-c generated), found by name; the request is
 * encoded before the function returns. timeout_usec: TTRPC_NO_DEADLINE waits for ever (only for Wait and long-polling
 * reads); on expiry the callback gets ETIMEDOUT with service and method in the message. ret_call may be NULL. Errors:
 * -ENOTCONN, -ENOBUFS, -EMSGSIZE; then the callback is not called.
 */
int ttrpc_client_call(struct ttrpc_client *c, const ProtobufCServiceDescriptor *service, const char *method,
                      const ProtobufCMessage *request, uint64_t timeout_usec, ttrpc_reply_fn fn, void *userdata,
                      struct ttrpc_call **ret_call, struct err *err);

/* The same with fds beside the request (plain transports only); the fds stay the caller's. */
int ttrpc_client_call_fds(struct ttrpc_client *c, const ProtobufCServiceDescriptor *service, const char *method,
                          const ProtobufCMessage *request, const int *fds, size_t n_fds, uint64_t timeout_usec,
                          ttrpc_reply_fn fn, void *userdata, struct ttrpc_call **ret_call, struct err *err);

/* Forgets a call: its callback will not run, a late response is dropped. Accepts NULL. */
void ttrpc_call_cancel(struct ttrpc_call *call);

/* Runs the event loop until the answer is there. *ret is freed by the caller with protobuf_c_message_free_unpacked();
 * ret may be NULL. For programs whose whole business is this call; never in the daemon or the agent. */
int ttrpc_client_call_sync(struct ttrpc_client *c, const ProtobufCServiceDescriptor *service, const char *method,
                           const ProtobufCMessage *request, const int *fds, size_t n_fds, uint64_t timeout_usec,
                           ProtobufCMessage **ret, struct err *err);
