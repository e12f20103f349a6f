/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls of containerd's Task service (proto/task.proto) and of stasis.sandbox.v1 as the CLI makes them. exec_id ""
 * is the container's init. Each blocks until the answer is there; errors are the daemon's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "cli/session.h"
#include "proto/sandbox.pb-c.h"
#include "proto/task.pb-c.h"

/* Stdio of a new process. Each URI is "" or "fd://"; `fds` are the ones to pass, in the order stdin, stdout, stderr. */
struct task_stdio {
    const char *in, *out, *err;
    const int *fds; /* borrowed */
    size_t n_fds;
    bool terminal;
    uint32_t width, height; /* of the terminal; 0: unknown */
    bool relayed;           /* by us, from and to our own terminal or whatever our stdio is */
};

/* What a container is to be made of. */
struct task_restore {
    const char *images, *work; /* absolute; work may be "" */
    const Stasis__Agent__V1__CriuOptions *criu;
};

/* host_pid: its monitor on this host. timeout as session_call's. */
int task_create(struct session *s, const char *id, const char *bundle, pid_t host_pid, const struct task_stdio *io,
                const struct task_restore *restore, uint64_t timeout, struct err *err);
int task_exec(struct session *s, const char *id, const char *exec_id, const char *process_json, pid_t host_pid,
              const struct task_stdio *io, struct err *err);
/* A debug console; its id is "". Boots nothing. */
int task_console(struct session *s, const char *exec_id, const struct task_stdio *io, struct err *err);

/* timeout as session_call's. */
int task_start(struct session *s, const char *id, const char *exec_id, uint64_t timeout, struct err *err);
/* path: of the images, absolute. */
int task_checkpoint(struct session *s, const char *id, const char *path,
                    const Stasis__Sandbox__V1__CheckpointOptions *options, uint64_t timeout, struct err *err);
/* ret_status may be NULL. */
int task_delete(struct session *s, const char *id, const char *exec_id, uint32_t *ret_status, struct err *err);
int task_kill(struct session *s, const char *id, const char *exec_id, int sig, bool all, struct err *err);
int task_pause(struct session *s, const char *id, struct err *err);
int task_resume(struct session *s, const char *id, struct err *err);
int task_update(struct session *s, const char *id, const char *resources_json, struct err *err);
/* Waits for the exit, at most timeout (SESSION_FOREVER: no deadline). ret_status may be NULL. */
int task_wait(struct session *s, const char *id, const char *exec_id, uint64_t timeout, uint32_t *ret_status,
              struct err *err);
/* The daemon ends: when no container is left, or (now) at once. */
int task_shutdown(struct session *s, const char *id, bool now, uint64_t timeout, struct err *err);

/* The answer is freed by the caller with protobuf_c_message_free_unpacked(&ret->base, NULL). */
int task_processes(struct session *s, const char *id, Stasis__Agent__V1__ProcessesResponse **ret, struct err *err);
int task_execs(struct session *s, const char *id, Stasis__Sandbox__V1__ExecsResponse **ret, struct err *err);
int task_stats(struct session *s, const char *id, Containerd__Task__V2__StatsResponse **ret, struct err *err);
int task_describe(struct session *s, Stasis__Sandbox__V1__DescribeResponse **ret, struct err *err);
int task_info(struct session *s, Stasis__Sandbox__V1__InfoResponse **ret, struct err *err);
/* Whether the process has a terminal. */
int task_has_terminal(struct session *s, const char *id, const char *exec_id, bool *ret, struct err *err);
int task_check(struct session *s, uint64_t timeout, Stasis__Agent__V1__CheckResponse **ret, struct err *err);

/* These do not wait; a failure is logged at debug level: the process may have ended meanwhile. */
void task_hold_async(struct session *s, const char *id, const char *scratch); /* as long as the session lasts */
void task_kill_async(struct session *s, const char *id, const char *exec_id, int sig);
void task_resize_async(struct session *s, const char *id, const char *exec_id, uint32_t width, uint32_t height);

/* Starts Wait; fn is called as ttrpc_client_call's, with a WaitResponse. */
int task_wait_async(struct session *s, const char *id, const char *exec_id, ttrpc_reply_fn fn, void *userdata,
                    struct err *err);
