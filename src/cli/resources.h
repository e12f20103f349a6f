/* SPDX-License-Identifier: Apache-2.0 */
/* The resources of `update`: an OCI LinuxResources object from the command line. */
#pragma once

#include <jansson.h>

#include "base/err.h"

/* Each NULL: not given. Sizes as Go's units (10m, 1G) or -1 for unlimited; the other numbers decimal. */
struct resource_options {
    const char *memory, *memory_reservation, *memory_swap;
    const char *cpu_period, *cpu_quota, *cpu_share, *cpuset_cpus, *cpuset_mems;
    const char *pids_limit, *blkio_weight;
};

/* Only what was given is in the result, which the caller owns. -EINVAL names the option; also when none was given. */
int resources_build(const struct resource_options *o, json_t **ret, struct err *err);
