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
#include "sandbox/sandbox.h"

struct capture_spec {
    const char *store; /* directory; absolute; made if need be */
    const char *name;
    bool stop;  /* end the sandbox */
    bool force; /* although deleted files are open */
    bool is_template;
};

struct capture_outcome {
    uint64_t stopped_usec; /* how long the containers stood still */
    uint64_t memory_bytes, device_bytes, root_bytes;
    struct strv warnings; /* borrowed */
};

/* outcome is NULL when err is not. Called once, from the loop. */
typedef void (*capture_done_fn)(void *userdata, const struct capture_outcome *outcome, const struct err *err);

/* Of a sandbox whose agent is there. -EBUSY when one is under way or a container is in the middle of an operation;
 * -EEXIST when the name is taken. */
int capture_start(struct sandbox *sb, const struct capture_spec *spec, capture_done_fn done, void *userdata,
                  struct err *err);

/* The sandbox is gone: done is called with `why`. No harm when there is none. */
void capture_cancel(struct sandbox *sb, const struct err *why);
