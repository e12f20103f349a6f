/* SPDX-License-Identifier: Apache-2.0 */
/* What holds of every configuration that was accepted, wherever it came from. */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/path.h"
#include "base/util.h"

static inline void require(bool good) {
    if (!good)
        abort();
}

static inline void check_bounds(const struct config *c) {
    require(c->accel <= ACCEL_TCG && c->log_level <= LOG_LEVEL_DEBUG);
    require(c->memory >= UINT64_C(128) << 20 && c->memory <= UINT64_C(1) << 40 && c->memory % (2 << 20) == 0);
    require(c->cpus >= 1 && c->cpus <= 255);
    require(c->memory_max == 0 || (c->memory_max >= UINT64_C(128) << 20 && c->memory_max <= UINT64_C(1) << 40));
    require(c->cpus_max <= 255);
    require(c->boot_timeout >= USEC_PER_SEC && c->boot_timeout <= 3600 * USEC_PER_SEC);
    require(c->rpc_timeout >= USEC_PER_SEC && c->rpc_timeout <= 3600 * USEC_PER_SEC);
    require(c->guest_log_max >= 64 << 10 && c->guest_log_max <= 1 << 30);
    require(strlen(c->kernel_params) < sizeof(c->kernel_params) && !strpbrk(c->kernel_params, "\n\r\t\033"));
    require(!*c->vmm_root || path_is_normal(c->vmm_root));
    require(!*c->guest_dir || path_is_normal(c->guest_dir));
}
