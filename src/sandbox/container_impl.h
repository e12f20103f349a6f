/* SPDX-License-Identifier: Apache-2.0 */
/* Internal: the container object, shared by container.c and checkpoint.c. */
#pragma once

#include <jansson.h>

#include "oci/hooks.h"
#include "oci/spec.h"
#include "sandbox/container.h"
#include "sandbox/exec.h"
#include "sandbox/layers.h"
#include "sandbox/view.h"
#include "sandbox/worker.h"

struct checkpoint;
struct restore;

/* What is under way; the state says which. */
struct operation {
    sandbox_done_fn done;
    void *userdata;
    struct oci_hooks_run *hooks;
};

struct idle_waiter {
    struct idle_waiter *next;
    void (*fn)(void *userdata);
    void *userdata;
};

struct container {
    struct sandbox *sb;
    char *id, *bundle;
    char *guest_id; /* in the guest and the share: the id it was made with; a copy of a snapshot has another one here */
    char *rootfs;   /* BUNDLE/rootfs (of a snapshot's copy: in the sandbox's directory), when we mounted it */
    struct layers layers;
    bool layers_are_ours; /* its lower directories are a snapshot's */
    bool pod_sandbox, pod_member;
    char *left_scratch; /* of a checkpoint whose worker did not end, to be removed with the container; owned */
    bool make_network;  /* guest.spec names a network namespace that the agent makes */
    json_t *spec;       /* the user's, for hooks and annotations */
    struct oci_guest_spec guest;
    unsigned state; /* enum container_state */
    uint64_t created_wall_usec;
    struct process *init;
    struct exec_list execs;
    struct view_spec view;
    struct worker *view_worker; /* builds it */
    bool shown;                 /* it is there */
    struct operation op;
    struct idle_waiter *idle;      /* called when it is over */
    struct checkpoint *checkpoint; /* under way */
    struct restore *restore;       /* what Start makes it of; NULL: it is new */
};

/* Starts an operation: -EBUSY when another is under way, or the state does not allow it. */
int container_begin(struct container *c, enum container_state to, sandbox_done_fn done, void *userdata,
                    struct err *err);

/* Ends it and calls done. `to`: the state it leads to; if the container stopped meanwhile, it stays so. */
void container_finish(struct container *c, enum container_state to, const struct err *err);

/* A call to the agent that got no answer in time (err; NULL and other errors: nothing is done) may be carried out
 * nevertheless: the one that undoes it, "Pause" or "Resume", is sent behind it. */
void container_undo_late(struct container *c, const char *method, const struct err *err);

/* -ECANCELED when its monitor was killed before there was anything in the guest to be killed with it. */
int container_still_wanted(const struct container *c, struct err *err);

/* The answer to Start, or to the restore in its place: goes on with the hooks, or back. */
void container_started(struct container *c, const struct err *err);

/* Shows the container's files in its monitor (view.h); done as of worker_start(). */
int container_show(struct container *c, worker_done_fn done, void *userdata, struct err *err);

/* For exit of the init, wherever the container came from. */
extern const struct process_ops container_init_ops;

/* The agent's CreateContainer message; pointers into the container and `text` (of its guest's spec). */
void container_create_request(const struct container *c, char *text, Stasis__Agent__V1__CreateContainerRequest *ret);
