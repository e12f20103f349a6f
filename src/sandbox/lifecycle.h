/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State machines as tables of allowed transitions: of the sandbox, of a container, of a process in it. Every change of
 * state goes through lifecycle_move(), so a call that comes at the wrong time is refused by the table and not by
 * chance.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct lifecycle {
    const char *what;         /* "container" */
    const char *const *names; /* of the states, as users know them */
    const uint32_t *allowed;  /* per state: bit set of the states that may follow */
    unsigned n;
};

enum sandbox_state {
    SANDBOX_NEW,     /* no VM yet */
    SANDBOX_BOOTING, /* VM started, the agent has not answered */
    SANDBOX_READY,
    SANDBOX_STOPPED, /* VM gone: ended by us, or died */
    SANDBOX_STATES,
};

enum container_state {
    CONTAINER_CREATING,
    CONTAINER_CREATED,
    CONTAINER_STARTING,
    CONTAINER_RUNNING,
    CONTAINER_PAUSING,
    CONTAINER_PAUSED,
    CONTAINER_RESUMING,
    CONTAINER_CHECKPOINTING,
    CONTAINER_STOPPED,
    CONTAINER_DELETING,
    CONTAINER_STATES,
};

enum process_state {
    PROCESS_CREATED, /* known, not running: crun's "created", or an exec not yet started */
    PROCESS_STARTING,
    PROCESS_RUNNING,
    PROCESS_EXITED,
    PROCESS_STATES,
};

extern const struct lifecycle sandbox_lifecycle, container_lifecycle, process_lifecycle;

bool lifecycle_allows(const struct lifecycle *l, unsigned from, unsigned to);

/* Moves *state to `to`; -EBUSY with "<what> <id> is <state>" when the table does not allow it. */
int lifecycle_move(const struct lifecycle *l, unsigned *state, unsigned to, const char *id, struct err *err);

/* The OCI status of a container's state: creating, created, running, paused, stopped. */
const char *container_state_status(enum container_state state);
