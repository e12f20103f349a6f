/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/events.h"

#include "base/log.h"
#include "proto/events.pb-c.h"
#include "shim/timestamp.h"

/* protobuf-c's messages have no const; encoding only reads. */
static char *str(const char *s) {
    return (char *)(uintptr_t)s;
}

static Containerd__Task__V2__Mount mount_of(const struct events_mount *from) {
    Containerd__Task__V2__Mount m = CONTAINERD__TASK__V2__MOUNT__INIT;
    m.type = str(from->type);
    m.source = str(from->source);
    m.target = str(from->target);
    m.options = (char **)(uintptr_t)from->options;
    m.n_options = from->n_options;
    return m;
}

static void send_create(struct publisher *p, const struct events_create *create, Containerd__Task__V2__Mount **rootfs,
                        size_t n_rootfs) {
    Containerd__Events__TaskIO io = CONTAINERD__EVENTS__TASK_IO__INIT;
    Containerd__Events__TaskCreate m = CONTAINERD__EVENTS__TASK_CREATE__INIT;
    io.stdin = str(create->stdin);
    io.stdout = str(create->stdout);
    io.stderr = str(create->stderr);
    io.terminal = create->terminal;
    m.container_id = str(create->container_id);
    m.bundle = str(create->bundle);
    m.rootfs = rootfs;
    m.n_rootfs = n_rootfs;
    m.io = &io;
    m.checkpoint = str(create->checkpoint);
    m.pid = create->pid;
    publisher_send(p, "/tasks/create", "containerd.events.TaskCreate", &m.base);
}

void events_task_create(struct publisher *p, const struct events_create *create) {
    size_t n = create->n_rootfs;
    if (!p)
        return;
    cleanup_free Containerd__Task__V2__Mount *mounts = calloc(n + 1, sizeof(*mounts));
    cleanup_free Containerd__Task__V2__Mount **list = calloc(n + 1, sizeof(Containerd__Task__V2__Mount *));
    if (!mounts || !list) {
        /* The event matters more than what it says of the mounts. */
        log_warn("event /tasks/create of %s: out of memory for its mounts", create->container_id);
        send_create(p, create, NULL, 0);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        mounts[i] = mount_of(&create->rootfs[i]);
        list[i] = &mounts[i];
    }
    send_create(p, create, list, n);
}

void events_task_start(struct publisher *p, const char *container_id, uint32_t pid) {
    Containerd__Events__TaskStart m = CONTAINERD__EVENTS__TASK_START__INIT;
    m.container_id = str(container_id);
    m.pid = pid;
    publisher_send(p, "/tasks/start", "containerd.events.TaskStart", &m.base);
}

void events_task_exit(struct publisher *p, const char *container_id, const char *id, uint32_t pid, uint32_t status,
                      uint64_t exited_wall_usec) {
    Containerd__Events__TaskExit m = CONTAINERD__EVENTS__TASK_EXIT__INIT;
    Containerd__Task__V2__Timestamp exited_at = timestamp_of(exited_wall_usec);
    m.container_id = str(container_id);
    m.id = str(id);
    m.pid = pid;
    m.exit_status = status;
    m.exited_at = &exited_at;
    publisher_send(p, "/tasks/exit", "containerd.events.TaskExit", &m.base);
}

void events_task_delete(struct publisher *p, const char *container_id, const char *id, uint32_t pid, uint32_t status,
                        uint64_t exited_wall_usec) {
    Containerd__Events__TaskDelete m = CONTAINERD__EVENTS__TASK_DELETE__INIT;
    Containerd__Task__V2__Timestamp exited_at = timestamp_of(exited_wall_usec);
    m.container_id = str(container_id);
    m.id = str(id);
    m.pid = pid;
    m.exit_status = status;
    m.exited_at = &exited_at;
    publisher_send(p, "/tasks/delete", "containerd.events.TaskDelete", &m.base);
}

void events_task_exec_added(struct publisher *p, const char *container_id, const char *exec_id) {
    Containerd__Events__TaskExecAdded m = CONTAINERD__EVENTS__TASK_EXEC_ADDED__INIT;
    m.container_id = str(container_id);
    m.exec_id = str(exec_id);
    publisher_send(p, "/tasks/exec-added", "containerd.events.TaskExecAdded", &m.base);
}

void events_task_exec_started(struct publisher *p, const char *container_id, const char *exec_id, uint32_t pid) {
    Containerd__Events__TaskExecStarted m = CONTAINERD__EVENTS__TASK_EXEC_STARTED__INIT;
    m.container_id = str(container_id);
    m.exec_id = str(exec_id);
    m.pid = pid;
    publisher_send(p, "/tasks/exec-started", "containerd.events.TaskExecStarted", &m.base);
}

void events_task_oom(struct publisher *p, const char *container_id) {
    Containerd__Events__TaskOOM m = CONTAINERD__EVENTS__TASK_OOM__INIT;
    m.container_id = str(container_id);
    publisher_send(p, "/tasks/oom", "containerd.events.TaskOOM", &m.base);
}

void events_task_paused(struct publisher *p, const char *container_id) {
    Containerd__Events__TaskPaused m = CONTAINERD__EVENTS__TASK_PAUSED__INIT;
    m.container_id = str(container_id);
    publisher_send(p, "/tasks/paused", "containerd.events.TaskPaused", &m.base);
}

void events_task_resumed(struct publisher *p, const char *container_id) {
    Containerd__Events__TaskResumed m = CONTAINERD__EVENTS__TASK_RESUMED__INIT;
    m.container_id = str(container_id);
    publisher_send(p, "/tasks/resumed", "containerd.events.TaskResumed", &m.base);
}

void events_task_checkpointed(struct publisher *p, const char *container_id, const char *checkpoint) {
    Containerd__Events__TaskCheckpointed m = CONTAINERD__EVENTS__TASK_CHECKPOINTED__INIT;
    m.container_id = str(container_id);
    m.checkpoint = str(checkpoint);
    publisher_send(p, "/tasks/checkpointed", "containerd.events.TaskCheckpointed", &m.base);
}
