/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Restoring what was dumped on a host with cgroup v1, or with both.
 *
 * The guest has cgroup v2 alone. CRIU mounts a hierarchy for every controller that the images name, which fails for
 * those that v2 has taken (EBUSY), unless it is given a directory where they are mounted already, its "yard". Ours has
 * the guest's one hierarchy, and a link to that for each other: being put into the same cgroup for each controller is
 * being put there. Limits in the images are not taken over, nor are those of v2: they are the specification's.
 *
 * The mounts of these hierarchies in the container, /sys/fs/cgroup/<controller>, become empty directories.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"

#define CRIU_YARD "/run/criu/cgroups"
#define CRIU_YARD_EMPTY "/mnt" /* an empty directory of the guest's root image, which is read-only */

/* Makes the yard, if it is not there, with a mount of cgroup_root. */
int criu_cgroups_make(const char *yard, const char *cgroup_root, struct err *err);

/* Writes the lines of CRIU's configuration that go with it; returns their length, as snprintf does. */
size_t criu_cgroups_conf(char *out, size_t size);
