/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container in a sandbox: its spec, its directories in the share, its init process and the processes exec'd into it.
 *
 * The long operations (create, start, pause, resume, delete) exclude each other by the table of lifecycle.h; each calls
 * `done` once, from the loop, unless it returned an error itself.
 */
#pragma once

#include <sys/types.h>

#include "base/err.h"
#include "oci/pod.h"
#include "oci/state.h"
#include "sandbox/lifecycle.h"
#include "sandbox/process.h"
#include "sandbox/rootfs.h"
#include "sandbox/sandbox.h"

struct restore_spec;

#define CONTAINER_EXECS_MAX 1024

struct container_spec {
    const char *id;
    const char *bundle;                /* absolute */
    json_t *spec;                      /* its config.json (oci_spec_load); NULL: is read. Shared, not taken */
    pid_t host_pid;                    /* its monitor; 0: this daemon makes one */
    struct process_stdio *io;          /* taken, also on failure */
    const char *uris[3];               /* process_set_uris(); NULL: "" */
    const struct rootfs_mount *rootfs; /* to be mounted at BUNDLE/rootfs; borrowed during the call */
    size_t n_rootfs;
    struct oci_pod pod;                 /* sandbox_id is copied */
    const struct restore_spec *restore; /* checkpoint.h: what Start is to make it of; NULL: it is new */
};

/* Reads and rewrites the spec, mounts root and volumes, boots the VM if need be, runs the prestart and createRuntime
 * hooks and has the agent create the container. On failure (either way) the container is gone again. */
int container_create(struct sandbox *sb, const struct container_spec *spec, sandbox_done_fn done, void *userdata,
                     struct err *err);

/* Runs the user's program, then the poststart hooks. */
int container_start(struct container *c, sandbox_done_fn done, void *userdata, struct err *err);

int container_pause(struct container *c, sandbox_done_fn done, void *userdata, struct err *err);
int container_resume(struct container *c, sandbox_done_fn done, void *userdata, struct err *err);

/* A signal for one that is to be restored, before it is, or after that failed: nothing of it is in the guest, so it
 * counts as killed. False: it is there, and the agent has to send the signal. */
bool container_kill_unrestored(struct container *c);

/* Of a stopped or created one (which is killed): removes it from the guest and the share, runs the poststop hooks. The
 * container is freed before done is called. */
int container_delete(struct container *c, sandbox_done_fn done, void *userdata, struct err *err);

/* Whether one of the operations above is under way; and a call when it is over, or when the container is freed: then
 * sandbox_find() does not find it any more. */
bool container_is_busy(const struct container *c);
int container_when_idle(struct container *c, void (*fn)(void *userdata), void *userdata, struct err *err);

/* A process to be exec'd. `process_json` (OCI process object) is copied. Nothing runs before container_exec_start. */
int container_exec(struct container *c, const char *exec_id, const char *process_json, size_t len, pid_t host_pid,
                   struct process_stdio *io, struct err *err);
int container_exec_start(struct container *c, struct process *p, sandbox_done_fn done, void *userdata, struct err *err);
/* Of one that has exited or never ran. */
int container_exec_delete(struct container *c, struct process *p, struct err *err);

/* "" is the init. NULL: there is none. */
struct process *container_find(const struct container *c, const char *exec_id);

/* Calls fn for each exec until it fails. */
typedef int (*container_exec_fn)(struct process *p, void *userdata, struct err *err);
int container_each_exec(const struct container *c, container_exec_fn fn, void *userdata, struct err *err);

/* The VM is gone. */
void container_lost(struct container *c);

/* Accepts NULL. Used by the sandbox only. */
void container_free(struct container *c);

const char *container_id(const struct container *c);
uint64_t container_created_wall_usec(const struct container *c); /* a copy's: of the original */
const char *container_guest_id(const struct container *c);       /* in the guest and in the share */
const char *container_bundle(const struct container *c);
enum container_state container_get_state(const struct container *c);
struct sandbox *container_sandbox(const struct container *c);

/* Fills ret with borrowed pointers: not to be cleared. */
void container_describe(const struct container *c, struct oci_container_state *ret);
