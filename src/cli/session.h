/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to one sandbox's daemon, with a loop of its own.
 *
 * A call runs the loop until its answer is there, its deadline has passed, the daemon is gone, or `interrupt` holds a
 * signal (set by whoever watches signals on the same loop). When the daemon is gone, every error says so and carries
 * the last lines of its log.
 *
 * With session_cancel_on_signal() a first signal does not end the waiting: the daemon is asked to give the call up, and
 * its answer says what has come of it. A second one leaves that to the daemon, which sees the connection end.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/err.h"
#include "base/util.h"
#include "cli/sandbox_dir.h"
#include "ttrpc/client.h"

struct session {
    sd_event *event;
    struct ttrpc_client *client;
    const struct sandbox_dir *dir; /* borrowed */
    uint64_t timeout;              /* µs, of calls that name none */
    bool closed;                   /* the daemon is gone */
    int interrupt;                 /* signal that asks to stop waiting; 0: none */
    bool cancels;                  /* session_cancel_on_signal() was called */
    int cancelled;                 /* signal for which the daemon was asked to give up; 0: none */
};

/* Zero-initialise *s first; it must not move while open. `dir` must outlive it. */
int session_open(struct session *s, const struct sandbox_dir *dir, uint64_t timeout, struct err *err);

/* The same over a connected socket (taken). */
int session_open_fd(struct session *s, const struct sandbox_dir *dir, int fd, uint64_t timeout, struct err *err);

void session_close(struct session *s); /* accepts a zeroed one */
#define cleanup_session CLEANUP(session_close)

/*
 * One call. timeout 0: the session's; SESSION_FOREVER: none. ret (may be NULL) is freed by the caller with
 * protobuf_c_message_free_unpacked(). Errors: the daemon's; -EINTR when interrupted; -ECONNRESET when it is gone.
 */
#define SESSION_FOREVER UINT64_MAX
int session_call(struct session *s, const ProtobufCServiceDescriptor *service, const char *method,
                 const ProtobufCMessage *request, const int *fds, size_t n_fds, uint64_t timeout,
                 ProtobufCMessage **ret, struct err *err);

/* From now on SIGHUP, SIGINT, SIGQUIT and SIGTERM, which have to be blocked (signals_block), cancel calls. A call that
 * was done before the daemon could give it up succeeds nevertheless; `cancelled` tells. */
int session_cancel_on_signal(struct session *s, struct err *err);

/* Runs the loop until *done, the deadline (µs from now; SESSION_FOREVER) or the loss of the daemon. Returns 0 when
 * *done, -ETIMEDOUT, or -ECONNRESET. */
int session_run_until(struct session *s, const bool *done, uint64_t timeout, struct err *err);

/* Sets the error that tells of the daemon's death. Returns -ECONNRESET. */
int session_daemon_died(const struct session *s, struct err *err);
