/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/lifecycle.h"

#include <assert.h>

#include "base/util.h"

#define S(state) (1u << CONTAINER_##state)

static const struct {
    const char *name;
    unsigned next;
} states[] = {
    [CONTAINER_CREATING] = {"being created", S(CREATED) | S(STOPPED) | S(DELETING)},
    [CONTAINER_CREATED] = {"created", S(STARTING) | S(STOPPED) | S(DELETING)},
    [CONTAINER_STARTING] = {"being started", S(RUNNING) | S(CREATED) | S(STOPPED) | S(DELETING)},
    [CONTAINER_RUNNING] = {"running", S(PAUSING) | S(CHECKPOINTING) | S(STOPPED) | S(DELETING)},
    [CONTAINER_PAUSING] = {"being paused", S(PAUSED) | S(RUNNING) | S(STOPPED) | S(DELETING)},
    [CONTAINER_PAUSED] = {"paused", S(RUNNING) | S(CHECKPOINTING) | S(STOPPED) | S(DELETING)},
    [CONTAINER_CHECKPOINTING] = {"being checkpointed", S(RUNNING) | S(PAUSED) | S(STOPPED) | S(DELETING)},
    [CONTAINER_RESTORING] = {"being restored", S(RUNNING) | S(STOPPED) | S(DELETING)},
    [CONTAINER_STOPPED] = {"stopped", S(DELETING)},
    /* Back when crun could not delete it. */
    [CONTAINER_DELETING] = {"being deleted", S(STOPPED) | S(RUNNING)},
};
static_assert(ARRAY_SIZE(states) == CONTAINER_STATES, "every state has a row");

#define LIVE (S(CREATED) | S(STARTING) | S(RUNNING) | S(PAUSING) | S(PAUSED) | S(CHECKPOINTING))

static const struct {
    const char *name;
    unsigned allowed;
} actions[] = {
    [ACTION_START] = {"start", S(CREATED)},
    [ACTION_EXEC] = {"exec in", S(CREATED) | S(RUNNING)},
    [ACTION_SIGNAL_ALL] = {"signal", LIVE},
    [ACTION_PAUSE] = {"pause", S(RUNNING)},
    [ACTION_RESUME] = {"resume", S(PAUSED)},
    [ACTION_UPDATE] = {"update", S(CREATED) | S(RUNNING) | S(PAUSED)},
    [ACTION_CHECKPOINT] = {"checkpoint", S(RUNNING) | S(PAUSED)},
    [ACTION_INSPECT] = {"inspect", LIVE | S(STOPPED)},
    /* One that is being created or restored goes as soon as crun has ended. */
    [ACTION_DELETE] = {"delete", LIVE | S(CREATING) | S(RESTORING) | S(STOPPED)},
};
static_assert(ARRAY_SIZE(actions) == CONTAINER_ACTIONS, "every action has a row");

const char *container_state_name(enum container_state s) {
    return states[s].name;
}

const char *container_action_name(enum container_action a) {
    return actions[a].name;
}

bool container_may_become(enum container_state from, enum container_state to) {
    return states[from].next & (1u << to);
}

int container_check_action(enum container_action a, enum container_state s, const char *id, struct err *err) {
    if (actions[a].allowed & (1u << s))
        return 0;
    int code = a == ACTION_SIGNAL_ALL && s == CONTAINER_STOPPED ? ESRCH : EBUSY;
    return err_set(err, code, "cannot %s container %s: it is %s", actions[a].name, id, states[s].name);
}
