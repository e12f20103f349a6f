/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving a whole sandbox: as a snapshot, or as the template of all later ones.
 *
 * Theory of operation. The agent makes the guest stand still (Freeze); QEMU stops the CPUs and writes the device state;
 * a worker copies the memory and the containers' roots; then the CPUs and the containers go on (or, to end the sandbox,
 * not). Only what must happen in between happens while it stands still: digests of what was copied are made on the way,
 * syncing and the rename to the final name come after. A failure at any point leaves the source running and nothing
 * behind; a sandbox is ended only when its snapshot is on the disk.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"
#include "proto/agent.pb-c.h"
#include "sandbox/sandbox.h"

#define CAPTURE_DELETED_MAX 64          /* deleted files that are named; the agent's own bound is the same */
#define CAPTURE_DELETED_PATH_MAX 4096   /* bytes of the path of one */
#define CAPTURE_DELETED_COMMAND_MAX 128 /* bytes of the command that has it open */

struct capture_spec {
    const char *store; /* directory; absolute; made if need be */
    const char *name;
    bool stop;    /* end the sandbox */
    bool force;   /* although deleted files are open */
    bool no_sync; /* do not wait for the disk: a host that crashes may leave a damaged one, which its digests show */
    bool is_template; /* somebody waits for a start: no longer than for a boot */
};

struct capture_outcome {
    uint64_t stopped_usec;               /* how long the containers stood still */
    uint64_t memory_bytes, shared_bytes; /* shared: of the memory, in the image that the sandbox is a copy of */
    uint64_t device_bytes, root_bytes;
    struct strv warnings; /* borrowed */
};

/* outcome is NULL when err is not. Called once, from the loop. */
typedef void (*capture_done_fn)(void *userdata, const struct capture_outcome *outcome, const struct err *err);

/* Of a sandbox whose agent is there. -EBUSY when one is under way or a container is in the middle of an operation;
 * -EEXIST when the name is taken; -EINVAL for stop with no_sync: what is ended has to be on the disk. */
int capture_start(struct sandbox *sb, const struct capture_spec *spec, capture_done_fn done, void *userdata,
                  struct err *err);

/* The caller wants it no more, for the reason `why`: it ends with that error, the containers go on, nothing stays.
 * `userdata` is that of the call; when it is over nothing happens. May call `done` at once. */
void capture_abandon(struct sandbox *sb, const void *userdata, const struct err *why);

/* Adds a warning for each deleted file that the agent names, and one that counts those above CAPTURE_DELETED_MAX. What
 * it says becomes one printable line. Returns 0 or -ENOMEM. */
int capture_warn_of_deleted(const Stasis__Agent__V1__FreezeResponse *r, struct strv *warnings);

/* The sandbox is gone: done is called with `why`. No harm when there is none. */
void capture_cancel(struct sandbox *sb, const struct err *why);
