/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of QEMU's machine protocol (QMP) on a connected stream socket.
 *
 * Theory of operation. The client waits for the greeting, negotiates (qmp_capabilities) and then sends the commands
 * that were queued meanwhile. Each command has an id, a deadline and a callback; replies are matched by id, and one
 * that comes after its deadline is ignored. QEMU may have been taken over by the guest, so what it sends is bounded:
 * the length of a line, input per turn of the loop, commands under way. Anything that is not QMP closes the
 * connection. When it is closed, every pending command fails, and then ops.closed() is called, once.
 *
 * All callbacks come from the event loop, never from within the call that caused them, but for qmp_free(). None may
 * call qmp_free().
 */
#pragma once

#include <jansson.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/err.h"

#define QMP_LINE_MAX ((size_t)1 << 20) /* bytes of one message */
#define QMP_PENDING_MAX 64             /* commands under way or queued */
#define QMP_CHUNK ((size_t)4096)       /* bytes read per turn of the loop, so that a flood leaves others their turn */
#define QMP_HANDSHAKE_USEC UINT64_C(30000000)

struct qmp;

struct qmp_ops {
    /* The handshake is done. May be NULL. */
    void (*ready)(void *userdata);
    /* An event: MIGRATION, GUEST_PANICKED, SHUTDOWN, … data is borrowed and NULL if there was none. May be NULL. */
    void (*event)(void *userdata, const char *name, const json_t *data);
    /* The connection is over: end of stream, a broken message, a handshake that did not come. */
    void (*closed)(void *userdata, const struct err *err);
};

/* Called exactly once for each command. ret is what "return" held (borrowed), NULL on failure; err is NULL on success.
 * Failures: QEMU's own error (-EREMOTEIO, "command: description"), -ETIMEDOUT, -ENOTCONN, -ECANCELED (qmp_free). */
typedef void (*qmp_reply_fn)(void *userdata, const json_t *ret, const struct err *err);

/* Takes over fd, also on failure. `name` stands for the peer in messages and is copied. */
int qmp_new(sd_event *event, int fd, const char *name, const struct qmp_ops *ops, void *userdata, struct qmp **ret,
            struct err *err);

/* Pending commands fail with -ECANCELED; closed() is not called. Accepts NULL; returns NULL. */
struct qmp *qmp_free(struct qmp *q);

/* Sends a command. args is taken over, also on failure, and may be NULL; timeout_usec counts from now. fn may be NULL.
 * Errors: -ENOTCONN when closed, -EBUSY when QMP_PENDING_MAX are under way, -EMSGSIZE, -ENOMEM. fn is then not called.
 */
int qmp_command(struct qmp *q, const char *command, json_t *args, uint64_t timeout_usec, qmp_reply_fn fn,
                void *userdata, struct err *err);

/* The same, and hands QEMU a file descriptor beside the command (getfd, add-fd). fd stays the caller's. */
int qmp_command_fd(struct qmp *q, const char *command, json_t *args, int fd, uint64_t timeout_usec, qmp_reply_fn fn,
                   void *userdata, struct err *err);
