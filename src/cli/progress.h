/* SPDX-License-Identifier: Apache-2.0 */
/* A line on the terminal for what takes longer than a second: "checkpointing web: 3 s". Nothing without a terminal. */
#pragma once

#include <systemd/sd-event.h>

#include "base/err.h"

struct progress {
    sd_event_source *timer;
    const char *what; /* borrowed */
    unsigned seconds;
};

/* Zero-initialise *p; it must not move. A line that cannot be shown is no failure. */
void progress_begin(struct progress *p, sd_event *event, const char *what);
void progress_end(struct progress *p); /* removes the line */

/* For work that blocks: calls fn, with the line shown meanwhile by a process of its own. Returns what fn does. */
int progress_while(const char *what, int (*fn)(void *userdata, struct err *err), void *userdata, struct err *err);
