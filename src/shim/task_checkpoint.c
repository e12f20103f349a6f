/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoint, of the Task service. Options are containerd's (containerd.runc.v1.CheckpointOptions), our own (the
 * CLI's), or none: then the container is left running, for clients that send none to a runtime they do not know must
 * not find it dead.
 */
#include <fcntl.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "proto/options.pb-c.h"
#include "proto/sandbox.pb-c.h"
#include "sandbox/checkpoint.h"
#include "sandbox/container.h"
#include "shim/events.h"
#include "shim/task_call.h"

#define TYPE_OURS "stasis.sandbox.v1.CheckpointOptions"
#define TYPE_RUNC "containerd.runc.v1.CheckpointOptions"
#define DUMP_LOG_MAX ((size_t)8 << 20) /* bytes that are copied into the bundle */

typedef Containerd__Runc__V1__CheckpointOptions RuncOptions;
typedef Containerd__Task__V2__CheckpointTaskRequest Request;

/* containerd's own shim leaves CRIU's log there when a checkpoint fails; clients know the name. */
static void leave_log_in_bundle(const char *bundle, const char *work_path, struct err *err) {
    struct err e = ERR_INIT;
    cleanup_free char *from = path_join(work_path, "dump.log");
    cleanup_free char *to = path_join(bundle, "criu-dump.log");
    cleanup_free char *text = NULL;
    size_t len;
    if (!from || !to || access(from, F_OK) < 0)
        return;
    int r = file_read_at(AT_FDCWD, from, DUMP_LOG_MAX, &text, &len, &e);
    if (r == 0)
        r = file_write_atomic(to, text, len, 0600, false, &e);
    if (r < 0)
        log_warn("%s", e.msg);
    else
        err_append(err, ", path= %s", to);
}

static void on_done(void *userdata, const struct checkpoint_outcome *outcome, const struct err *err) {
    struct task_call *c = userdata;
    const Request *in = c->in;
    if (!err) {
        log_info("container %s: checkpoint of %llu bytes in %llu files at %s", c->id,
                 (unsigned long long)outcome->images.bytes, (unsigned long long)outcome->images.files, c->path);
        events_task_checkpointed(c->s->publisher, c->id, c->path);
        task_call_reply(c, NULL);
        return;
    }
    struct err e = *err;
    struct container *ctr = sandbox_find(c->s->sb, in->id);
    if (c->s->namespace && ctr)
        leave_log_in_bundle(container_bundle(ctr), outcome->work_path, &e);
    log_warn("%s", e.msg);
    task_call_fail(c, &e);
}

static void on_abandoned(struct ttrpc_request *req, enum ttrpc_abandoned why, void *userdata) {
    struct task_call *c = userdata;
    struct container *ctr = sandbox_find(c->s->sb, c->id);
    struct err err = ERR_INIT;
    (void)req;
    err_set(&err, why == TTRPC_ABANDONED_LATE ? ETIMEDOUT : ECANCELED, "%s", ttrpc_abandoned_text(why));
    if (ctr)
        container_checkpoint_abandon(ctr, c, &err);
}

static int start(struct task_call *c, const Request *in, struct checkpoint_spec *spec, struct err *err) {
    struct container *ctr;
    int r = task_find_container(c->s, in->id, &ctr, err);
    if (r == 0 && !*spec->image_path)
        r = err_set(err, EINVAL, "container %s: the checkpoint has no path", in->id);
    if (r < 0)
        return r;
    c->in = in;
    c->path = strdup(spec->image_path);
    if (!c->path)
        return err_set(err, ENOMEM, "out of memory");
    snprintf(c->id, sizeof(c->id), "%s", in->id);
    r = ttrpc_request_on_abandoned(c->req, on_abandoned, c, err);
    return r < 0 ? r : container_checkpoint(ctr, spec, on_done, c, err);
}

static int start_runc(struct task_call *c, const Request *in, struct err *err) {
    RuncOptions *o =
        containerd__runc__v1__checkpoint_options__unpack(NULL, in->options->value.len, in->options->value.data);
    if (!o)
        return err_set(err, EINVAL, "container %s: damaged checkpoint options", in->id);
    Stasis__Agent__V1__CriuOptions criu = STASIS__AGENT__V1__CRIU_OPTIONS__INIT;
    criu.tcp_established = o->open_tcp;
    criu.ext_unix_sk = o->external_unix_sockets;
    criu.shell_job = o->terminal;
    criu.file_locks = o->file_locks;
    criu.empty_ns = o->empty_namespaces;
    criu.n_empty_ns = o->n_empty_namespaces;
    criu.manage_cgroups_mode = o->cgroups_mode;
    struct checkpoint_spec spec = {
        .image_path = *o->image_path ? o->image_path : in->path,
        .work_path = o->work_path,
        .parent_path = o->parent_path,
        .leave_running = !o->exit,
        .options = &criu,
    };
    int r = start(c, in, &spec, err);
    containerd__runc__v1__checkpoint_options__free_unpacked(o, NULL);
    return r;
}

static int start_ours(struct task_call *c, const Request *in, struct err *err) {
    Stasis__Sandbox__V1__CheckpointOptions *o =
        stasis__sandbox__v1__checkpoint_options__unpack(NULL, in->options->value.len, in->options->value.data);
    if (!o)
        return err_set(err, EINVAL, "container %s: damaged checkpoint options", in->id);
    struct checkpoint_spec spec = {
        .image_path = in->path,
        .work_path = o->work_path,
        .parent_path = o->parent_path,
        .leave_running = o->leave_running,
        .pre_dump = o->pre_dump,
        .wait_execs = o->wait_execs,
        .options = o->criu,
    };
    int r = start(c, in, &spec, err);
    stasis__sandbox__v1__checkpoint_options__free_unpacked(o, NULL);
    return r;
}

void task_handle_checkpoint(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Request *in = (const void *)msg;
    struct task_call *c = task_call_new(userdata, req);
    struct err err = ERR_INIT;
    int r;
    if (!c)
        return;
    if (!in->options || !*in->options->type_url) {
        struct checkpoint_spec spec = {
            .image_path = in->path, .work_path = "", .parent_path = "", .leave_running = true};
        r = start(c, in, &spec, &err);
    } else if (task_any_is(in->options, TYPE_RUNC)) {
        r = start_runc(c, in, &err);
    } else if (task_any_is(in->options, TYPE_OURS)) {
        r = start_ours(c, in, &err);
    } else {
        r = err_set(&err, EINVAL, "container %s: checkpoint options of type %s cannot be used", in->id,
                    in->options->type_url);
    }
    if (r < 0)
        task_call_fail(c, &err);
}
