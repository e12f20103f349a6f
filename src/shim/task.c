/* SPDX-License-Identifier: Apache-2.0 */
/*
 * containerd.task.v2.Task, and v3 with the same messages: each call is checked, handed to the sandbox, and answered
 * when that is done. Those that open stdio are in task_create.c, those that only pass through to the agent in
 * task_forward.c. Error codes are those containerd acts on (ttrpc/status.h).
 */
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/path.h"
#include "proto/task.pb-c.h"
#include "sandbox/checkpoint.h"
#include "sandbox/container.h"
#include "sandbox/process.h"
#include "shim/notify.h"
#include "shim/service.h"
#include "shim/task_call.h"
#include "shim/timestamp.h"

#define EXIT_KILLED 137 /* of a container that never started: 128 + SIGKILL, which its deletion sends */

/* Create, Start, Delete. */

static void on_started(void *userdata, const struct err *err) {
    struct task_call *c = userdata;
    notify_started(c->s, c->id, c->exec_id, c->pid, !err);
    if (err) {
        task_call_fail(c, err);
        return;
    }
    Containerd__Task__V2__StartResponse out = CONTAINERD__TASK__V2__START_RESPONSE__INIT;
    out.pid = c->pid;
    task_call_reply(c, &out.base);
}

/* Of a restore; everything else that Start does is done in a moment. */
static void on_start_abandoned(struct ttrpc_request *req, enum ttrpc_abandoned why, void *userdata) {
    struct task_call *c = userdata;
    struct container *ctr = sandbox_find(c->s->sb, c->id);
    struct err err = ERR_INIT;
    (void)req;
    /* A containerd that has ended comes back, and finds the task. */
    if (c->s->namespace && why == TTRPC_ABANDONED_LOST)
        return;
    err_set(&err, why == TTRPC_ABANDONED_LATE ? ETIMEDOUT : ECANCELED, "%s", ttrpc_abandoned_text(why));
    if (ctr)
        container_restore_abandon(ctr, &err);
    /* The stasis CLI, which made this sandbox for the restore, was killed: nobody will try again. */
    if (ctr && why == TTRPC_ABANDONED_LOST && container_is_restoring(ctr)) {
        log_warn("the restore is not done to the end: %s", err.msg);
        (void)sd_event_exit(c->s->event, 0);
    }
}

static void handle_start(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Containerd__Task__V2__StartRequest *in = (const void *)msg;
    struct task_call *c = task_call_new(userdata, req);
    if (!c)
        return;
    struct err err = ERR_INIT;
    struct container *ctr;
    struct process *p;
    int r = task_find_container(c->s, in->id, &ctr, &err);
    if (r == 0)
        r = task_find_process(c->s, in->id, in->exec_id, &p, &err);
    if (r == 0) {
        snprintf(c->id, sizeof(c->id), "%s", in->id);
        snprintf(c->exec_id, sizeof(c->exec_id), "%s", in->exec_id);
        c->pid = (uint32_t)process_host_pid(p);
        if (!*in->exec_id)
            r = ttrpc_request_on_abandoned(req, on_start_abandoned, c, &err);
    }
    if (r == 0) {
        r = *in->exec_id ? container_exec_start(ctr, p, on_started, c, &err)
                         : container_start(ctr, on_started, c, &err);
    }
    if (r == 0) /* not before: another Start may be under way, and this one was refused */
        notify_starting(c->s, in->id, in->exec_id);
    if (r < 0)
        task_call_fail(c, &err);
}

static void reply_deleted(struct task_call *c) {
    Containerd__Task__V2__Timestamp ts = timestamp_of(c->exit.wall_usec);
    Containerd__Task__V2__DeleteResponse out = CONTAINERD__TASK__V2__DELETE_RESPONSE__INIT;
    out.pid = c->pid;
    out.exit_status = c->exit.status;
    out.exited_at = &ts;
    task_call_reply(c, &out.base);
}

static void on_deleted(void *userdata, const struct err *err) {
    struct task_call *c = userdata;
    if (err) {
        task_call_fail(c, err);
        return;
    }
    notify_deleted(c->s, c->id, c->pid, &c->exit);
    reply_deleted(c);
}

static void delete_again(void *userdata);

static int delete_container(struct task_call *c, struct container *ctr, struct err *err) {
    /* Of two who delete it the second finds, as with runc's shim, that it is gone; or takes over where the first
     * failed. */
    return container_get_state(ctr) == CONTAINER_DELETING ? container_when_idle(ctr, delete_again, c, err)
                                                          : container_delete(ctr, on_deleted, c, err);
}

static int delete_process(struct task_call *c, struct err *err) {
    const Containerd__Task__V2__DeleteRequest *in = c->in;
    struct process *p;
    int r = task_find_process(c->s, in->id, in->exec_id, &p, err);
    if (r < 0)
        return r;
    const struct process_exit *ex = process_get_exit(p);
    c->exit = ex ? *ex : (struct process_exit){.status = *in->exec_id ? 0 : EXIT_KILLED, .wall_usec = now_wall_usec()};
    c->pid = (uint32_t)process_host_pid(p);
    struct container *ctr = process_container(p);
    if (ctr && !*in->exec_id) {
        snprintf(c->id, sizeof(c->id), "%s", in->id);
        return delete_container(c, ctr, err);
    }
    if (ctr)
        r = container_exec_delete(ctr, p, err);
    else
        sandbox_remove_console(c->s->sb, p);
    if (r == 0)
        reply_deleted(c);
    return r;
}

static void delete_again(void *userdata) {
    struct task_call *c = userdata;
    struct err err = ERR_INIT;
    if (delete_process(c, &err) < 0)
        task_call_fail(c, &err);
}

static void handle_delete(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    struct task_call *c = task_call_new(userdata, req);
    if (!c)
        return;
    struct err err = ERR_INIT;
    c->in = msg;
    if (delete_process(c, &err) < 0)
        task_call_fail(c, &err);
}

/* State, Wait, Exec. */

static Containerd__Task__V2__Status status_of(const struct container *ctr, const struct process *p) {
    if (*process_exec_id(p) == '\0') {
        switch (container_get_state(ctr)) {
        case CONTAINER_PAUSED:
        case CONTAINER_RESUMING:
        case CONTAINER_CHECKPOINTING: /* frozen, or about to be */
            return CONTAINERD__TASK__V2__STATUS__PAUSED;
        case CONTAINER_PAUSING:
            return CONTAINERD__TASK__V2__STATUS__PAUSING;
        case CONTAINER_RUNNING:
            return CONTAINERD__TASK__V2__STATUS__RUNNING;
        case CONTAINER_STOPPED:
        case CONTAINER_DELETING:
            return CONTAINERD__TASK__V2__STATUS__STOPPED;
        default:
            return CONTAINERD__TASK__V2__STATUS__CREATED;
        }
    }
    switch (process_get_state(p)) {
    case PROCESS_RUNNING:
        return CONTAINERD__TASK__V2__STATUS__RUNNING;
    case PROCESS_EXITED:
        return CONTAINERD__TASK__V2__STATUS__STOPPED;
    default:
        return CONTAINERD__TASK__V2__STATUS__CREATED;
    }
}

static void handle_state(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    struct service *s = userdata;
    const Containerd__Task__V2__StateRequest *in = (const void *)msg;
    struct err err = ERR_INIT;
    struct process *p;
    if (task_find_process(s, in->id, in->exec_id, &p, &err) < 0) {
        ttrpc_fail(req, &err);
        return;
    }
    struct container *ctr = process_container(p);
    Containerd__Task__V2__StateResponse out = CONTAINERD__TASK__V2__STATE_RESPONSE__INIT;
    Containerd__Task__V2__Timestamp ts;
    out.id = in->id;
    out.exec_id = in->exec_id;
    out.bundle = ctr ? (char *)(uintptr_t)container_bundle(ctr) : out.bundle;
    out.pid = (uint32_t)process_host_pid(p);
    out.status = ctr ? status_of(ctr, p) : CONTAINERD__TASK__V2__STATUS__RUNNING;
    out.stdin = (char *)(uintptr_t)process_uri(p, 0);
    out.stdout = (char *)(uintptr_t)process_uri(p, 1);
    out.stderr = (char *)(uintptr_t)process_uri(p, 2);
    out.terminal = process_is_terminal(p);
    const struct process_exit *ex = process_get_exit(p);
    if (ex) {
        out.exit_status = ex->status;
        ts = timestamp_of(ex->wall_usec);
        out.exited_at = &ts;
    }
    ttrpc_reply(req, &out.base);
}

static void on_process_exit(void *userdata, const struct process_exit *ex) {
    struct task_call *c = userdata;
    Containerd__Task__V2__Timestamp ts = timestamp_of(ex->wall_usec);
    Containerd__Task__V2__WaitResponse out = CONTAINERD__TASK__V2__WAIT_RESPONSE__INIT;
    out.exit_status = ex->status;
    out.exited_at = &ts;
    if (sandbox_death_cause(c->s->sb))
        out.vm_death = (char *)(uintptr_t)sandbox_death_cause(c->s->sb);
    task_call_reply(c, &out.base);
}

/* Nobody waits for the answer any more. */
static void on_wait_cancelled(struct ttrpc_request *req, void *userdata) {
    (void)req;
    struct task_call *c = userdata;
    struct err err = ERR_INIT;
    err_set(&err, ECANCELED, "the connection is lost");
    process_wait_cancel(c->process, c);
    task_call_fail(c, &err);
}

static void handle_wait(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Containerd__Task__V2__WaitRequest *in = (const void *)msg;
    struct task_call *c = task_call_new(userdata, req);
    if (!c)
        return;
    struct err err = ERR_INIT;
    struct process *p;
    int r = task_find_process(c->s, in->id, in->exec_id, &p, &err);
    if (r == 0)
        r = process_wait(p, on_process_exit, c, &err);
    if (r < 0) {
        task_call_fail(c, &err);
        return;
    }
    c->process = p; /* which tells its waiters before it is freed */
    ttrpc_request_on_cancel(req, on_wait_cancelled, c);
}

/* Pause, Resume, CloseIO. */

static void change(struct service *s, struct ttrpc_request *req, const char *id,
                   int (*fn)(struct container *, sandbox_done_fn, void *, struct err *), sandbox_done_fn done) {
    struct task_call *c = task_call_new(s, req);
    if (!c)
        return;
    struct err err = ERR_INIT;
    struct container *ctr;
    snprintf(c->id, sizeof(c->id), "%s", id);
    int r = task_find_container(s, id, &ctr, &err);
    if (r == 0)
        r = fn(ctr, done, c, &err);
    if (r < 0)
        task_call_fail(c, &err);
}

static void on_paused(void *userdata, const struct err *err) {
    struct task_call *c = userdata;
    if (!err)
        events_task_paused(c->s->publisher, c->id);
    task_call_done(c, err);
}

static void on_resumed(void *userdata, const struct err *err) {
    struct task_call *c = userdata;
    if (!err)
        events_task_resumed(c->s->publisher, c->id);
    task_call_done(c, err);
}

static void handle_pause(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    change(userdata, req, ((const Containerd__Task__V2__PauseRequest *)(const void *)msg)->id, container_pause,
           on_paused);
}

static void handle_resume(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    change(userdata, req, ((const Containerd__Task__V2__ResumeRequest *)(const void *)msg)->id, container_resume,
           on_resumed);
}

static void handle_close_io(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    struct service *s = userdata;
    const Containerd__Task__V2__CloseIORequest *in = (const void *)msg;
    struct err err = ERR_INIT;
    struct process *p;
    if (task_find_process(s, in->id, in->exec_id, &p, &err) < 0) {
        ttrpc_fail(req, &err);
        return;
    }
    if (in->stdin)
        process_close_input(p);
    ttrpc_reply(req, NULL);
}

/* containerd asks this first of every task it finds when it starts. For one that does not exist it must be refused:
 * it would hold the connection, and so keep a sandbox alive into which no container ever comes, because the
 * containerd that was to create it is gone. */
static void handle_connect(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    struct service *s = userdata;
    const Containerd__Task__V2__ConnectRequest *in = (const void *)msg;
    Containerd__Task__V2__ConnectResponse out = CONTAINERD__TASK__V2__CONNECT_RESPONSE__INIT;
    struct container *ctr = NULL;
    struct err err = ERR_INIT;
    if (*in->id && task_find_container(s, in->id, &ctr, &err) < 0) { /* a console's caller has no container's id */
        ttrpc_fail(req, &err);
        return;
    }
    out.shim_pid = (uint32_t)getpid();
    out.task_pid = ctr ? (uint32_t)process_host_pid(container_find(ctr, "")) : 0;
    out.version = (char *)(uintptr_t)STASIS_VERSION;
    ttrpc_reply(req, &out.base);
}

static void handle_shutdown(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    struct service *s = userdata;
    const Containerd__Task__V2__ShutdownRequest *in = (const void *)msg;
    /* As containerd's own shims: while containers are left, only an urgent shutdown is obeyed. */
    bool go = in->now || sandbox_count(s->sb) == 0;
    ttrpc_reply(req, NULL);
    if (go)
        (void)sd_event_exit(s->event, 0);
}

static const struct ttrpc_handler handlers[] = {
    {"State", handle_state},
    {"Create", task_handle_create},
    {"Start", handle_start},
    {"Delete", handle_delete},
    {"Checkpoint", task_handle_checkpoint},
    {"Pids", task_handle_pids},
    {"Pause", handle_pause},
    {"Resume", handle_resume},
    {"Kill", task_handle_kill},
    {"Exec", task_handle_exec},
    {"Wait", handle_wait},
    {"ResizePty", task_handle_resize},
    {"CloseIO", handle_close_io},
    {"Update", task_handle_update},
    {"Stats", task_handle_stats},
    {"Connect", handle_connect},
    {"Shutdown", handle_shutdown},
    {NULL, NULL},
};

static const struct ttrpc_service task_service = {
    .desc = &containerd__task__v2__task__descriptor,
    .name = "containerd.task.v2.Task",
    .handlers = handlers,
};

static const struct ttrpc_service task_service_v3 = {
    .desc = &containerd__task__v2__task__descriptor,
    .name = "containerd.task.v3.Task",
    .handlers = handlers,
};

int service_add_task(struct service *s, struct err *err) {
    int r = ttrpc_server_add(s->server, &task_service, s, err);
    return r < 0 ? r : ttrpc_server_add(s->server, &task_service_v3, s, err);
}
