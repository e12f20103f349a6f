/* SPDX-License-Identifier: Apache-2.0 */
/* A cgroup's numbers (v2) as containerd's clients read them: io.containerd.cgroups.v2.Metrics. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define STATS_DEVICES_MAX 64

/* Reads the cgroup's files (fd of its directory; missing ones leave their numbers 0) and encodes the message. *ret is
 * malloc'd. "max" is UINT64_MAX, as in containerd. */
int stats_read(int cgroup_fd, uint8_t **ret, size_t *ret_len, struct err *err);
