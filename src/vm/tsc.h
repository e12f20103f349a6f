/* SPDX-License-Identifier: Apache-2.0 */
/* The time stamp counter of this host's CPUs, which an emulated guest reads as its own. */
#pragma once

#include <stdint.h>

/* Its frequency in kHz, measured for some milliseconds against the kernel's clock, within a tenth of a per cent; 0
 * where there is none, or the host is too busy to tell. */
unsigned tsc_khz(void);

/* For tests: of two readings of counter and clock (nanoseconds). 0 unless both went forward. */
unsigned tsc_khz_between(uint64_t ticks0, uint64_t nsec0, uint64_t ticks1, uint64_t nsec1);
