/* SPDX-License-Identifier: Apache-2.0 */
/*
 * containerd.task.v2.Task: each call is checked, handed to the sandbox, and answered when that is done. Calls that only
 * pass through to the agent share forward(). Error codes are those containerd acts on (ttrpc/status.h).
 */
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/path.h"
#include "oci/spec.h"
#include "proto/sandbox.pb-c.h"
#include "proto/task.pb-c.h"
#include "sandbox/container.h"
#include "sandbox/process.h"
#include "shim/service.h"

#define TYPE_CREATE_OPTIONS "stasis.sandbox.v1.CreateOptions"
#define TYPE_EXEC_SPEC "stasis.sandbox.v1.ExecSpec"
#define TYPE_PROCESS "types.containerd.io/opencontainers/runtime-spec/1/Process"
#define TYPE_RESOURCES "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
#define TYPE_METRICS "io.containerd.cgroups.v2.Metrics"
#define TYPE_DETAILS "stasis.agent.v1.ProcessDetails"

typedef Containerd__Task__V2__Any any_t;

/* A request on its way: what the callback needs to answer it. */
struct call {
    struct service *s;
    struct ttrpc_request *req;
    struct process *process; /* that is waited for */
    char exec_id[ID_MAX + 1];
    struct process_exit exit;
    uint32_t pid;
};

static struct call *call_new(struct service *s, struct ttrpc_request *req) {
    struct call *c = calloc(1, sizeof(*c));
    if (!c) {
        struct err err = ERR_INIT;
        err_set(&err, ENOMEM, "out of memory");
        ttrpc_fail(req, &err);
        return NULL;
    }
    c->s = s;
    c->req = req;
    return c;
}

static void call_fail(struct call *c, const struct err *err) {
    ttrpc_fail(c->req, err);
    free(c);
}

static void call_reply(struct call *c, const ProtobufCMessage *out) {
    ttrpc_reply(c->req, out);
    free(c);
}

static int find_container(struct service *s, const char *id, struct container **ret, struct err *err) {
    *ret = sandbox_find(s->sb, id);
    return *ret ? 0 : err_set(err, ENOENT, "container %s does not exist", id);
}

static int find_process(struct service *s, const char *id, const char *exec_id, struct process **ret, struct err *err) {
    if (*id == '\0' && *exec_id) {
        *ret = sandbox_find_console(s->sb, exec_id);
        return *ret ? 0 : err_set(err, ENOENT, "console %s does not exist", exec_id);
    }
    struct container *c;
    int r = find_container(s, id, &c, err);
    if (r < 0)
        return r;
    *ret = container_find(c, exec_id);
    return *ret ? 0 : err_set(err, ENOENT, "exec %s of container %s does not exist", exec_id, id);
}

static bool any_is(const any_t *any, const char *type) {
    return any && strcmp(any->type_url, type) == 0;
}

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
    struct call *c = userdata;
    if (err) {
        call_fail(c, err);
        return;
    }
    Containerd__Task__V2__CreateTaskResponse out = CONTAINERD__TASK__V2__CREATE_TASK_RESPONSE__INIT;
    out.pid = c->pid;
    call_reply(c, &out.base);
}

static int create(struct call *c, const Containerd__Task__V2__CreateTaskRequest *in, struct err *err) {
    struct process_stdio io = PROCESS_STDIO_NONE;
    int r = take_stdio(c->req, in->stdin, in->stdout, in->stderr, in->terminal, &io, err);
    struct container_spec spec = {.id = in->id, .bundle = in->bundle, .io = &io};
    if (r == 0 && in->n_rootfs)
        r = err_set(err, EOPNOTSUPP, "container %s: root file system mounts of the caller are not supported", in->id);
    if (r == 0 && *in->checkpoint)
        r = err_set(err, EOPNOTSUPP, "container %s: restoring from a checkpoint is not supported", in->id);
    if (r == 0 && !path_is_normal(in->bundle))
        r = err_set(err, EINVAL, "container %s: bundle \"%s\" is not an absolute, normal path", in->id, in->bundle);
    if (r == 0 && any_is(in->options, TYPE_CREATE_OPTIONS)) {
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
    struct call *c = call_new(userdata, req);
    struct err err = ERR_INIT;
    if (c && create(c, (const void *)msg, &err) < 0)
        call_fail(c, &err);
}

static void on_started(void *userdata, const struct err *err) {
    struct call *c = userdata;
    if (err) {
        call_fail(c, err);
        return;
    }
    Containerd__Task__V2__StartResponse out = CONTAINERD__TASK__V2__START_RESPONSE__INIT;
    out.pid = c->pid;
    call_reply(c, &out.base);
}

static void handle_start(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Containerd__Task__V2__StartRequest *in = (const void *)msg;
    struct call *c = call_new(userdata, req);
    if (!c)
        return;
    struct err err = ERR_INIT;
    struct container *ctr;
    struct process *p;
    int r = find_container(c->s, in->id, &ctr, &err);
    if (r == 0)
        r = find_process(c->s, in->id, in->exec_id, &p, &err);
    if (r == 0) {
        c->pid = (uint32_t)process_host_pid(p);
        r = *in->exec_id ? container_exec_start(ctr, p, on_started, c, &err)
                         : container_start(ctr, on_started, c, &err);
    }
    if (r < 0)
        call_fail(c, &err);
}

static void reply_deleted(struct call *c) {
    Containerd__Task__V2__Timestamp ts;
    set_timestamp(&ts, c->exit.wall_usec);
    Containerd__Task__V2__DeleteResponse out = CONTAINERD__TASK__V2__DELETE_RESPONSE__INIT;
    out.pid = c->pid;
    out.exit_status = c->exit.status;
    out.exited_at = &ts;
    call_reply(c, &out.base);
}

static void on_deleted(void *userdata, const struct err *err) {
    struct call *c = userdata;
    if (err)
        call_fail(c, err);
    else
        reply_deleted(c);
}

static void handle_delete(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Containerd__Task__V2__DeleteRequest *in = (const void *)msg;
    struct call *c = call_new(userdata, req);
    if (!c)
        return;
    struct err err = ERR_INIT;
    struct container *ctr = NULL;
    struct process *p;
    int r = find_process(c->s, in->id, in->exec_id, &p, &err);
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
        call_fail(c, &err);
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
    if (find_process(s, in->id, in->exec_id, &p, &err) < 0) {
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
    struct call *c = userdata;
    Containerd__Task__V2__Timestamp ts;
    set_timestamp(&ts, ex->wall_usec);
    Containerd__Task__V2__WaitResponse out = CONTAINERD__TASK__V2__WAIT_RESPONSE__INIT;
    out.exit_status = ex->status;
    out.exited_at = &ts;
    call_reply(c, &out.base);
}

/* Nobody waits for the answer any more. */
static void on_wait_cancelled(struct ttrpc_request *req, void *userdata) {
    (void)req;
    struct call *c = userdata;
    struct err err = ERR_INIT;
    err_set(&err, ECANCELED, "the connection is lost");
    process_wait_cancel(c->process, c);
    call_fail(c, &err);
}

static void handle_wait(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Containerd__Task__V2__WaitRequest *in = (const void *)msg;
    struct call *c = call_new(userdata, req);
    if (!c)
        return;
    struct err err = ERR_INIT;
    struct process *p;
    int r = find_process(c->s, in->id, in->exec_id, &p, &err);
    if (r == 0)
        r = process_wait(p, on_process_exit, c, &err);
    if (r < 0) {
        call_fail(c, &err);
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
        r = find_container(s, in->id, &ctr, err);
    if (r == 0 && any_is(in->spec, TYPE_EXEC_SPEC)) {
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
    } else if (r == 0 && any_is(in->spec, TYPE_PROCESS)) {
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

/* Pause, Resume. */

static void on_done(void *userdata, const struct err *err) {
    struct call *c = userdata;
    if (err)
        call_fail(c, err);
    else
        call_reply(c, NULL);
}

static void change(struct service *s, struct ttrpc_request *req, const char *id,
                   int (*fn)(struct container *, sandbox_done_fn, void *, struct err *)) {
    struct call *c = call_new(s, req);
    if (!c)
        return;
    struct err err = ERR_INIT;
    struct container *ctr;
    int r = find_container(s, id, &ctr, &err);
    if (r == 0)
        r = fn(ctr, on_done, c, &err);
    if (r < 0)
        call_fail(c, &err);
}

static void handle_pause(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    change(userdata, req, ((const Containerd__Task__V2__PauseRequest *)(const void *)msg)->id, container_pause);
}

static void handle_resume(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    change(userdata, req, ((const Containerd__Task__V2__ResumeRequest *)(const void *)msg)->id, container_resume);
}

/* Calls that go to the agent as they are. */

static void on_forwarded(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    (void)reply;
    on_done(userdata, err);
}

static void forward(struct call *c, const char *method, const ProtobufCMessage *msg, ttrpc_reply_fn fn) {
    struct err err = ERR_INIT;
    if (sandbox_call(c->s->sb, method, msg, fn, c, NULL, &err) < 0)
        call_fail(c, &err);
}

static int find_live_process(struct service *s, const char *id, const char *exec_id, struct process **ret,
                             struct err *err) {
    int r = find_process(s, id, exec_id, ret, err);
    if (r < 0)
        return r;
    if (process_get_state(*ret) == PROCESS_EXITED)
        return err_set(err, ESRCH, "process already finished");
    return 0;
}

static void handle_kill(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Containerd__Task__V2__KillRequest *in = (const void *)msg;
    struct call *c = call_new(userdata, req);
    if (!c)
        return;
    struct err err = ERR_INIT;
    struct process *p;
    int r = find_live_process(c->s, in->id, in->exec_id, &p, &err);
    if (r == 0 && (in->signal == 0 || in->signal > 64))
        r = err_set(&err, EINVAL, "invalid signal %u", in->signal);
    if (r == 0 && *in->exec_id && process_get_state(p) == PROCESS_CREATED)
        r = err_set(&err, EBUSY, "exec %s was not started", in->exec_id);
    if (r < 0) {
        call_fail(c, &err);
        return;
    }
    Stasis__Agent__V1__ProcessId id = process_agent_id(p);
    Stasis__Agent__V1__SignalRequest out = STASIS__AGENT__V1__SIGNAL_REQUEST__INIT;
    out.id = &id;
    out.signal = in->signal;
    out.all = in->all;
    forward(c, "Signal", &out.base, on_forwarded);
}

static void handle_resize(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Containerd__Task__V2__ResizePtyRequest *in = (const void *)msg;
    struct call *c = call_new(userdata, req);
    if (!c)
        return;
    struct err err = ERR_INIT;
    struct process *p;
    int r = find_live_process(c->s, in->id, in->exec_id, &p, &err);
    if (r == 0 && !process_is_terminal(p))
        r = err_set(&err, EINVAL, "the process has no terminal");
    if (r < 0) {
        call_fail(c, &err);
        return;
    }
    Stasis__Agent__V1__ProcessId id = process_agent_id(p);
    Stasis__Agent__V1__ResizeRequest out = STASIS__AGENT__V1__RESIZE_REQUEST__INIT;
    out.id = &id;
    out.width = in->width;
    out.height = in->height;
    forward(c, "Resize", &out.base, on_forwarded);
}

static void handle_close_io(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    struct service *s = userdata;
    const Containerd__Task__V2__CloseIORequest *in = (const void *)msg;
    struct err err = ERR_INIT;
    struct process *p;
    if (find_process(s, in->id, in->exec_id, &p, &err) < 0) {
        ttrpc_fail(req, &err);
        return;
    }
    if (in->stdin)
        process_close_input(p);
    ttrpc_reply(req, NULL);
}

static int resources_for_guest(const Containerd__Task__V2__UpdateTaskRequest *in, char **ret, struct err *err) {
    cleanup_json json_t *resources = NULL;
    cleanup_json json_t *guest = NULL;
    cleanup_strv struct strv notes = {0};
    int r = json_parse("resources", (const char *)in->resources->value.data, in->resources->value.len, &resources, err);
    if (r == 0)
        r = oci_resources_for_guest(resources, &guest, &notes, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < notes.n; i++)
        log_warn("container %s: update: %s", in->id, notes.v[i]);
    *ret = json_text(guest, JSON_COMPACT);
    return *ret ? 0 : err_set(err, ENOMEM, "out of memory");
}

static void handle_update(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Containerd__Task__V2__UpdateTaskRequest *in = (const void *)msg;
    struct call *c = call_new(userdata, req);
    if (!c)
        return;
    struct err err = ERR_INIT;
    struct container *ctr;
    int r = find_container(c->s, in->id, &ctr, &err);
    if (r == 0 && !any_is(in->resources, TYPE_RESOURCES))
        r = err_set(&err, EINVAL, "update of container %s: resources of type %s cannot be used", in->id,
                    in->resources ? in->resources->type_url : "(none)");
    if (r == 0 && container_get_state(ctr) == CONTAINER_STOPPED)
        r = err_set(&err, EBUSY, "cannot update container %s: it is stopped", in->id);
    if (r < 0) {
        call_fail(c, &err);
        return;
    }
    cleanup_free char *text = NULL;
    if (resources_for_guest(in, &text, &err) < 0) {
        call_fail(c, &err);
        return;
    }
    Stasis__Agent__V1__UpdateRequest out = STASIS__AGENT__V1__UPDATE_REQUEST__INIT;
    out.id = in->id;
    out.resources.data = (uint8_t *)text;
    out.resources.len = strlen(text);
    forward(c, "Update", &out.base, on_forwarded);
}

#define PIDS_MAX 4096

static void on_pids(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct call *c = userdata;
    if (err) {
        call_fail(c, err);
        return;
    }
    const Stasis__Agent__V1__ProcessesResponse *r = (const void *)*reply;
    size_t n = MIN(r->n_processes, (size_t)PIDS_MAX);
    cleanup_free Containerd__Task__V2__ProcessInfo *infos = calloc(MAX(n, 1), sizeof(*infos));
    cleanup_free Containerd__Task__V2__ProcessInfo **list =
        calloc(MAX(n, 1), sizeof(Containerd__Task__V2__ProcessInfo *));
    cleanup_free any_t *anys = calloc(MAX(n, 1), sizeof(*anys));
    size_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += stasis__agent__v1__process_details__get_packed_size(r->processes[i]);
    cleanup_free uint8_t *buf = malloc(MAX(total, 1));
    if (!infos || !list || !anys || !buf) {
        struct err e = ERR_INIT;
        err_set(&e, ENOMEM, "out of memory");
        call_fail(c, &e);
        return;
    }
    Containerd__Task__V2__PidsResponse out = CONTAINERD__TASK__V2__PIDS_RESPONSE__INIT;
    uint8_t *at = buf;
    for (size_t i = 0; i < n; i++) {
        containerd__task__v2__any__init(&anys[i]);
        anys[i].type_url = (char *)(uintptr_t)TYPE_DETAILS;
        anys[i].value.data = at;
        anys[i].value.len = stasis__agent__v1__process_details__pack(r->processes[i], at);
        at += anys[i].value.len;
        containerd__task__v2__process_info__init(&infos[i]);
        infos[i].pid = r->processes[i]->pid;
        infos[i].info = &anys[i];
        list[i] = &infos[i];
    }
    out.n_processes = n;
    out.processes = list;
    call_reply(c, &out.base);
}

static void on_stats(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct call *c = userdata;
    if (err) {
        call_fail(c, err);
        return;
    }
    const Stasis__Agent__V1__StatsResponse *r = (const void *)*reply;
    any_t any = CONTAINERD__TASK__V2__ANY__INIT;
    any.type_url = (char *)(uintptr_t)TYPE_METRICS;
    any.value = r->metrics;
    Containerd__Task__V2__StatsResponse out = CONTAINERD__TASK__V2__STATS_RESPONSE__INIT;
    out.stats = &any;
    call_reply(c, &out.base);
}

static void ask_container(struct service *s, struct ttrpc_request *req, const char *id, const char *method,
                          ttrpc_reply_fn fn) {
    struct call *c = call_new(s, req);
    if (!c)
        return;
    struct err err = ERR_INIT;
    struct container *ctr;
    int r = find_container(s, id, &ctr, &err);
    if (r == 0 && container_get_state(ctr) == CONTAINER_STOPPED)
        r = err_set(&err, EBUSY, "container %s is not running", id);
    if (r < 0) {
        call_fail(c, &err);
        return;
    }
    Stasis__Agent__V1__ContainerRequest out = STASIS__AGENT__V1__CONTAINER_REQUEST__INIT;
    out.id = (char *)(uintptr_t)id;
    forward(c, method, &out.base, fn);
}

static void handle_pids(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    ask_container(userdata, req, ((const Containerd__Task__V2__PidsRequest *)(const void *)msg)->id, "Processes",
                  on_pids);
}

static void handle_stats(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    ask_container(userdata, req, ((const Containerd__Task__V2__StatsRequest *)(const void *)msg)->id, "Stats",
                  on_stats);
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
    {"Pids", handle_pids},
    {"Pause", handle_pause},
    {"Resume", handle_resume},
    {"Kill", handle_kill},
    {"Exec", handle_exec},
    {"Wait", handle_wait},
    {"ResizePty", handle_resize},
    {"CloseIO", handle_close_io},
    {"Update", handle_update},
    {"Stats", handle_stats},
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
