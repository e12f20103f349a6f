/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sandbox: one VM, its share, the connection to its agent, and the containers in it. One per daemon.
 *
 * Theory of operation. The VM is started by the first call that needs it (sandbox_when_ready). It is ready when the
 * agent has answered Hello. When QEMU, virtiofsd or the channel goes, the sandbox is stopped for good: the cause is
 * kept and is the answer to every later call, all processes count as killed, all pending calls fail with the cause.
 */
#pragma once

#include <systemd/sd-event.h>

#include "base/config.h"
#include "base/err.h"
#include "base/host_namespaces.h"
#include "base/util.h"
#include "proto/agent.pb-c.h"
#include "sandbox/call.h"
#include "sandbox/lifecycle.h"
#include "sandbox/share.h"
#include "ttrpc/client.h"
#include "vm/vm.h"

#define SANDBOX_CONTAINERS_MAX 256
#define SANDBOX_WAITERS_MAX 1024

struct sandbox;
struct container;
struct process;

/* err is NULL on success. */
typedef void (*sandbox_done_fn)(void *userdata, const struct err *err);

struct sandbox_spec {
    const char *id;
    const char *dir;             /* ROOT/ID, which exists */
    const struct config *config; /* copied */
    struct host_namespaces host; /* where hooks and loggers run; not owned */
};

/* Mounts the share; the VM is not started. */
int sandbox_new(sd_event *event, const struct sandbox_spec *spec, struct sandbox **ret, struct err *err);

/* Ends the VM at once, whatever runs in it, and frees everything. Accepts NULL; returns NULL. */
struct sandbox *sandbox_free(struct sandbox *sb);
DEFINE_CLEANUP(struct sandbox *, sandbox_free);
#define cleanup_sandbox CLEANUP(sandbox_freep)

/* Before the VM is started: what it is made with from now on. -EBUSY after. */
int sandbox_configure(struct sandbox *sb, const struct config *config, struct err *err);

/* Puts this process, and with it the VM, into the cgroup that linux.cgroupsPath of the host's spec names (cgroup.h);
 * the first call that does counts, "" and later ones do nothing. It is left and removed with the sandbox. */
int sandbox_enter_cgroup(struct sandbox *sb, const char *cgroups_path, struct err *err);

/* Calls fn when the agent is ready or the VM could not be started (from the loop). Starts the VM if need be. */
int sandbox_when_ready(struct sandbox *sb, sandbox_done_fn fn, void *userdata, struct err *err);

sd_event *sandbox_event(const struct sandbox *sb);
const char *sandbox_id(const struct sandbox *sb);
const char *sandbox_dir(const struct sandbox *sb); /* ROOT/ID */
const struct config *sandbox_config(const struct sandbox *sb);
enum sandbox_state sandbox_get_state(const struct sandbox *sb);
struct share *sandbox_share(struct sandbox *sb);
const struct host_namespaces *sandbox_host(const struct sandbox *sb);
struct vm *sandbox_vm(struct sandbox *sb);                    /* NULL when there is none */
struct ttrpc_client *sandbox_agent(const struct sandbox *sb); /* NULL unless ready */
const char *sandbox_agent_version(const struct sandbox *sb);
const char *sandbox_kernel_version(const struct sandbox *sb);
const char *sandbox_death_cause(const struct sandbox *sb); /* NULL while the VM lives, and when it was shut down */
const char *sandbox_accel_name(const struct sandbox *sb);

/* A call to the agent with the configured deadline (call.h). When the VM is gone, the error is why. */
int sandbox_call(struct sandbox *sb, const char *method, const ProtobufCMessage *request, ttrpc_reply_fn fn,
                 void *userdata, struct sandbox_call **ret_call, struct err *err);

/* The same with a deadline of its own (µs). */
int sandbox_call_within(struct sandbox *sb, const char *method, const ProtobufCMessage *request, uint64_t timeout_usec,
                        ttrpc_reply_fn fn, void *userdata, struct sandbox_call **ret_call, struct err *err);

/* Containers, by id. */
struct container *sandbox_find(const struct sandbox *sb, const char *id);
int sandbox_add(struct sandbox *sb, struct container *c, struct err *err); /* takes c on success */
void sandbox_remove(struct sandbox *sb, struct container *c);              /* frees c */
size_t sandbox_count(const struct sandbox *sb);
struct container *sandbox_nth(const struct sandbox *sb, size_t n); /* n < sandbox_count() */

bool sandbox_is_being_saved(const struct sandbox *sb); /* capture.h */

/* Debug consoles, by exec id. */
struct process *sandbox_find_console(const struct sandbox *sb, const char *exec_id);
int sandbox_add_console(struct sandbox *sb, struct process *p, struct err *err); /* takes p on success */
void sandbox_remove_console(struct sandbox *sb, struct process *p);              /* ends it in the guest and frees p */

/* Has the guest forget what the share has lost (share.removed), so that virtiofsd closes its files. Without a guest
 * there is nothing to forget. The answer is not waited for. */
void sandbox_forget(struct sandbox *sb);

/* A signal to a process (all: to the whole container) without waiting for the answer. */
void sandbox_signal_quietly(struct sandbox *sb, struct process *p, int sig, bool all);

/* SIGKILL to a process (an init: to the whole container), likewise. */
void sandbox_kill_quietly(struct sandbox *sb, struct process *p);

/* Writes state.json (oci/state.h). sandbox_record() is for what has to be there before the next step, because it tells
 * how to clean up after a daemon that dies: that step fails with it. sandbox_save() is for the rest: a failure is
 * logged once, and the file is written later, as soon as that can be done; who asks the daemon gets the truth
 * meanwhile. */
int sandbox_record(struct sandbox *sb, struct err *err);
void sandbox_save(struct sandbox *sb);
/* The same as text: malloc'd, NULL with err set. */
char *sandbox_state_text(struct sandbox *sb, struct err *err);

/* When each step of the start was over (monotonic µs). */
struct sandbox_timing {
    const char *step;
    uint64_t usec;
};
#define SANDBOX_TIMINGS_MAX 16
size_t sandbox_timings(const struct sandbox *sb, struct sandbox_timing ret[SANDBOX_TIMINGS_MAX]);
void sandbox_mark(struct sandbox *sb, const char *step); /* static text */
