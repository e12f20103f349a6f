/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a container in the guest, as two tables: which state may follow which, and what may be asked when. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

enum container_state {
    CONTAINER_CREATING, /* crun create is under way */
    CONTAINER_CREATED,
    CONTAINER_STARTING, /* crun start is under way */
    CONTAINER_RUNNING,
    CONTAINER_PAUSING, /* waits for operations under way, then for the freezer */
    CONTAINER_PAUSED,
    CONTAINER_CHECKPOINTING, /* it was running or paused, and may be so again */
    CONTAINER_RESTORING,     /* waits for its turn, then for crun restore */
    CONTAINER_STOPPED,       /* its init has ended */
    CONTAINER_DELETING,
    CONTAINER_STATES
};

enum container_action {
    ACTION_START,
    ACTION_EXEC,
    ACTION_SIGNAL_ALL,
    ACTION_PAUSE,
    ACTION_RESUME,
    ACTION_UPDATE,
    ACTION_CHECKPOINT,
    ACTION_INSPECT, /* stats, processes */
    ACTION_DELETE,
    CONTAINER_ACTIONS
};

const char *container_state_name(enum container_state s);
const char *container_action_name(enum container_action a); /* "start", "exec in", … */

bool container_may_become(enum container_state from, enum container_state to);

/* 0, or -EBUSY (-ESRCH for a signal to what has stopped) with "cannot <action> container <id>: it is <state>". */
int container_check_action(enum container_action a, enum container_state s, const char *id, struct err *err);
