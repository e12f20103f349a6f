/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Create and Exec: the calls that make a process. Its stdio is opened first, which takes a moment when a logger is to
 * be started for it; then the rest follows.
 */
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "oci/sizing.h"
#include "oci/spec.h"
#include "proto/sandbox.pb-c.h"
#include "sandbox/checkpoint.h"
#include "sandbox/container.h"
#include "sandbox/stdio_open.h"
#include "shim/notify.h"
#include "shim/runtime_options.h"
#include "shim/task_call.h"

#define TYPE_CREATE_OPTIONS "stasis.sandbox.v1.CreateOptions"
#define TYPE_EXEC_SPEC "stasis.sandbox.v1.ExecSpec"
#define TYPE_PROCESS "types.containerd.io/opencontainers/runtime-spec/1/Process"

typedef Containerd__Task__V2__CreateTaskRequest CreateRequest;
typedef Containerd__Task__V2__ExecProcessRequest ExecRequest;

/* A call whose stdio is being opened. */
struct io_call {
    struct task_call *c;
    const void *in; /* the request, which lives until it is answered */
    int (*go_on)(struct task_call *c, const void *in, struct process_stdio *io, struct err *err);
};

static int take_fd(void *userdata, struct err *err) {
    int fd = ttrpc_request_take_fd(userdata);
    return fd == -ENOENT ? err_set(err, EINVAL, "no file descriptor came with the request")
           : fd < 0      ? err_errno(err, -fd, "the file descriptors of the request were lost")
                         : fd;
}

static void on_stdio(void *userdata, struct process_stdio *io, const struct err *err) {
    struct io_call call = *(struct io_call *)userdata;
    struct err e = ERR_INIT;
    free(userdata);
    int r = err ? err_copy(&e, err) : call.go_on(call.c, call.in, io, &e);
    if (r < 0)
        task_call_fail(call.c, &e);
}

/* `spec` has what the request says; the rest is the daemon's. */
static void open_stdio(struct task_call *c, const void *in, struct stdio_spec *spec,
                       int (*go_on)(struct task_call *, const void *, struct process_stdio *, struct err *)) {
    struct err err = ERR_INIT;
    struct io_call *call = calloc(1, sizeof(*call));
    struct stdio_opening *opening; /* never cancelled: the answer waits for it, and the daemon's end ends it */
    spec->namespace = c->s->namespace ? c->s->namespace : "";
    spec->host = sandbox_host(c->s->sb);
    spec->take_fd = take_fd;
    spec->userdata = c->req;
    if (call)
        *call = (struct io_call){.c = c, .in = in, .go_on = go_on};
    else
        err_set(&err, ENOMEM, "out of memory");
    if (!call || stdio_open(c->s->event, spec, on_stdio, call, &opening, &err) < 0) {
        free(call);
        task_call_fail(c, &err);
    }
}

/* Create. */

/* What the VM is made with: the host's configuration, over it the runtime's options and the spec's annotations. The VM
 * of a pod is there already when its members come. */
static int configure(struct service *s, const CreateRequest *in, const json_t *spec, struct err *err) {
    bool fresh = sandbox_get_state(s->sb) == SANDBOX_NEW;
    struct config config = fresh && s->config ? *s->config : *sandbox_config(s->sb);
    int r = 0;
    if (fresh && in->options && !task_any_is(in->options, TYPE_CREATE_OPTIONS))
        r = runtime_options_apply(in->id, in->options->type_url, in->options->value.data, in->options->value.len,
                                  &config, err);
    if (r < 0)
        return r;
    struct oci_sizing size = {
        .memory = config.memory,
        .cpus = config.cpus,
        .memory_max =
            config.memory_max ? config.memory_max : (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE),
        .cpus_max = config.cpus_max ? config.cpus_max : (uint32_t)sysconf(_SC_NPROCESSORS_ONLN),
    };
    r = oci_sizing_apply(spec, &size, err);
    if (r < 0 || !fresh)
        return r;
    config.memory = size.memory;
    config.cpus = size.cpus;
    config.log_level = MAX(config.log_level, sandbox_config(s->sb)->log_level);
    return sandbox_configure(s->sb, &config, err);
}

static void on_created(void *userdata, const struct err *err) {
    struct task_call *c = userdata;
    const CreateRequest *in = c->in;
    struct service *s = c->s;
    if (err) {
        task_call_fail(c, err);
        service_end_if_unused(s); /* the caller may have been killed meanwhile */
        return;
    }
    struct events_create e = {.stdin = in->stdin,
                              .stdout = in->stdout,
                              .stderr = in->stderr,
                              .terminal = in->terminal,
                              .checkpoint = in->checkpoint};
    cleanup_free struct events_mount *mounts = calloc(MAX(in->n_rootfs, 1), sizeof(*mounts));
    for (size_t i = 0; mounts && i < in->n_rootfs; i++)
        mounts[i] = (struct events_mount){.type = in->rootfs[i]->type,
                                          .source = in->rootfs[i]->source,
                                          .target = in->rootfs[i]->target,
                                          .options = in->rootfs[i]->options,
                                          .n_options = in->rootfs[i]->n_options};
    e.rootfs = mounts;
    e.n_rootfs = mounts ? in->n_rootfs : 0;
    struct container *ctr = sandbox_find(c->s->sb, in->id);
    if (ctr)
        notify_created(c->s, ctr, &e);
    notify_watch_oom(c->s);
    Containerd__Task__V2__CreateTaskResponse out = CONTAINERD__TASK__V2__CREATE_TASK_RESPONSE__INIT;
    /* Of one that is to be restored nothing runs before Start. */
    if (ctr && !(*in->checkpoint && c->s->namespace))
        out.pid = (uint32_t)process_host_pid(container_find(ctr, ""));
    task_call_reply(c, &out.base);
}

/* *ret is NULL when they are not the CLI's. */
static int read_cli_options(const CreateRequest *in, Stasis__Sandbox__V1__CreateOptions **ret, struct err *err) {
    *ret = NULL;
    if (!task_any_is(in->options, TYPE_CREATE_OPTIONS))
        return 0;
    *ret = stasis__sandbox__v1__create_options__unpack(NULL, in->options->value.len, in->options->value.data);
    return *ret ? 0 : err_set(err, EINVAL, "container %s: damaged options", in->id);
}

/* The spec is there: everything is known. */
static int create_container(struct task_call *c, const CreateRequest *in, struct container_spec *spec,
                            struct err *err) {
    struct service *s = c->s;
    const json_t *linux_part = json_object_get(spec->spec, "linux");
    const char *cgroup = json_string_value(json_object_get(linux_part, "cgroupsPath"));
    /* The CLI's containers each have a VM, whatever their spec was copied from. */
    int r = s->namespace ? oci_pod_role(spec->spec, &spec->pod, err) : 0;
    if (r == 0 && spec->pod.role == OCI_POD_MEMBER && !sandbox_find(s->sb, spec->pod.sandbox_id))
        r = err_set(err, ENOENT, "container %s: its pod's sandbox %s does not exist", in->id, spec->pod.sandbox_id);
    if (r == 0)
        r = configure(s, in, spec->spec, err);
    if (r == 0)
        r = sandbox_enter_cgroup(s->sb, cgroup ? cgroup : "", err);
    cleanup_free struct rootfs_mount *mounts = calloc(MAX(in->n_rootfs, 1), sizeof(*mounts));
    if (r < 0)
        return r;
    if (!mounts)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < in->n_rootfs; i++)
        mounts[i] = (struct rootfs_mount){.type = in->rootfs[i]->type,
                                          .source = in->rootfs[i]->source,
                                          .target = in->rootfs[i]->target,
                                          .options = in->rootfs[i]->options,
                                          .n_options = in->rootfs[i]->n_options};
    spec->rootfs = mounts;
    spec->n_rootfs = in->n_rootfs;
    c->in = in;
    return container_create(s->sb, spec, on_created, c, err);
}

static int create(struct task_call *c, const void *msg, struct process_stdio *io, struct err *err) {
    const CreateRequest *in = msg;
    struct container_spec spec = {
        .id = in->id, .bundle = in->bundle, .io = io, .uris = {in->stdin, in->stdout, in->stderr}};
    struct restore_spec restore = {.image_path = in->checkpoint, .work_path = ""};
    Stasis__Sandbox__V1__CreateOptions *o;
    int r = read_cli_options(in, &o, err);
    if (o) {
        spec.host_pid = (pid_t)MIN(o->init_pid, (uint32_t)INT32_MAX);
        io->width = o->width;
        io->height = o->height;
        io->relayed = o->relayed;
        restore.work_path = o->work_path;
        restore.options = o->criu;
    }
    if (*in->checkpoint)
        spec.restore = &restore;
    if (r == 0 && *in->parent_checkpoint)
        r = err_set(err, EOPNOTSUPP,
                    "container %s: a parent checkpoint is not taken here: the checkpoint names it itself", in->id);
    if (r == 0 && !path_is_normal(in->bundle))
        r = err_set(err, EINVAL, "container %s: bundle \"%s\" is not an absolute, normal path", in->id, in->bundle);
    if (r == 0)
        r = oci_spec_load(in->bundle, &spec.spec, err);
    if (r == 0)
        r = create_container(c, in, &spec, err);
    process_stdio_close(io); /* what was not taken */
    json_decref(spec.spec);
    if (o)
        stasis__sandbox__v1__create_options__free_unpacked(o, NULL);
    return r;
}

/* containerd ended in the middle. Nobody will ask for what it was making: the next containerd finds no task here, and
 * has the sandbox removed (`delete`). A pod's other containers go on, and this one with them. */
static void on_creator_lost(struct ttrpc_request *req, void *userdata) {
    const struct task_call *c = userdata;
    (void)req;
    if (sandbox_count(c->s->sb) > 1)
        return;
    log_warn("containerd is gone, and with it the one who wanted the container: ending");
    (void)sd_event_exit(c->s->event, 0);
}

void task_handle_create(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const CreateRequest *in = (const void *)msg;
    struct task_call *c = task_call_new(userdata, req);
    if (!c)
        return;
    if (c->s->namespace)
        ttrpc_request_on_cancel(req, on_creator_lost, c);
    struct stdio_spec spec = {
        .in = in->stdin, .out = in->stdout, .err = in->stderr, .terminal = in->terminal, .container_id = in->id};
    open_stdio(c, in, &spec, create);
}

/* Exec. */

static int add_exec(struct container *ctr, const ExecRequest *in, struct process_stdio *io, struct err *err) {
    if (task_any_is(in->spec, TYPE_PROCESS))
        return container_exec(ctr, in->exec_id, (const char *)in->spec->value.data, in->spec->value.len, 0, io, err);
    if (!task_any_is(in->spec, TYPE_EXEC_SPEC))
        return err_set(err, EINVAL, "exec %s: a spec of type %s cannot be used", in->exec_id,
                       in->spec ? in->spec->type_url : "(none)");
    Stasis__Sandbox__V1__ExecSpec *spec =
        stasis__sandbox__v1__exec_spec__unpack(NULL, in->spec->value.len, in->spec->value.data);
    if (!spec)
        return err_set(err, EINVAL, "exec %s: damaged spec", in->exec_id);
    io->width = spec->width;
    io->height = spec->height;
    io->relayed = spec->relayed;
    int r = container_exec(ctr, in->exec_id, (const char *)spec->process.data, spec->process.len,
                           (pid_t)MIN(spec->pid, (uint32_t)INT32_MAX), io, err);
    stasis__sandbox__v1__exec_spec__free_unpacked(spec, NULL);
    return r;
}

static int exec(struct task_call *c, const void *msg, struct process_stdio *io, struct err *err) {
    const ExecRequest *in = msg;
    struct container *ctr;
    int r = task_find_container(c->s, in->id, &ctr, err);
    if (r == 0)
        r = add_exec(ctr, in, io, err);
    process_stdio_close(io); /* what was not taken */
    struct process *p = r == 0 ? container_find(ctr, in->exec_id) : NULL;
    struct err e = ERR_INIT;
    if (p && process_set_uris(p, in->stdin, in->stdout, in->stderr, &e) < 0)
        log_warn("exec %s: State will not tell its stdio: %s", in->exec_id, e.msg);
    if (p)
        notify_exec_added(c->s, p);
    if (r == 0)
        task_call_reply(c, NULL);
    return r;
}

void task_handle_exec(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const ExecRequest *in = (const void *)msg;
    struct task_call *c = task_call_new(userdata, req);
    if (!c)
        return;
    struct stdio_spec spec = {
        .in = in->stdin, .out = in->stdout, .err = in->stderr, .terminal = in->terminal, .container_id = in->id};
    open_stdio(c, in, &spec, exec);
}
