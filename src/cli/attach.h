/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attending a process in the foreground: signals go to it, its terminal or stdin is relayed, its exit is waited for.
 *
 * The order is attach_begin() before the request that makes the process (from then on a signal such as SIGINT stops
 * the waiting: session.interrupt), attach_run() between that and the start, attach_wait().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/util.h"
#include "cli/io.h"
#include "cli/pump.h"
#include "cli/session.h"

struct attach {
    struct session *session;
    const char *id, *exec_id;
    struct io *io; /* NULL: nothing is relayed */
    /* What is typed, before it is passed on (pump.h); true: detach. May be NULL. */
    bool (*filter)(char *buf, size_t *len, void *userdata);
    void *userdata;
    bool keep_signals; /* they are not passed on: those that end a program detach, and are kept in `signal` */
    /* The rest is attach.c's. */
    struct pump *in, *out;
    bool running, exited, ending, drained, detached;
    uint32_t status;
    int signal; /* that detached; 0: none */
    struct err err;
    struct err vm_death; /* after attach_wait(): the process was killed with its VM, of this; code 0: it was not */
};

/* Fill in the public fields of *a first; it must not move. */
int attach_begin(struct attach *a, struct err *err);
int attach_run(struct attach *a, struct err *err);

/* Returns 0 with the exit status (128 + signal if killed by one), or, when it was detached, 1. */
int attach_wait(struct attach *a, uint32_t *ret_status, struct err *err);

/* From here on signals are ignored: what is under way is being cleaned up. The terminal is restored. */
void attach_end(struct attach *a);
