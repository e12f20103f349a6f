/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives memory back when a burst of work is over: free heap, and the mappings of code. The pages of code that only the
 * start, or one kind of call, needed are unmapped from this process (not from the page cache) and are mapped again when
 * they are needed again. An idle agent is a fifth smaller for it, in every guest and in every snapshot of one.
 */
#pragma once

#include <systemd/sd-event.h>

#include "base/err.h"

#define TRIM_DELAY_USEC (UINT64_C(5) * 1000000)

struct trim;

int trim_new(sd_event *event, struct trim **ret, struct err *err);

/* Work was done: trims after TRIM_DELAY_USEC. Does nothing when that is due already. Accepts NULL. */
void trim_later(struct trim *t);
