/* SPDX-License-Identifier: Apache-2.0 */
/* The guest as a whole: what the daemon tells it when they meet, and its end. */
#pragma once

#include <stdint.h>

#include "agent/agent.h"
#include "base/err.h"

struct guest_hello {
    uint64_t wall_usec; /* 0 leaves the clock */
    const char *hostname;
    uint32_t log_level; /* enum log_level; the kernel's command line may ask for more */
};

int guest_hello(struct agent *a, const struct guest_hello *h, struct err *err);

/* Flushes the answers, syncs and powers off as soon as the loop comes round. */
void guest_shutdown_begin(struct agent *a);

/* At once; never returns. With QEMU's -no-reboot the machine is gone either way. */
void guest_power_off(void) __attribute__((noreturn));
