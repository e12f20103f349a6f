/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of stasis.sandbox.v1 about snapshots, templates and attached streams, as the CLI makes them. Errors are the
 * daemon's; answers are freed by the caller with protobuf_c_message_free_unpacked(&ret->base, NULL). Timeouts as
 * session_call's. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/session.h"
#include "cli/task.h"
#include "proto/sandbox.pb-c.h"

struct snapshot_call {
    const char *store, *name;
    bool stop, force, no_sync;
};
int call_snapshot(struct session *s, const struct snapshot_call *c, uint64_t timeout,
                  Stasis__Sandbox__V1__SnapshotResponse **ret, struct err *err);

/* One container of the snapshot, in the manifest's order. */
struct restore_call_container {
    const char *id, *bundle;
    pid_t host_pid;
    const struct strv *mounts; /* what is mounted, in the order of the state's mounts */
};
struct restore_call {
    const char *store, *name;
    bool new_identity, force;
    const struct restore_call_container *containers;
    size_t n;
};
/* ret_usec: until the containers ran on. */
int call_restore_snapshot(struct session *s, const struct restore_call *c, uint64_t timeout, uint64_t *ret_usec,
                          struct err *err);

/* append: the outputs are log files. */
int call_attach(struct session *s, const char *id, const char *exec_id, const struct task_stdio *io, bool append,
                struct err *err);
int call_detach(struct session *s, const char *id, const char *exec_id, struct err *err);

int call_build_template(struct session *s, const char *store, bool rebuild, uint64_t timeout,
                        Stasis__Sandbox__V1__BuildTemplateResponse **ret, struct err *err);
