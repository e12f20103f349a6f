/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's memory: a memfd of the daemon, mapped shared by QEMU and virtiofsd. Sparse; a page exists once touched.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

#define MEMORY_MIN (UINT64_C(64) << 20)
#define MEMORY_MAX (UINT64_C(16) << 40)
#define MEMORY_STEP (UINT64_C(2) << 20)

/* Makes it, size bytes (a multiple of MEMORY_STEP), sealed: neither of the processes that map it can resize it and so
 * make another fault. Returns the fd (close-on-exec). `id` is in the messages and the memfd's name. */
int memory_create(const char *id, uint64_t size, struct err *err);
