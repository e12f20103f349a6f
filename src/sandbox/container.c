/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/container_impl.h"

#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/path.h"
#include "oci/rewrite.h"
#include "sandbox/checkpoint.h"
#include "sandbox/differences.h"
#include "sandbox/share.h"

#define MONITOR_END_USEC (2 * USEC_PER_SEC)

static void on_init_exited(struct process *p) {
    struct container *c = process_container(p);
    sandbox_mark(c->sb, "exited");
    /* The end of a delete, which kills what has never been started, says itself what became of the container. */
    if (c->state != CONTAINER_DELETING)
        (void)lifecycle_move(&container_lifecycle, &c->state, CONTAINER_STOPPED, c->id, NULL);
    sandbox_save(c->sb);
}

const struct process_ops container_init_ops = {.exited = on_init_exited};

int container_begin(struct container *c, enum container_state to, sandbox_done_fn done, void *userdata,
                    struct err *err) {
    /* A container may stop while a start, its hooks or a checkpoint are not over yet: those end first. */
    if (container_is_busy(c))
        return err_set(err, EBUSY, "container %s: %s is under way", c->id,
                       c->checkpoint ? "a checkpoint" : "another operation");
    int r = lifecycle_move(&container_lifecycle, &c->state, to, c->id, err);
    if (r == 0)
        c->op = (struct operation){.done = done, .userdata = userdata};
    return r;
}

/* The list first, then the calls: any of them may free the container. */
static void tell_idle(struct container *c) {
    struct idle_waiter *w = TAKE_PTR(c->idle);
    while (w) {
        struct idle_waiter *next = w->next;
        w->fn(w->userdata);
        free(w);
        w = next;
    }
}

int container_when_idle(struct container *c, void (*fn)(void *userdata), void *userdata, struct err *err) {
    struct idle_waiter *w = malloc(sizeof(*w));
    if (!w)
        return err_set(err, ENOMEM, "out of memory");
    *w = (struct idle_waiter){.next = c->idle, .fn = fn, .userdata = userdata};
    c->idle = w;
    return 0;
}

bool container_is_busy(const struct container *c) {
    return c->op.done || c->checkpoint;
}

/* The end of an operation. `to`: the state it leads to; if the container stopped meanwhile, it stays so. */
void container_finish(struct container *c, enum container_state to, const struct err *err) {
    struct operation op = c->op;
    c->op = (struct operation){0};
    if (c->state != CONTAINER_STOPPED)
        (void)lifecycle_move(&container_lifecycle, &c->state, to, c->id, NULL);
    sandbox_save(c->sb);
    if (op.done)
        op.done(op.userdata, err);
    tell_idle(c);
}

static int run_hooks(struct container *c, const char *kind, oci_hooks_done_fn done, struct err *err) {
    struct oci_container_state st;
    container_describe(c, &st);
    cleanup_json json_t *doc = oci_container_state_json(&st);
    cleanup_free char *text = doc ? json_text(doc, JSON_COMPACT) : NULL;
    if (!text)
        return err_set(err, ENOMEM, "out of memory");
    return oci_hooks_run(sandbox_event(c->sb), c->spec, kind, text, sandbox_host(c->sb), done, c, &c->op.hooks, err);
}

/* Create. */

static void create_failed(struct container *c, const struct err *err) {
    struct err e = *err;
    struct sandbox *sb = c->sb;
    struct operation op = c->op;
    c->op = (struct operation){0};
    /* The agent may have got further than its answer. */
    Stasis__Agent__V1__ContainerRequest req = STASIS__AGENT__V1__CONTAINER_REQUEST__INIT;
    req.id = c->guest_id;
    if (sandbox_get_state(sb) == SANDBOX_READY)
        (void)sandbox_call(sb, "DeleteContainer", &req.base, call_ignore, NULL, NULL, NULL);
    sandbox_remove(sb, c);
    sandbox_save(sb);
    op.done(op.userdata, &e);
}

int container_still_wanted(const struct container *c, struct err *err) {
    return process_host_is_gone(c->init)
               ? err_set(err, ECANCELED, "container %s: its monitor process (pid %d) has exited", c->id,
                         (int)process_host_pid(c->init))
               : 0;
}

int container_show(struct container *c, worker_done_fn done, void *userdata, struct err *err) {
    c->view = (struct view_spec){.share = sandbox_share(c->sb),
                                 .id = c->id,
                                 .guest_id = c->guest_id,
                                 .pidfd = process_host_pidfd(c->init),
                                 .spec = c->spec,
                                 .mounts = c->guest.mounts,
                                 .n_mounts = c->guest.n_mounts};
    return worker_start(sandbox_event(c->sb), "view of a container", view_build, &c->view, done, userdata,
                        &c->view_worker, err);
}

static void on_shown(void *userdata, const struct err *err) {
    struct container *c = userdata;
    c->view_worker = NULL;
    struct err e = ERR_INIT;
    if (err && container_still_wanted(c, &e) == 0)
        e = *err;
    if (e.code) {
        create_failed(c, &e);
        return;
    }
    c->shown = true;
    sandbox_mark(c->sb, "created");
    container_finish(c, CONTAINER_CREATED, NULL);
}

static void on_agent_created(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct container *c = userdata;
    if (err) {
        create_failed(c, err);
        return;
    }
    const Stasis__Agent__V1__CreateContainerResponse *r = (const void *)*reply;
    struct err e = ERR_INIT;
    if (container_still_wanted(c, &e) < 0 || process_watch(c->init, r->pid, &e) < 0 ||
        container_show(c, on_shown, c, &e) < 0)
        create_failed(c, &e);
}

void container_create_request(const struct container *c, char *text, Stasis__Agent__V1__CreateContainerRequest *ret) {
    struct process_streams io;
    process_describe_stdio(c->init, &io);
    stasis__agent__v1__create_container_request__init(ret);
    ret->id = c->guest_id;
    ret->spec.data = (uint8_t *)text;
    ret->spec.len = strlen(text);
    ret->terminal = process_is_terminal(c->init);
    ret->stdin = io.in;
    ret->stdout = io.out;
    ret->stderr = io.err;
    ret->width = io.width;
    ret->height = io.height;
    ret->relayed = io.relayed;
    ret->pin_namespaces = c->pod_sandbox;
    ret->make_network = c->make_network;
}

static void create_in_guest(struct container *c) {
    struct err err = ERR_INIT;
    if (c->restore) { /* Start makes it, out of the images */
        if (container_still_wanted(c, &err) < 0)
            create_failed(c, &err);
        else
            container_finish(c, CONTAINER_CREATED, NULL);
        return;
    }
    cleanup_free char *text = json_text(c->guest.spec, JSON_COMPACT);
    Stasis__Agent__V1__CreateContainerRequest req;
    if (text)
        container_create_request(c, text, &req);
    else
        err_set(&err, ENOMEM, "out of memory");
    if (!text || sandbox_call(c->sb, "CreateContainer", &req.base, on_agent_created, c, NULL, &err) < 0)
        create_failed(c, &err);
}

static void on_create_runtime_done(void *userdata, const struct err *err) {
    struct container *c = userdata;
    c->op.hooks = NULL;
    if (err)
        create_failed(c, err);
    else
        create_in_guest(c);
}

static void on_prestart_done(void *userdata, const struct err *err) {
    struct container *c = userdata;
    c->op.hooks = NULL;
    struct err e = ERR_INIT;
    if (err)
        create_failed(c, err);
    else if (run_hooks(c, "createRuntime", on_create_runtime_done, &e) < 0)
        create_failed(c, &e);
}

static void on_vm_ready(void *userdata, const struct err *err) {
    struct container *c = userdata;
    struct err e = ERR_INIT;
    if (err)
        create_failed(c, err);
    else if (container_still_wanted(c, &e) < 0 || run_hooks(c, "prestart", on_prestart_done, &e) < 0)
        create_failed(c, &e);
}

/* In this daemon's mount namespace: the host never sees it, and it is gone when the daemon is. */
static int mount_rootfs(struct container *c, const struct container_spec *spec, struct err *err) {
    if (spec->n_rootfs == 0)
        return 0;
    c->rootfs = path_join(c->bundle, "rootfs");
    if (!c->rootfs)
        return err_set(err, ENOMEM, "out of memory");
    int r = rootfs_mount(spec->rootfs, spec->n_rootfs, c->rootfs, err);
    return r < 0 ? r : layers_of_mount(&spec->rootfs[spec->n_rootfs - 1], &c->layers, err);
}

static int prepare(struct container *c, const struct container_spec *spec, struct err *err) {
    const struct container *pause = spec->pod.sandbox_id ? sandbox_find(c->sb, spec->pod.sandbox_id) : NULL;
    struct oci_pod_host pod = {.sandbox_id = spec->pod.sandbox_id,
                               .pid = pause && pause->init ? process_host_pid(pause->init) : 0};
    int r = 0;
    c->pod_sandbox = spec->pod.role == OCI_POD_SANDBOX;
    c->spec = json_incref(spec->spec);
    if (!c->spec)
        r = oci_spec_load(c->bundle, &c->spec, err);
    if (r == 0)
        r = mount_rootfs(c, spec, err);
    if (r == 0)
        r = oci_spec_for_pod(c->spec, c->guest_id, c->bundle, spec->pod.role == OCI_POD_MEMBER ? &pod : NULL, &c->guest,
                             err);
    if (r == 0)
        r = oci_guest_limit_pids(&c->guest, sandbox_config(c->sb)->pids_limit, err);
    if (r == 0 && spec->n_rootfs == 0)
        r = layers_of_dir(c->guest.rootfs, &c->layers, err);
    if (r < 0)
        return r;
    c->pod_member = spec->pod.role == OCI_POD_MEMBER;
    r = container_check_differences(c, err);
    if (r == 0)
        r = container_check_network(c, 0, err);
    if (r < 0)
        return r;
    /* What a pod's first container cannot change in the network, others may, who join it. */
    if (!c->pod_sandbox) {
        r = oci_guest_make_network(&c->guest, c->guest_id, spec->restore != NULL, err);
        if (r < 0)
            return r;
        c->make_network = r > 0;
    }
    if (c->guest.terminal != spec->io->terminal)
        return err_set(err, EINVAL, "process.terminal is %s, but the caller %s a terminal",
                       c->guest.terminal ? "true" : "false", spec->io->terminal ? "has" : "has not");
    r = process_default_size(spec->io, json_object_get(c->spec, "process"), err);
    if (r == 0)
        r = process_new(c->sb, c, "", spec->host_pid, spec->io, &container_init_ops, &c->init, err);
    if (r == 0 && !spec->host_pid)
        r = process_make_monitor(c->init, json_object_get(json_object_get(c->spec, "process"), "args"), err);
    if (r == 0)
        r = process_set_uris(c->init, spec->uris[0] ? spec->uris[0] : "", spec->uris[1] ? spec->uris[1] : "",
                             spec->uris[2] ? spec->uris[2] : "", err);
    if (r == 0)
        r = share_add_container(sandbox_share(c->sb), c->guest_id, &c->guest, err);
    if (r == 0 && spec->restore)
        r = restore_new(spec->restore, &c->restore, err);
    return r;
}

int container_create(struct sandbox *sb, const struct container_spec *spec, sandbox_done_fn done, void *userdata,
                     struct err *err) {
    struct container *c = calloc(1, sizeof(*c));
    if (!c) {
        process_stdio_close(spec->io);
        return err_set(err, ENOMEM, "out of memory");
    }
    c->sb = sb;
    c->created_wall_usec = now_wall_usec();
    c->id = strdup(spec->id);
    c->guest_id = strdup(spec->id);
    c->bundle = strdup(spec->bundle);
    int r = c->id && c->guest_id && c->bundle ? id_validate("container id", spec->id, err)
                                              : err_set(err, ENOMEM, "out of memory");
    if (r == 0)
        r = sandbox_add(sb, c, err);
    if (r < 0) {
        process_stdio_close(spec->io);
        container_free(c);
        return r;
    }
    c->op = (struct operation){.done = done, .userdata = userdata};
    r = prepare(c, spec, err);
    process_stdio_close(spec->io); /* what prepare did not get to take */
    if (r == 0)
        r = sandbox_record(sb, err); /* its cgroup, for one */
    if (r == 0)
        r = sandbox_when_ready(sb, on_vm_ready, c, err);
    if (r < 0) {
        c->op = (struct operation){0};
        sandbox_remove(sb, c);
        sandbox_save(sb);
    }
    return r;
}

/* Start. */

static void on_poststart_done(void *userdata, const struct err *err) {
    struct container *c = userdata;
    c->op.hooks = NULL;
    if (err) /* the spec: log and go on */
        log_warn("container %s: %s", c->id, err->msg);
    container_finish(c, CONTAINER_RUNNING, NULL);
}

static void run_poststart(struct container *c) {
    struct err e = ERR_INIT;
    if (run_hooks(c, "poststart", on_poststart_done, &e) < 0)
        on_poststart_done(c, &e);
}

static void on_restored_shown(void *userdata, const struct err *err) {
    struct container *c = userdata;
    c->view_worker = NULL;
    c->shown = !err;
    if (!err || c->state == CONTAINER_STOPPED) {
        run_poststart(c);
        return;
    }
    sandbox_kill_quietly(c->sb, c->init);
    container_finish(c, CONTAINER_RUNNING, err); /* until it has ended */
}

void container_started(struct container *c, const struct err *err) {
    if (err) {
        (void)process_move(c->init, PROCESS_CREATED, NULL);
        if (c->restore && process_host_is_gone(c->init))
            process_lost(c->init); /* nobody will start it again */
        container_finish(c, CONTAINER_CREATED, err);
        return;
    }
    sandbox_mark(c->sb, "started");
    if (process_get_state(c->init) == PROCESS_STARTING)
        (void)process_move(c->init, PROCESS_RUNNING, NULL);
    struct err e = ERR_INIT;
    /* What a restore makes has its mounts only now. */
    if (c->shown)
        run_poststart(c);
    else if (container_show(c, on_restored_shown, c, &e) < 0)
        on_restored_shown(c, &e);
}

static void on_started(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    (void)reply;
    struct container *c = userdata;
    if (err && err->code == ETIMEDOUT) /* it may run, now or later, and was said not to */
        sandbox_kill_quietly(c->sb, c->init);
    container_started(c, err);
}

static int call_agent(struct container *c, const char *method, ttrpc_reply_fn fn, struct err *err) {
    Stasis__Agent__V1__ContainerRequest req = STASIS__AGENT__V1__CONTAINER_REQUEST__INIT;
    req.id = c->guest_id;
    return sandbox_call(c->sb, method, &req.base, fn, c, NULL, err);
}

int container_start(struct container *c, sandbox_done_fn done, void *userdata, struct err *err) {
    int r = c->state == CONTAINER_CREATED ? container_check_network(c, process_host_pid(c->init), err) : 0;
    if (r == 0)
        r = container_begin(c, CONTAINER_STARTING, done, userdata, err);
    if (r < 0)
        return r;
    (void)process_move(c->init, PROCESS_STARTING, NULL);
    r = c->restore ? restore_run(c, err) : call_agent(c, "StartContainer", on_started, err);
    if (r < 0) {
        (void)process_move(c->init, PROCESS_CREATED, NULL);
        (void)lifecycle_move(&container_lifecycle, &c->state, CONTAINER_CREATED, c->id, NULL);
        c->op = (struct operation){0};
    }
    return r;
}

/* Pause and resume. */

void container_undo_late(struct container *c, const char *method, const struct err *err) {
    Stasis__Agent__V1__ContainerRequest req = STASIS__AGENT__V1__CONTAINER_REQUEST__INIT;
    req.id = c->guest_id;
    if (err && err->code == ETIMEDOUT && sandbox_get_state(c->sb) == SANDBOX_READY)
        (void)sandbox_call(c->sb, method, &req.base, call_ignore, NULL, NULL, NULL);
}

static void on_paused(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    (void)reply;
    struct container *c = userdata;
    container_undo_late(c, "Resume", err);
    container_finish(c, err ? CONTAINER_RUNNING : CONTAINER_PAUSED, err);
}

static void on_resumed(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    (void)reply;
    struct container *c = userdata;
    container_undo_late(c, "Pause", err);
    container_finish(c, err ? CONTAINER_PAUSED : CONTAINER_RUNNING, err);
}

int container_pause(struct container *c, sandbox_done_fn done, void *userdata, struct err *err) {
    int r = container_begin(c, CONTAINER_PAUSING, done, userdata, err);
    if (r == 0 && (r = call_agent(c, "Pause", on_paused, err)) < 0) {
        c->op.done = NULL;
        container_finish(c, CONTAINER_RUNNING, NULL);
    }
    return r;
}

int container_resume(struct container *c, sandbox_done_fn done, void *userdata, struct err *err) {
    int r = container_begin(c, CONTAINER_RESUMING, done, userdata, err);
    if (r == 0 && (r = call_agent(c, "Resume", on_resumed, err)) < 0) {
        c->op.done = NULL;
        container_finish(c, CONTAINER_PAUSED, NULL);
    }
    return r;
}

bool container_kill_unrestored(struct container *c) {
    if (!c->restore || c->state != CONTAINER_CREATED)
        return false;
    process_lost(c->init);
    return true;
}

/* Delete. */

/* The monitor holds the container's mounts; who deletes a container may remove what they are made of. */
static void on_monitor_ended(void *userdata) {
    struct container *c = userdata;
    struct operation op = c->op;
    struct sandbox *sb = c->sb;
    c->op = (struct operation){0};
    sandbox_remove(sb, c);
    sandbox_save(sb);
    op.done(op.userdata, NULL);
}

static void on_poststop_done(void *userdata, const struct err *err) {
    struct container *c = userdata;
    if (err)
        log_warn("container %s: %s", c->id, err->msg);
    if (!process_await_host(c->init, MONITOR_END_USEC, on_monitor_ended, c))
        on_monitor_ended(c);
}

static void delete_on_host(struct container *c) {
    struct err e = ERR_INIT;
    if (run_hooks(c, "poststop", on_poststop_done, &e) < 0)
        on_poststop_done(c, &e);
}

static void on_agent_deleted(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    (void)reply;
    struct container *c = userdata;
    /* With the VM gone there is nothing left to remove in it; if only the agent failed, its word is the answer. */
    if (err && sandbox_get_state(c->sb) == SANDBOX_READY && err->code != ENOENT) {
        container_finish(c, CONTAINER_STOPPED, err);
        return;
    }
    delete_on_host(c);
}

/* The last container's machine ends with it (by Shutdown, or when its client is gone), and takes along what crun would
 * take down piece by piece. Nothing of it may still run there: without a pid namespace its children outlive the init,
 * and what they have written reaches the host only when they end. */
static bool ends_with_vm(const struct container *c) {
    return sandbox_count(c->sb) == 1 && c->state == CONTAINER_STOPPED && !exec_find_running(&c->execs) &&
           !sandbox_is_being_saved(c->sb) && spec_has_namespace(c->spec, "pid");
}

int container_delete(struct container *c, sandbox_done_fn done, void *userdata, struct err *err) {
    bool skip_guest = ends_with_vm(c);
    int r = container_begin(c, CONTAINER_DELETING, done, userdata, err);
    if (r < 0)
        return r;
    struct err e = ERR_INIT;
    if (skip_guest || call_agent(c, "DeleteContainer", on_agent_deleted, &e) < 0)
        delete_on_host(c);
    return 0;
}

/* Exec: exec.c keeps the list. */

int container_exec(struct container *c, const char *exec_id, const char *process_json, size_t len, pid_t host_pid,
                   struct process_stdio *io, struct err *err) {
    int r = 0;
    if (c->state != CONTAINER_RUNNING && c->state != CONTAINER_CREATED && c->state != CONTAINER_PAUSED)
        r = err_set(err, EBUSY, "cannot exec in container %s: it is %s", c->id, container_lifecycle.names[c->state]);
    if (r < 0) {
        process_stdio_close(io);
        return r;
    }
    return exec_add(&c->execs, c, exec_id, process_json, len, host_pid, io, err);
}

int container_exec_start(struct container *c, struct process *p, sandbox_done_fn done, void *userdata,
                         struct err *err) {
    bool frozen = c->state == CONTAINER_PAUSED || c->state == CONTAINER_CHECKPOINTING;
    int r = frozen ? err_set(err, EBUSY, "cannot exec in container %s: it is %s", c->id,
                             container_lifecycle.names[c->state])
                   : exec_start(&c->execs, p, done, userdata, err);
    /* It is over for this process, as with runc's shim: its client waits for the end of its output. */
    if (r < 0 && process_get_state(p) == PROCESS_CREATED)
        process_lost(p);
    return r;
}

int container_exec_delete(struct container *c, struct process *p, struct err *err) {
    return exec_delete(&c->execs, p, err);
}

struct process *container_find(const struct container *c, const char *exec_id) {
    return *exec_id ? exec_find(&c->execs, exec_id) : c->init;
}

int container_each_exec(const struct container *c, container_exec_fn fn, void *userdata, struct err *err) {
    return exec_each(&c->execs, fn, userdata, err);
}

/* Life's end and access. */

void container_lost(struct container *c) {
    if (c->init)
        process_lost(c->init);
    exec_lost(&c->execs);
}

void container_free(struct container *c) {
    if (!c)
        return;
    oci_hooks_cancel(c->op.hooks);
    struct operation op = c->op;
    checkpoint_cancel(c);
    restore_free(c);
    exec_clear(&c->execs);
    worker_cancel(c->view_worker);
    process_free(c->init);
    if (op.done) {
        struct err err = ERR_INIT;
        err_set(&err, ECANCELED, "container %s was removed", c->id);
        op.done(op.userdata, &err);
    }
    tell_idle(c);
    struct err err = ERR_INIT;
    if (c->rootfs && rootfs_unmount(c->rootfs, &err) < 0)
        log_error("container %s: %s", c->id, err.msg);
    if (c->left_scratch && path_remove_tree(AT_FDCWD, c->left_scratch, &err) < 0)
        log_error("container %s: %s", c->id, err.msg);
    free(c->left_scratch);
    free(c->rootfs);
    oci_guest_spec_clear(&c->guest);
    json_decref(c->spec);
    layers_clear(&c->layers);
    free(c->id);
    free(c->guest_id);
    free(c->bundle);
    free(c);
}

uint64_t container_created_wall_usec(const struct container *c) {
    return c->created_wall_usec;
}

const char *container_id(const struct container *c) {
    return c->id;
}

const char *container_guest_id(const struct container *c) {
    return c->guest_id;
}

const char *container_bundle(const struct container *c) {
    return c->bundle;
}

enum container_state container_get_state(const struct container *c) {
    return (enum container_state)c->state;
}

struct sandbox *container_sandbox(const struct container *c) {
    return c->sb;
}

void container_describe(const struct container *c, struct oci_container_state *ret) {
    const struct process_exit *ex = c->init ? process_get_exit(c->init) : NULL;
    const char *cgroup = json_string_value(json_object_get(json_object_get(c->spec, "linux"), "cgroupsPath"));
    *ret = (struct oci_container_state){
        .cgroups_path = cgroup && *cgroup ? (char *)(uintptr_t)cgroup : NULL,
        .scratch = checkpoint_scratch(c),
        .id = c->id,
        .bundle = c->bundle,
        .rootfs = c->guest.rootfs,
        .status = container_state_status((enum container_state)c->state),
        .pid = c->init && !ex ? process_host_pid(c->init) : 0,
        .created_wall_usec = c->created_wall_usec,
        .exit_status = ex ? ex->status : 0,
        .owner = geteuid(),
        .annotations = c->spec ? json_object_get(c->spec, "annotations") : NULL,
    };
}
