/* SPDX-License-Identifier: Apache-2.0 */
/*
 * containerd's task events (api/events/task.proto), one function each. Strings are copied; NULL is as good as "".
 * p may be NULL: nothing happens. containerd expects create < start < exit < delete of each process; the order
 * of the calls is the order of the events.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shim/publish.h"

struct events_mount {
    const char *type, *source, *target;
    char *const *options;
    size_t n_options;
};

struct events_create {
    const char *container_id, *bundle;
    const char *stdin, *stdout, *stderr; /* as they were requested */
    bool terminal;
    const char *checkpoint; /* that the task begins with; "" none */
    uint32_t pid;
    const struct events_mount *rootfs;
    size_t n_rootfs;
};

void events_task_create(struct publisher *p, const struct events_create *create);
void events_task_start(struct publisher *p, const char *container_id, uint32_t pid);

/* id: the exec's; the container's own of its init. */
void events_task_exit(struct publisher *p, const char *container_id, const char *id, uint32_t pid, uint32_t status,
                      uint64_t exited_wall_usec);

/* id: the exec's; "" of the init. containerd's own shims send it for the init only. */
void events_task_delete(struct publisher *p, const char *container_id, const char *id, uint32_t pid, uint32_t status,
                        uint64_t exited_wall_usec);

void events_task_exec_added(struct publisher *p, const char *container_id, const char *exec_id);
void events_task_exec_started(struct publisher *p, const char *container_id, const char *exec_id, uint32_t pid);
void events_task_oom(struct publisher *p, const char *container_id);
void events_task_paused(struct publisher *p, const char *container_id);
void events_task_resumed(struct publisher *p, const char *container_id);
void events_task_checkpointed(struct publisher *p, const char *container_id, const char *checkpoint);
