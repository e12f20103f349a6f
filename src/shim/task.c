/* SPDX-License-Identifier: Apache-2.0 */
/*
 * containerd.task.v2.Task: each call is checked, handed to the sandbox, and answered when that is done. Those that only
 * pass through to the agent are in task_forward.c. Error codes are those containerd acts on (ttrpc/status.h).
 */
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "proto/sandbox.pb-c.h"
#include "proto/task.pb-c.h"
#include "sandbox/container.h"
#include "sandbox/process.h"
#include "shim/service.h"
#include "shim/task_call.h"

#define TYPE_CREATE_OPTIONS "stasis.sandbox.v1.CreateOptions"
#define TYPE_EXEC_SPEC "stasis.sandbox.v1.ExecSpec"
#define TYPE_PROCESS "types.containerd.io/opencontainers/runtime-spec/1/Process"

static void set_timestamp(Containerd__Task__V2__Timestamp *ts, uint64_t wall_usec) {
    containerd__task__v2__timestamp__init(ts);
    ts->seconds = (int64_t)(wall_usec / USEC_PER_SEC);
    ts->nanos = (int32_t)(wall_usec % USEC_PER_SEC * 1000);
}

/* Create, Start, Delete. */

static int take_stdio(struct ttrpc_request *req, const char *in, const char *out, const char *err_uri, bool terminal,
                      struct process_stdio *io, struct err *err) {
    io->terminal = terminal;
    int r = service_take_stdio(req, in, "stdin", &io->in, err);
    if (r == 0)
        r = service_take_stdio(req, out, "stdout", &io->out, err);
    if (r == 0 && !terminal)
        r = service_take_stdio(req, err_uri, "stderr", &io->err, err);
    return r;
}

static void on_created(void *userdata, const struct err *err) {
    struct task_call *c = userdata;
    if (err) {
        task_call_fail(c, err);
        return;
    }
    Containerd__Task__V2__CreateTaskResponse out = CONTAINERD__TASK__V2__CREATE_TASK_RESPONSE__INIT;
    out.pid = c->pid;
    task_call_reply(c, &out.base);
}

static int create(struct task_call *c, const Containerd__Task__V2__CreateTaskRequest *in, struct err *err) {
    struct process_stdio io = PROCESS_STDIO_NONE;
    int r = take_stdio(c->req, in->stdin, in->stdout, in->stderr, in->terminal, &io, err);
    struct container_spec spec = {.id = in->id, .bundle = in->bundle, .io = &io};
    if (r == 0 && in->n_rootfs)
        r = err_set(err, EOPNOTSUPP, "container %s: root file system mounts of the caller are not supported", in->id);
    if (r == 0 && *in->checkpoint)
        r = err_set(err, EOPNOTSUPP, "container %s: restoring from a checkpoint is not supported", in->id);
    if (r == 0 && !path_is_normal(in->bundle))
        r = err_set(err, EINVAL, "container %s: bundle \"%s\" is not an absolute, normal path", in->id, in->bundle);
    if (r == 0 && task_any_is(in->options, TYPE_CREATE_OPTIONS)) {
        Stasis__Sandbox__V1__CreateOptions *o =
            stasis__sandbox__v1__create_options__unpack(NULL, in->options->value.len, in->options->value.data);
        if (!o)
            r = err_set(err, EINVAL, "container %s: damaged options", in->id);
        else {
            spec.host_pid = (pid_t)MIN(o->init_pid, (uint32_t)INT32_MAX);
            io.width = o->width;
            io.height = o->height;
            stasis__sandbox__v1__create_options__free_unpacked(o, NULL);
        }
    } else if (r == 0 && in->options && *in->options->type_url) {
        log_debug("container %s: options of type %s are ignored", in->id, in->options->type_url);
    }
    if (r < 0) {
        process_stdio_close(&io);
        return r;
    }
    c->pid = (uint32_t)(spec.host_pid ? spec.host_pid : getpid());
    return container_create(c->s->sb, &spec, on_created, c, err);
}

static void handle_create(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    struct task_call *c = task_call_new(userdata, req);
    struct err err = ERR_INIT;
    if (c && create(c, (const void *)msg, &err) < 0)
        task_call_fail(c, &err);
}

static void on_started(void *userdata, const struct err *err) {
    struct task_call *c = userdata;
    if (err) {
        task_call_fail(c, err);
        return;
    }
    Containerd__Task__V2__StartResponse out = CONTAINERD__TASK__V2__START_RESPONSE__INIT;
    out.pid = c->pid;
    task_call_reply(c, &out.base);
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
        c->pid = (uint32_t)process_host_pid(p);
        r = *in->exec_id ? container_exec_start(ctr, p, on_started, c, &err)
                         : container_start(ctr, on_started, c, &err);
    }
    if (r < 0)
        task_call_fail(c, &err);
}

static void reply_deleted(struct task_call *c) {
    Containerd__Task__V2__Timestamp ts;
    set_timestamp(&ts, c->exit.wall_usec);
    Containerd__Task__V2__DeleteResponse out = CONTAINERD__TASK__V2__DELETE_RESPONSE__INIT;
    out.pid = c->pid;
    out.exit_status = c->exit.status;
    out.exited_at = &ts;
    task_call_reply(c, &out.base);
}

static void on_deleted(void *userdata, const struct err *err) {
    struct task_call *c = userdata;
    if (err)
        task_call_fail(c, err);
    else
        reply_deleted(c);
}

static void handle_delete(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Containerd__Task__V2__DeleteRequest *in = (const void *)msg;
    struct task_call *c = task_call_new(userdata, req);
    if (!c)
        return;
    struct err err = ERR_INIT;
    struct container *ctr = NULL;
    struct process *p;
    int r = task_find_process(c->s, in->id, in->exec_id, &p, &err);
    if (r == 0) {
        const struct process_exit *ex = process_get_exit(p);
        c->exit = ex ? *ex : (struct process_exit){.wall_usec = now_wall_usec()};
        c->pid = (uint32_t)process_host_pid(p);
        ctr = process_container(p);
    }
    if (r == 0 && !ctr) {
        sandbox_remove_console(c->s->sb, p);
        reply_deleted(c);
    } else if (r == 0 && *in->exec_id) {
        r = container_exec_delete(ctr, p, &err);
        if (r == 0)
            reply_deleted(c);
    } else if (r == 0) {
        r = container_delete(ctr, on_deleted, c, &err);
    }
    if (r < 0)
        task_call_fail(c, &err);
}

/* State, Wait, Exec. */

static Containerd__Task__V2__Status status_of(const struct container *ctr, const struct process *p) {
    if (*process_exec_id(p) == '\0') {
        switch (container_get_state(ctr)) {
        case CONTAINER_PAUSED:
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
    out.terminal = process_is_terminal(p);
    const struct process_exit *ex = process_get_exit(p);
    if (ex) {
        out.exit_status = ex->status;
        set_timestamp(&ts, ex->wall_usec);
        out.exited_at = &ts;
    }
    ttrpc_reply(req, &out.base);
}

static void on_process_exit(void *userdata, const struct process_exit *ex) {
    struct task_call *c = userdata;
    Containerd__Task__V2__Timestamp ts;
    set_timestamp(&ts, ex->wall_usec);
    Containerd__Task__V2__WaitResponse out = CONTAINERD__TASK__V2__WAIT_RESPONSE__INIT;
    out.exit_status = ex->status;
    out.exited_at = &ts;
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

static int exec(struct service *s, struct ttrpc_request *req, const Containerd__Task__V2__ExecProcessRequest *in,
                struct err *err) {
    struct container *ctr;
    struct process_stdio io = PROCESS_STDIO_NONE;
    /* First, so that no fd of a refused request is left on the connection for the next one. */
    int r = take_stdio(req, in->stdin, in->stdout, in->stderr, in->terminal, &io, err);
    if (r == 0)
        r = task_find_container(s, in->id, &ctr, err);
    if (r == 0 && task_any_is(in->spec, TYPE_EXEC_SPEC)) {
        Stasis__Sandbox__V1__ExecSpec *spec =
            stasis__sandbox__v1__exec_spec__unpack(NULL, in->spec->value.len, in->spec->value.data);
        if (!spec) {
            r = err_set(err, EINVAL, "exec %s: damaged spec", in->exec_id);
        } else {
            io.width = spec->width;
            io.height = spec->height;
            r = container_exec(ctr, in->exec_id, (const char *)spec->process.data, spec->process.len,
                               (pid_t)MIN(spec->pid, (uint32_t)INT32_MAX), &io, err);
            stasis__sandbox__v1__exec_spec__free_unpacked(spec, NULL);
        }
    } else if (r == 0 && task_any_is(in->spec, TYPE_PROCESS)) {
        r = container_exec(ctr, in->exec_id, (const char *)in->spec->value.data, in->spec->value.len, 0, &io, err);
    } else if (r == 0) {
        r = err_set(err, EINVAL, "exec %s: a spec of type %s cannot be used", in->exec_id,
                    in->spec ? in->spec->type_url : "(none)");
    }
    process_stdio_close(&io);
    return r;
}

static void handle_exec(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    struct err err = ERR_INIT;
    if (exec(userdata, req, (const void *)msg, &err) < 0)
        ttrpc_fail(req, &err);
    else
        ttrpc_reply(req, NULL);
}

/* Pause, Resume, CloseIO. */

static void change(struct service *s, struct ttrpc_request *req, const char *id,
                   int (*fn)(struct container *, sandbox_done_fn, void *, struct err *)) {
    struct task_call *c = task_call_new(s, req);
    if (!c)
        return;
    struct err err = ERR_INIT;
    struct container *ctr;
    int r = task_find_container(s, id, &ctr, &err);
    if (r == 0)
        r = fn(ctr, task_call_done, c, &err);
    if (r < 0)
        task_call_fail(c, &err);
}

static void handle_pause(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    change(userdata, req, ((const Containerd__Task__V2__PauseRequest *)(const void *)msg)->id, container_pause);
}

static void handle_resume(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    change(userdata, req, ((const Containerd__Task__V2__ResumeRequest *)(const void *)msg)->id, container_resume);
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

static void handle_connect(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    struct service *s = userdata;
    const Containerd__Task__V2__ConnectRequest *in = (const void *)msg;
    Containerd__Task__V2__ConnectResponse out = CONTAINERD__TASK__V2__CONNECT_RESPONSE__INIT;
    struct container *ctr = sandbox_find(s->sb, in->id);
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
    {"Create", handle_create},
    {"Start", handle_start},
    {"Delete", handle_delete},
    {"Pids", task_handle_pids},
    {"Pause", handle_pause},
    {"Resume", handle_resume},
    {"Kill", task_handle_kill},
    {"Exec", handle_exec},
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

int service_add_task(struct service *s, struct err *err) {
    return ttrpc_server_add(s->server, &task_service, s, err);
}
