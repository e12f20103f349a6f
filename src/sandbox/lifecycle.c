/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/lifecycle.h"

#include "base/log.h"

#define TO(s) (UINT32_C(1) << (s))

static const char *const sandbox_names[SANDBOX_STATES] = {"new", "booting", "ready", "stopped"};
static const uint32_t sandbox_allowed[SANDBOX_STATES] = {
    [SANDBOX_NEW] = TO(SANDBOX_BOOTING) | TO(SANDBOX_STOPPED),
    [SANDBOX_BOOTING] = TO(SANDBOX_READY) | TO(SANDBOX_STOPPED),
    [SANDBOX_READY] = TO(SANDBOX_STOPPED),
};

static const char *const container_names[CONTAINER_STATES] = {
    "being created", "created",       "being started",      "running", "being paused",
    "paused",        "being resumed", "being checkpointed", "stopped", "being deleted",
};
/* The way back from a state with -ING is what a failed operation takes. Stopped follows from everything: the VM may
 * die. */
static const uint32_t container_allowed[CONTAINER_STATES] = {
    [CONTAINER_CREATING] = TO(CONTAINER_CREATED) | TO(CONTAINER_STOPPED),
    [CONTAINER_CREATED] = TO(CONTAINER_STARTING) | TO(CONTAINER_STOPPED) | TO(CONTAINER_DELETING),
    [CONTAINER_STARTING] = TO(CONTAINER_RUNNING) | TO(CONTAINER_CREATED) | TO(CONTAINER_STOPPED),
    [CONTAINER_RUNNING] = TO(CONTAINER_PAUSING) | TO(CONTAINER_CHECKPOINTING) | TO(CONTAINER_STOPPED),
    [CONTAINER_PAUSING] = TO(CONTAINER_PAUSED) | TO(CONTAINER_RUNNING) | TO(CONTAINER_STOPPED),
    [CONTAINER_PAUSED] = TO(CONTAINER_RESUMING) | TO(CONTAINER_CHECKPOINTING) | TO(CONTAINER_STOPPED),
    [CONTAINER_RESUMING] = TO(CONTAINER_RUNNING) | TO(CONTAINER_PAUSED) | TO(CONTAINER_STOPPED),
    [CONTAINER_CHECKPOINTING] = TO(CONTAINER_RUNNING) | TO(CONTAINER_PAUSED) | TO(CONTAINER_STOPPED),
    [CONTAINER_STOPPED] = TO(CONTAINER_DELETING),
    [CONTAINER_DELETING] = TO(CONTAINER_STOPPED),
};

static const char *const process_names[PROCESS_STATES] = {"created", "being started", "running", "stopped"};
static const uint32_t process_allowed[PROCESS_STATES] = {
    [PROCESS_CREATED] = TO(PROCESS_STARTING) | TO(PROCESS_EXITED),
    [PROCESS_STARTING] = TO(PROCESS_RUNNING) | TO(PROCESS_CREATED) | TO(PROCESS_EXITED),
    [PROCESS_RUNNING] = TO(PROCESS_EXITED),
};

const struct lifecycle sandbox_lifecycle = {"sandbox", sandbox_names, sandbox_allowed, SANDBOX_STATES};
const struct lifecycle container_lifecycle = {"container", container_names, container_allowed, CONTAINER_STATES};
const struct lifecycle process_lifecycle = {"process", process_names, process_allowed, PROCESS_STATES};

bool lifecycle_allows(const struct lifecycle *l, unsigned from, unsigned to) {
    return from < l->n && to < l->n && (l->allowed[from] & TO(to));
}

int lifecycle_move(const struct lifecycle *l, unsigned *state, unsigned to, const char *id, struct err *err) {
    if (!lifecycle_allows(l, *state, to))
        return err_set(err, EBUSY, "%s %s is %s", l->what, id, *state < l->n ? l->names[*state] : "damaged");
    log_debug("%s %s: %s -> %s", l->what, id, l->names[*state], l->names[to]);
    *state = to;
    return 0;
}

const char *container_state_status(enum container_state state) {
    static const char *const status[CONTAINER_STATES] = {
        [CONTAINER_CREATING] = "creating", [CONTAINER_CREATED] = "created",      [CONTAINER_STARTING] = "created",
        [CONTAINER_RUNNING] = "running",   [CONTAINER_PAUSING] = "running",      [CONTAINER_PAUSED] = "paused",
        [CONTAINER_RESUMING] = "paused",   [CONTAINER_CHECKPOINTING] = "paused", [CONTAINER_STOPPED] = "stopped",
        [CONTAINER_DELETING] = "stopped",
    };
    return status[state];
}
