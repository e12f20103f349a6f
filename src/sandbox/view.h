/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The view: a container's file systems as the root of its monitor (base/host_process.h), for engines that go by its
 * pid: `podman cp`, nsenter, health checks.
 *
 * Theory of operation. The monitor has an empty root. Once the guest's runtime has made the container, a child of the
 * daemon copies the container's mounts out of the share, enters the monitor's namespaces and builds the tree there: the
 * root, the volumes at their destinations, a /proc of the monitor's pid namespace. Destinations are looked up inside
 * the new root alone, as the guest may have put links there. What exists only in the guest (tmpfs, /sys, /dev, …) is an
 * empty, read-only directory: a copy to there fails instead of reaching a place that the container does not see. When
 * the tree is complete it becomes the root, and the monitor with it is in a mount namespace that holds nothing else.
 * Mounts are nosuid and nodev, and all but the root noexec: as with any runtime, root may run a program of the
 * container by `nsenter -m`. The namespace goes when the monitor ends.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "oci/spec.h"
#include "sandbox/share.h"

struct view_spec {
    const struct share *share;
    const char *id;       /* for messages */
    const char *guest_id; /* in the share */
    int pidfd;            /* of the monitor */
    const json_t *spec;   /* config.json of the container */
    const struct oci_share_mount *mounts;
    size_t n_mounts;
};

/* Builds it; to be run in a child of the daemon (worker_fn; arg: struct view_spec). All of it or nothing appears.
 * Errors: what could not be mounted, with its place in config.json; -ESRCH when the monitor has ended. */
int view_build(void *arg, struct err *err);
