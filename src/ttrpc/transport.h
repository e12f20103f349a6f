/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A two-way byte stream under ttrpc, with bounded buffers.
 *
 * Theory of operation. Two kinds share one interface:
 *
 *  - plain: a connected unix stream socket (the daemon's api.sock). It can carry fds (SCM_RIGHTS) beside the bytes.
 *  - channel: the byte device between daemon and agent (a virtio-serial port, or vsock). Such a device never tells
 *    where a stream begins: the peer may have been restarted, restored from a snapshot or replayed, and bytes of an
 *    older stream may still be in flight. Therefore its bytes travel in packets
 *        magic u32 | type u8 | 0 u8 u8 u8 | length u32 | session u64 | payload | session u64
 *    (big-endian, payload at most CHANNEL_PAYLOAD_MAX). The host opens a session with a random number: it sends SYNC
 *    packets (version in the payload) until an ACK with its session comes, and enough of them that a guest waiting for
 *    the rest of an old packet gets past it. The guest answers the newest SYNC, drops all state of the session before
 *    it and takes only packets whose session, at both ends, is the current one. Out of step, the guest scans for the
 *    magic, but never through a payload, so that its content cannot open a session; the host looks for the ACK with its
 *    own number, which nothing sent before can contain. A guest that loses a session (a broken packet, or a negative
 *    return from data()) says so with a RESET, on which the host closes; the guest then waits for the next SYNC. In the
 *    guest the port outlives its hosts: while none is connected nothing is closed, and nothing spins.
 *
 * All callbacks come from the event loop, never from within a call to this interface. The object may be freed from
 * inside its own callbacks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/err.h"
#include "base/util.h"

#define CHANNEL_MAGIC UINT32_C(0x53545031) /* "STP1" */
#define CHANNEL_VERSION 1
#define CHANNEL_PAYLOAD_MAX ((size_t)64 << 10)
#define CHANNEL_DISCARD_MAX ((size_t)16 << 20) /* bytes the host skips while it waits for the ACK */
#define TRANSPORT_SEND_MAX                                                                                             \
    ((size_t)8 << 20)       /* queued and not yet written; beyond it transport_send fails with -ENOBUFS */
#define TRANSPORT_FDS_MAX 8 /* fds received and not yet taken */

struct transport;

enum channel_role { CHANNEL_HOST, CHANNEL_GUEST };

struct transport_ops {
    /* The stream is usable; for a channel: (again) in step, everything of an earlier session is void. A plain one is
     * ready from the start and this is called once from the loop. May be NULL. */
    void (*ready)(struct transport *t, void *userdata);
    /* Bytes came. A negative errno, with err set, closes the transport (channel guest: drops the session). */
    int (*data)(struct transport *t, const uint8_t *buf, size_t len, void *userdata, struct err *err);
    /* Queued bytes fell below half of TRANSPORT_SEND_MAX after having been above it. May be NULL. */
    void (*drained)(struct transport *t, void *userdata);
    /* The stream is over (err->code 0: the peer closed it). No callback follows; the object must still be freed. */
    void (*closed)(struct transport *t, const struct err *err, void *userdata);
};

/* Takes fd (also on failure). `ops` must outlive the object. */
int transport_new_plain(sd_event *event, int fd, const struct transport_ops *ops, void *userdata,
                        struct transport **ret, struct err *err);

/* Takes fd (also on failure). The host role begins to synchronise at once; closed() with ETIMEDOUT comes when the guest
 * has not answered after sync_timeout_usec (0: wait for ever, the caller has its own deadline). */
int transport_new_channel(sd_event *event, int fd, enum channel_role role, uint64_t sync_timeout_usec,
                          const struct transport_ops *ops, void *userdata, struct transport **ret, struct err *err);

/* Closes and frees; accepts NULL; returns NULL. Bytes still queued are lost (see transport_flush). */
struct transport *transport_free(struct transport *t);
DEFINE_CLEANUP(struct transport *, transport_free);

/* Queues a copy of len bytes. Errors: -ENOBUFS (see TRANSPORT_SEND_MAX), -ENOTCONN (closed, or a channel not in step).
 */
int transport_send(struct transport *t, const void *buf, size_t len, struct err *err);

/* As transport_send on a plain transport, with n fds beside the first byte; the fds stay the caller's (they are
 * duplicated). */
int transport_send_fds(struct transport *t, const void *buf, size_t len, const int *fds, size_t n, struct err *err);

/* The oldest fd that came in and was not taken yet, or -ENOENT, or -EMFILE when some were lost. The caller owns it. */
int transport_take_fd(struct transport *t);

/* Blocks until the queue is written or timeout_usec has passed (-ETIMEDOUT). For a process about to end. */
int transport_flush(struct transport *t, uint64_t timeout_usec);

bool transport_is_ready(const struct transport *t);
size_t transport_queued(const struct transport *t);

/* Credentials of a plain transport's peer. */
int transport_peer_uid(const struct transport *t, uid_t *ret);
