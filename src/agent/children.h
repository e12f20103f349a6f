/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The children of PID 1: every process of the guest whose parent is gone ends up here and must be reaped.
 *
 * Theory of operation. On SIGCHLD all zombies are reaped in one loop; a pid that somebody watches gets its callback. A
 * container's process becomes a child of ours when the crun that made it ends, and may itself end before we have read
 * its pid: while such an operation is under way (children_hold) the statuses of unknown pids are kept, and
 * children_watch() finds them. pids that leave the table unnoticed are those nobody waits for.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/err.h"
#include "base/util.h"

#define CHILDREN_LOST_MAX 1024 /* statuses of unknown pids kept during a hold; the oldest are forgotten first */

struct children;
struct child;

/* The child has been reaped and is no longer watched; `status` as waitpid() gives it. */
typedef void (*child_exit_fn)(struct child *c, int status, void *userdata);

/* Lives in its owner; zero-initialise. */
struct child {
    pid_t pid; /* 0: not watched */
    child_exit_fn fn;
    void *userdata;
    struct child *next;
};

/* Blocks SIGCHLD for this process and reaps from the loop. */
int children_new(sd_event *event, struct children **ret, struct err *err);
struct children *children_free(struct children *c); /* accepts NULL; returns NULL; watched children are forgotten */
DEFINE_CLEANUP(struct children *, children_free);

/* Watches pid. Returns 0; or 1 with *ret_status when it has been reaped already (fn will not be called); -ECHILD when
 * it is neither a child nor one of the statuses kept. */
int children_watch(struct children *c, struct child *child, pid_t pid, child_exit_fn fn, void *userdata,
                   int *ret_status);

/* Forgets a watched child; it is still reaped. No harm if it is not watched. */
void children_forget(struct children *c, struct child *child);

/* SIGKILL to a pid that is a child of ours but that nobody watches yet; to nothing else. */
void children_kill(pid_t pid);

/* Brackets an operation whose result is a child not known yet. They nest. */
void children_hold(struct children *c);
void children_release(struct children *c);
