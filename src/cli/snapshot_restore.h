/* SPDX-License-Identifier: Apache-2.0 */
/* One sandbox made of a snapshot: what `snapshot restore` and `snapshot clone` share. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/util.h"
#include "cli/cli.h"

enum restore_identity {
    /* The original's, if the copy has its id and the snapshot was made here; else a new one. */
    RESTORE_IDENTITY_AUTO,
    RESTORE_IDENTITY_KEEP,
    RESTORE_IDENTITY_NEW,
};

struct snapshot_restore {
    const char *name; /* of the snapshot */
    const char *id;   /* NULL: the original's */
    enum restore_identity identity;
    bool force;                /* although files that are in use are gone, or were replaced */
    bool replace;              /* what has the id is deleted first, running or not */
    const struct strv *mounts; /* snapshot_bundle.h */
    const char *pid_file;      /* NULL: none */
};

struct restored {
    char *id;      /* of the container to attach to: the sandbox's own, else the first; owned */
    uint64_t usec; /* from the request until it ran on */
};

/*
 * Makes it: ROOT/ID with a daemon, and for each container a monitor. They outlive this process. The container that has
 * the sandbox's id gets the new id, the others NEW-<old id>. On failure nothing is left. Blocks signals.
 * Errors: -ENOENT (no such snapshot), -EEXIST (an id is taken), those of the snapshot's parts and the daemon's.
 */
int snapshot_restore(struct cli *cli, const struct snapshot_restore *o, struct restored *ret, struct err *err);
