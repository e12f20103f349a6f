/* SPDX-License-Identifier: Apache-2.0 */
/* A line on the terminal for what takes longer than a second: "checkpointing web: 3 s". Nothing without a terminal. */
#pragma once

#include <sys/types.h>
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

/* For work that blocks and is to be cut off by a signal: runs fn in a process of its own. SIGHUP, SIGINT, SIGQUIT and
 * SIGTERM (blocked: signals_block) kill it: then undo(userdata, its pid) is called, if not NULL, *ret_signal is set,
 * and the result is -EINTR. What fn changes in memory is lost. */
int progress_work(const char *what, int (*fn)(void *userdata, struct err *err), void (*undo)(void *userdata, pid_t pid),
                  void *userdata, int *ret_signal, struct err *err);

/* For work that blocks: calls fn, with the line shown meanwhile by a process of its own. Returns what fn does. */
int progress_while(const char *what, int (*fn)(void *userdata, struct err *err), void *userdata, struct err *err);
