/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's side of a snapshot of the whole machine.
 *
 * Theory of operation. Freeze: from its beginning no other call is begun (ttrpc_server_hold: they wait, a signal too,
 * and go on after the thaw; Hello, Inspect, Thaw and Shutdown do not wait) and nothing under way is answered
 * (process_hold, oom_hold). The cgroup that all containers are in is frozen, with one write; one that was paused by
 * itself stays so when that is taken back. Then a child process syncs, looks for deleted files of the share, and drops
 * caches. It is a child because the host may take its time, or never answer. The state is SNAPSHOT_FROZEN when all of
 * it is done; whatever fails before takes everything back.
 *
 *   NONE → FREEZING → FROZEN → NONE       (failures: FREEZING → NONE, FROZEN → FROZEN)
 *
 * What does not belong to a container goes on: the agent, debug consoles and what they have started, the kernel. The
 * machine is stopped by the host anyway; what matters is that nothing changes the share behind the snapshot's back, and
 * a console's user is trusted with that.
 *
 * A new session ends none of these states but FREEZING: in a copy, the first session begins with a frozen guest, and
 * what the one before it asked for is void. Reads that wait have taken nothing from their pipes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/err.h"

#define SNAPSHOT_FREEZE_TIMEOUT_USEC (UINT64_C(60) * 1000000) /* when the caller names none, and at most */

struct agent;
struct deleted_list;
struct identity_name;
struct job;

enum snapshot_state { SNAPSHOT_NONE, SNAPSHOT_FREEZING, SNAPSHOT_FROZEN };

/* deleted is never NULL on success, and lives until the call returns. */
typedef void (*snapshot_frozen_fn)(void *userdata, const struct deleted_list *deleted, const struct err *err);
typedef void (*snapshot_thawed_fn)(void *userdata);

struct snapshot_work; /* what the child and we share */

struct snapshot {
    enum snapshot_state state;
    bool allow_deleted, for_template;
    int cgroup_fd; /* of the parent of all containers, while not NONE */
    sd_event_source *events, *timer;
    struct job *job;
    struct snapshot_work *work;
    struct deleted_list *deleted; /* while FROZEN: what was let pass; NULL: nothing */
    snapshot_frozen_fn frozen;
    void *userdata;
};

struct snapshot_freeze_request {
    bool allow_deleted, for_template;
    uint64_t timeout_usec;
};

struct snapshot_thaw_request {
    const void *entropy;
    size_t entropy_len; /* 0: this is no copy */
    uint64_t wall_usec; /* 0 leaves the clock */
    bool new_identity;
    const struct identity_name *names;
    size_t n_names;
    bool check_files; /* of the share that are in use: whether they are there (deleted.h) */
};

/* -EBUSY when it is frozen already, or something is under way that cannot be copied half-done. fn is called once,
 * unless the result is negative. */
int snapshot_freeze(struct agent *a, const struct snapshot_freeze_request *req, snapshot_frozen_fn fn, void *userdata,
                    struct err *err);

/* Of a guest that is being frozen, ends that (its caller gets ECANCELED). One that is not frozen is left as it is;
 * -EINVAL if it should become a copy; -EBUSY for files. On failure it stays frozen, and fn is not called; otherwise it
 * is, from within, before anything that waited for the thaw goes on. */
int snapshot_thaw(struct agent *a, const struct snapshot_thaw_request *req, snapshot_thawed_fn fn, void *userdata,
                  struct err *err);

/* A new session has begun. */
void snapshot_void(struct agent *a);
