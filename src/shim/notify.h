/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which events containerd is told, and in which order: create < start < exit < delete for each process.
 *
 * Theory of operation. Every process is watched from its creation. A process may end before the answer to its Start is
 * back; its exit is held until then. An exec that was never started has no exit; an init has, because deleting it kills
 * what the agent made. The daemon of the CLI has no publisher: nothing happens.
 *
 * OOM kills are the guest's to tell, so their rate is bounded: NOTIFY_OOM_BURST answers are taken as they come, then
 * one in NOTIFY_OOM_USEC. The agent keeps what was not asked for yet, of containers that are still there, which take
 * turns.
 */
#pragma once

#include "base/util.h"
#include "sandbox/container.h"
#include "shim/events.h"
#include "shim/service.h"

#define NOTIFY_OOM_USEC USEC_PER_SEC
#define NOTIFY_OOM_BURST 16

struct watched;

/* After a container was created; `e` is what the request said (the fields container_id, bundle and pid are filled in).
 */
void notify_created(struct service *s, struct container *c, struct events_create *e);
/* After an exec was added. */
void notify_exec_added(struct service *s, struct process *p);

/* Around a Start that is under way. ok: it worked; then started is sent, and the exit if there has been one. */
void notify_starting(struct service *s, const char *container_id, const char *exec_id);
void notify_started(struct service *s, const char *container_id, const char *exec_id, uint32_t pid, bool ok);

/* After a container was deleted. */
void notify_deleted(struct service *s, const char *container_id, uint32_t pid, const struct process_exit *ex);

/* Starts to listen for OOM kills in the guest, once the sandbox is ready. */
void notify_watch_oom(struct service *s);

/* Forgets all, for the end. */
void notify_clear(struct service *s);
