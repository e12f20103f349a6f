/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A function that takes long (copying, syncing, packing), run in a child process so that the loop goes on.
 *
 * Theory of operation. The child is a fork of this process, which has no threads: the function sees the memory as it
 * was and may do anything but use the event loop. What it changes stays in the child; only its error comes back, and
 * what it wrote to memory that is mapped shared. The child dies with this process.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/err.h"

struct worker;

/* Runs in the child. */
typedef int (*worker_fn)(void *arg, struct err *err);
/* err is NULL on success. Called once, from the loop. */
typedef void (*worker_done_fn)(void *userdata, const struct err *err);

/* `name` is used in messages and must be static. */
int worker_start(sd_event *event, const char *name, worker_fn fn, void *arg, worker_done_fn done, void *userdata,
                 struct worker **ret, struct err *err);

/* Kills the child; done is not called. False when it has not ended within a second: the kernel holds it, in the midst
 * of a write to a disk that hangs, say; what it works on is not to be touched then. Accepts NULL. */
bool worker_kill(struct worker *w);
/* The same, for who works on nothing else. Returns NULL. */
struct worker *worker_cancel(struct worker *w);
