/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals of a process that stands for another: all that can be caught are taken from a signalfd and handed to a
 * callback, which passes them on.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/err.h"

/* Blocks all of them, so that none is lost or kills this process from here on. Children that are programs are started
 * with an empty mask (proc.h). SIGCHLD and SIGURG are left out, they are this process's own; SIGPIPE is ignored. */
void signals_block(void);

/* Calls fn from the loop for each signal that comes. Ends with the loop's last reference. */
int signals_watch(sd_event *event, void (*fn)(int sig, void *userdata), void *userdata, struct err *err);

/* True for the signals by which a person or a manager ends a program: HUP, INT, QUIT, TERM. */
bool signals_is_end(int sig);

/* One of those that has come since signals_block() and was not taken yet, 0 if none has: for work that blocks. */
int signals_end_pending(void);
