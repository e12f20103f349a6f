/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRIU whose crun has died. It goes on alone: it freezes, thaws and puts the freezer back to what it was when it began,
 * whatever was done to it since. So a dump is not over before that one is gone, too. It is let end by itself, for it
 * undoes what it did to the processes and their network; one that does not end is killed, which the processes survive.
 */
#pragma once

#include <systemd/sd-event.h>

#include "base/err.h"

#define CRIU_LEFT_USEC (UINT64_C(30) * 1000 * 1000) /* then it is killed */

struct criu_left {
    sd_event_source *timer;
    uint64_t end;
    void (*fn)(void *userdata);
    void *userdata;
};

/* Calls fn when there is none (any more), at once if that is so now. On failure fn is not called. */
int criu_left_wait(struct criu_left *w, sd_event *event, void (*fn)(void *userdata), void *userdata, struct err *err);

/* Sends SIGKILL to all there are; returns how many. */
unsigned criu_left_kill(void);

/* For the test: the number of them in this /proc, each sent the signal (0: none is sent). */
unsigned criu_left_signal(const char *proc, int sig);
