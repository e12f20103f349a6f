/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bundles of restored containers: the config.json of each is made from the specification that the snapshot keeps.
 *
 * Theory of operation. What this writes is all that a restored container has of the host, so here is decided what of a
 * specification is honoured. Of one that was snapshotted here: all but the paths of namespaces, which name what was
 * there at that time. Of one that came with an imported snapshot nothing that reaches out of the guest: no hook is run,
 * annotations and the cgroup path are left out, and each host path that is to be mounted must have been named by the
 * person who restores, who may put another path in its place. What is mounted is a list of its own, with links resolved
 * (state.mounts of the manifest); the order of mounts stays: it is what the guest knows them by.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/util.h"

struct snapshot_bundle_rules {
    bool imported;
    const struct strv *mounts; /* "SOURCE": may be mounted; "SOURCE=PATH": PATH is mounted in its place */
    bool *used;                /* one for each of mounts: set when a container has it */
};

/* Returns the specification for container `id` (for messages), owned by the caller. -EINVAL. */
int snapshot_bundle_spec(const json_t *spec, const char *id, const struct snapshot_bundle_rules *rules, json_t **ret,
                         struct err *err);

/* Adds what is to be mounted for container `id`, from its saved state. -EPERM for a mount of an imported one that is
 * not named; -EINVAL. */
int snapshot_bundle_mounts(const json_t *state, const char *id, const struct snapshot_bundle_rules *rules,
                           struct strv *ret, struct err *err);

/* Makes DIR (with its parents) with config.json and an empty rootfs/. */
int snapshot_bundle_write(const char *dir, const json_t *spec, struct err *err);
