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

struct checkpoint;

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
    int cgroup_fd;       /* -1: not known yet */
    char *cgroup_path;   /* absolute */
    bool pin_namespaces; /* others will join them (namespaces.h) */
    bool make_network;
    /* Deleting. */
    struct container_call deleting;
    sd_event_source *kill_timer;
    uint64_t delete_timeout_usec; /* bounds crun; 0: its default */
    bool crun_deletes;
    /* Pausing. */
    struct container_call pausing;
    sd_event_source *frozen_source, *freeze_timer;
    struct checkpoint *checkpoint; /* under way; NULL: none */
    /* Out of memory. */
    sd_event_source *oom_source;
    uint64_t oom_kills, oom_told;
    uint64_t oom_turn; /* oom.told when it was told of last */
};

/* Of a container that is to be made. */
struct container_request {
    const char *id;
    const void *spec; /* config.json */
    size_t len;
    const struct process_streams *streams;
    bool make_network;     /* spec names a network namespace that is to be made for it (namespaces.h) */
    bool pin_namespaces;   /* its namespaces are kept until it is deleted */
    uint64_t timeout_usec; /* bounds crun; 0: its default */
};

struct container *container_find(struct agent *a, const char *id);
/* As container_find, with -ENOENT in err when there is none. */
struct container *container_get(struct agent *a, const char *id, struct err *err);

/* "" is init. NULL with -ENOENT in err when there is none. */
struct process *container_process(struct container *c, const char *exec_id, struct err *err);

int container_create(struct agent *a, const struct container_request *req, agent_pid_fn fn, void *userdata,
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
/* Forgets an exec; one that has not ended, or not begun, is killed as soon as it can be and forgotten after that.
 * -EINVAL for init. */
int container_delete_exec(struct container *c, const char *exec_id, struct err *err);
/* A signal to every process of the container. */
int container_signal_all(struct container *c, int signal, struct err *err);

/* freezer.c. Resuming is immediate; a pause that is under way ends with -ECANCELED. */
int container_pause(struct container *c, agent_done_fn fn, void *userdata, struct err *err);
int container_resume(struct container *c, struct err *err);

/* For the parts of the object, and nobody else. */
/* A container with its bundle and the streams of its init, of which crun knows nothing yet. */
int container_new(struct agent *a, const struct container_request *req, enum container_state s, struct container **ret,
                  struct err *err);
/* Runs the crun that makes its init, in an operation; args, timeout and data are the caller's, the rest is filled in.
 */
int container_run_crun(struct container *c, struct crun_request *req, crun_done_fn done, void *userdata,
                       struct err *err);
/* That crun has ended, or could not be run (result->err). Takes over its process, gives the container its next state
 * and ends the operation; on failure removes everything, with crun's help if it may have left something (remains).
 * Answers fn either way. May free c. */
void container_created(struct container *c, struct crun_result *result, enum container_state next, bool remains,
                       agent_pid_fn fn, void *userdata);
void container_set_state(struct container *c, enum container_state s);
void container_op_begin(struct container *c);
void container_op_end(struct container *c);      /* may free c */
void container_delete_step(struct container *c); /* goes on with deleting if nothing is in the way; may free c */
void container_pause_step(struct container *c);
void container_pause_end(struct container *c, const struct err *err); /* err NULL: paused. No harm when not pausing */
struct container *container_free(struct container *c);
