/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container: what crun made of a bundle, its init and its exec processes.
 *
 * Theory of operation. crun does one thing at a time for us, in a process of its own; `ops` counts those under way, and
 * a container is neither paused nor freed before they are over (an exec that is caught half-way by the freezer would
 * hang). Deleting kills everything, waits until all is reaped, and only then lets crun delete.
 *
 * All functions that take a callback: a negative result means it will not be called; else it is called once, from the
 * loop or from within.
 */
#pragma once

#include "agent/agent.h"
#include "agent/lifecycle.h"
#include "agent/process.h"

#define CONTAINER_EXECS_MAX 1024
#define CONTAINER_KILL_TIMEOUT_USEC (UINT64_C(10) * 1000000)
#define CONTAINER_FREEZE_TIMEOUT_USEC (UINT64_C(10) * 1000000)

/* A call that waits for something. */
struct container_call {
    agent_done_fn fn; /* NULL: none */
    void *userdata;
};

struct container {
    struct agent *agent;
    struct container *next;
    char id[ID_MAX + 1];
    enum container_state state;
    struct process *init;
    struct process *execs; /* list */
    size_t n_execs;
    unsigned ops;
    int cgroup_fd;     /* -1: not known yet */
    char *cgroup_path; /* absolute */
    /* Deleting. */
    struct container_call deleting;
    sd_event_source *kill_timer;
    bool crun_deletes;
    /* Pausing. */
    struct container_call pausing;
    sd_event_source *frozen_source, *freeze_timer;
    /* Out of memory. */
    sd_event_source *oom_source;
    uint64_t oom_kills, oom_told;
};

struct container *container_find(struct agent *a, const char *id);
/* As container_find, with -ENOENT in err when there is none. */
struct container *container_get(struct agent *a, const char *id, struct err *err);

/* "" is init. NULL with -ENOENT in err when there is none. */
struct process *container_process(struct container *c, const char *exec_id, struct err *err);

/* timeout_usec bounds crun; 0: its default. */
int container_create(struct agent *a, const char *id, const void *spec, size_t len,
                     const struct process_streams *streams, uint64_t timeout_usec, agent_pid_fn fn, void *userdata,
                     struct err *err);
int container_start(struct container *c, uint64_t timeout_usec, agent_done_fn fn, void *userdata, struct err *err);
int container_update(struct container *c, const void *resources, size_t len, uint64_t timeout_usec, agent_done_fn fn,
                     void *userdata, struct err *err);

/* delete.c. Kills what runs and forgets the container. When crun or the kernel refuses, the container stays and can be
 * deleted again. */
int container_delete(struct container *c, agent_done_fn fn, void *userdata, struct err *err);

/* exec.c */
int container_exec(struct container *c, const char *exec_id, const void *process, size_t len,
                   const struct process_streams *streams, uint64_t timeout_usec, agent_pid_fn fn, void *userdata,
                   struct err *err);
/* Forgets an exec that has ended; -EBUSY if it has not, -EINVAL for init. */
int container_delete_exec(struct container *c, const char *exec_id, struct err *err);
/* A signal to every process of the container. */
int container_signal_all(struct container *c, int signal, struct err *err);

/* freezer.c. Resuming is immediate. */
int container_pause(struct container *c, agent_done_fn fn, void *userdata, struct err *err);
int container_resume(struct container *c, struct err *err);

/* For the parts of the object, and nobody else. */
void container_set_state(struct container *c, enum container_state s);
void container_op_begin(struct container *c);
void container_op_end(struct container *c);      /* may free c */
void container_delete_step(struct container *c); /* goes on with deleting if nothing is in the way; may free c */
void container_pause_step(struct container *c);
void container_pause_end(struct container *c, const struct err *err); /* err NULL: paused. No harm when not pausing */
struct container *container_free(struct container *c);
