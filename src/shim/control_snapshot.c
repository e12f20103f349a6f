/* SPDX-License-Identifier: Apache-2.0 */
/* stasis.sandbox.v1.Sandbox: snapshots, and stdio for processes that came out of one. */
#include <string.h>

#include "base/log.h"
#include "base/path.h"
#include "base/util.h"
#include "proto/sandbox.pb-c.h"
#include "sandbox/capture.h"
#include "sandbox/container.h"
#include "sandbox/snapshot.h"
#include "sandbox/template.h"
#include "shim/service.h"
#include "shim/task_call.h"

struct call {
    struct ttrpc_request *req;
    uint64_t begun_usec;
    struct service *s;
};

static struct call *call_new(struct service *s, struct ttrpc_request *req) {
    struct call *c = malloc(sizeof(*c));
    struct err err = ERR_INIT;
    if (c) {
        *c = (struct call){.req = req, .begun_usec = now_usec(), .s = s};
        return c;
    }
    err_set(&err, ENOMEM, "out of memory");
    ttrpc_fail(req, &err);
    return NULL;
}

static void call_fail(struct call *c, const struct err *err) {
    ttrpc_fail(c->req, err);
    free(c);
}

static int check_store(const char *store, const char *name, struct err *err) {
    if (!path_is_normal(store))
        return err_set(err, EINVAL, "store: \"%.256s\" is not an absolute path without \".\" and \"..\"", store);
    return name ? id_validate("snapshot name", name, err) : 0;
}

static void on_captured(void *userdata, const struct capture_outcome *o, const struct err *err) {
    struct call *c = userdata;
    if (err) {
        call_fail(c, err);
        return;
    }
    Stasis__Sandbox__V1__SnapshotResponse out = STASIS__SANDBOX__V1__SNAPSHOT_RESPONSE__INIT;
    out.stopped_usec = o->stopped_usec;
    out.memory_bytes = o->memory_bytes;
    out.shared_bytes = o->shared_bytes;
    out.device_bytes = o->device_bytes;
    out.root_bytes = o->root_bytes;
    out.n_warnings = o->warnings.n;
    out.warnings = o->warnings.v;
    ttrpc_reply(c->req, &out.base);
    free(c);
}

static struct err abandoned(enum ttrpc_abandoned why) {
    struct err err = ERR_INIT;
    err_set(&err, why == TTRPC_ABANDONED_LATE ? ETIMEDOUT : ECANCELED, "%s", ttrpc_abandoned_text(why));
    return err;
}

static void on_snapshot_abandoned(struct ttrpc_request *req, enum ttrpc_abandoned why, void *userdata) {
    struct call *c = userdata;
    struct err err = abandoned(why);
    (void)req;
    capture_abandon(c->s->sb, c, &err);
}

void service_handle_snapshot(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Stasis__Sandbox__V1__SnapshotRequest *in = (const void *)msg;
    struct call *c = call_new(userdata, req);
    struct err err = ERR_INIT;
    struct capture_spec spec = {
        .store = in->store, .name = in->name, .stop = in->stop, .force = in->force, .no_sync = in->no_sync};
    if (!c)
        return;
    int r = check_store(in->store, in->name, &err);
    if (r == 0 && sandbox_count(c->s->sb) == 0)
        r = err_set(&err, EINVAL, "sandbox %s has no container", sandbox_id(c->s->sb));
    if (r == 0)
        r = ttrpc_request_on_abandoned(req, on_snapshot_abandoned, c, &err);
    if (r == 0)
        r = capture_start(c->s->sb, &spec, on_captured, c, &err);
    if (r < 0)
        call_fail(c, &err);
}

static void on_restored(void *userdata, const struct err *err) {
    struct call *c = userdata;
    if (err) {
        call_fail(c, err);
        return;
    }
    Stasis__Sandbox__V1__RestoreSnapshotResponse out = STASIS__SANDBOX__V1__RESTORE_SNAPSHOT_RESPONSE__INIT;
    out.usec = now_usec() - c->begun_usec;
    ttrpc_reply(c->req, &out.base);
    free(c);
}

/* There is nothing in this sandbox but what nobody wants any more. */
static void on_restore_abandoned(struct ttrpc_request *req, enum ttrpc_abandoned why, void *userdata) {
    struct call *c = userdata;
    (void)req;
    log_warn("the snapshot is not restored to the end: %s", ttrpc_abandoned_text(why));
    (void)sd_event_exit(c->s->event, 0);
}

void service_handle_restore_snapshot(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Stasis__Sandbox__V1__RestoreSnapshotRequest *in = (const void *)msg;
    struct snapshot_container to[SANDBOX_CONTAINERS_MAX];
    struct err err = ERR_INIT;
    struct call *c = call_new(userdata, req);
    if (!c)
        return;
    int r = check_store(in->store, in->name, &err);
    if (r == 0 && in->n_containers > ARRAY_SIZE(to))
        r = err_set(&err, EINVAL, "more than %zu containers", ARRAY_SIZE(to));
    for (size_t i = 0; r == 0 && i < in->n_containers; i++) {
        to[i] = (struct snapshot_container){.id = in->containers[i]->id,
                                            .bundle = in->containers[i]->bundle,
                                            .host_pid = (pid_t)in->containers[i]->init_pid,
                                            .mounts = in->containers[i]->mounts,
                                            .n_mounts = in->containers[i]->n_mounts};
        if (!path_is_normal(to[i].bundle))
            r = err_set(&err, EINVAL, "containers[%zu].bundle: must be an absolute path", i);
    }
    struct snapshot_restore_spec spec = {.store = in->store,
                                         .name = in->name,
                                         .new_identity = in->new_identity,
                                         .force = in->force,
                                         .containers = to,
                                         .n_containers = in->n_containers};
    if (r == 0)
        r = ttrpc_request_on_abandoned(req, on_restore_abandoned, c, &err);
    if (r == 0)
        r = snapshot_restore(c->s->sb, &spec, on_restored, c, &err);
    if (r < 0)
        call_fail(c, &err);
}

static int attach(struct service *s, struct ttrpc_request *req, const Stasis__Sandbox__V1__AttachRequest *in,
                  struct process **ret, struct err *err) {
    struct process_stdio io = PROCESS_STDIO_NONE;
    int r = service_take_stdio(req, in->stdin, "stdin", &io.in, err);
    if (r == 0)
        r = service_take_stdio(req, in->stdout, "stdout", &io.out, err);
    if (r == 0)
        r = service_take_stdio(req, in->stderr, "stderr", &io.err, err);
    if (r == 0)
        r = task_find_process(s, in->id, in->exec_id, ret, err);
    if (r < 0) {
        process_stdio_close(&io);
        return r;
    }
    io.in_kind = STDIO_CLIENT;
    io.out_kind = io.err_kind = in->append ? STDIO_LOG : STDIO_CLIENT;
    return process_attach(*ret, &io, err);
}

void service_handle_attach(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    struct process *p = NULL;
    struct err err = ERR_INIT;
    if (attach(userdata, req, (const void *)msg, &p, &err) < 0) {
        ttrpc_fail(req, &err);
        return;
    }
    Stasis__Sandbox__V1__AttachResponse out = STASIS__SANDBOX__V1__ATTACH_RESPONSE__INIT;
    out.terminal = process_is_terminal(p);
    ttrpc_reply(req, &out.base);
}

void service_handle_detach(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Stasis__Sandbox__V1__DetachRequest *in = (const void *)msg;
    struct process *p = NULL;
    struct err err = ERR_INIT;
    if (task_find_process(userdata, in->id, in->exec_id, &p, &err) < 0) {
        ttrpc_fail(req, &err);
        return;
    }
    process_detach(p);
    ttrpc_reply(req, NULL);
}

static void on_template(void *userdata, const struct template_outcome *o, const struct err *err) {
    struct call *c = userdata;
    if (err) {
        call_fail(c, err);
        return;
    }
    Stasis__Sandbox__V1__BuildTemplateResponse out = STASIS__SANDBOX__V1__BUILD_TEMPLATE_RESPONSE__INIT;
    out.name = (char *)(uintptr_t)o->name;
    out.built = o->built;
    out.memory_bytes = o->memory_bytes;
    ttrpc_reply(c->req, &out.base);
    free(c);
}

void service_handle_build_template(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Stasis__Sandbox__V1__BuildTemplateRequest *in = (const void *)msg;
    struct err err = ERR_INIT;
    struct call *c = call_new(userdata, req);
    if (!c)
        return;
    int r = check_store(in->store, NULL, &err);
    if (r == 0)
        r = template_build(c->s->sb, in->store, in->rebuild, on_template, c, &err);
    if (r < 0)
        call_fail(c, &err);
}
