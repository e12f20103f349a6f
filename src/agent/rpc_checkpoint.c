/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of the Agent service that go through CRIU. */
#include "agent/checkpoint.h"
#include "agent/restore.h"
#include "agent/rpc_impl.h"
#include "proto/agent.pb-c.h"

#define MSG(name) Stasis__Agent__V1__##name

static struct criu_options options_of(const MSG(CriuOptions) * m) {
    if (!m)
        return (struct criu_options){0};
    return (struct criu_options){
        .tcp_established = m->tcp_established,
        .tcp_skip_in_flight = m->tcp_skip_in_flight,
        .tcp_close = m->tcp_close,
        .ext_unix_sk = m->ext_unix_sk,
        .shell_job = m->shell_job,
        .file_locks = m->file_locks,
        .auto_dedup = m->auto_dedup,
        .lazy_pages = m->lazy_pages,
        .link_remap = m->link_remap,
        .manage_cgroups_mode = m->manage_cgroups_mode,
        .network_lock = m->network_lock,
        .lsm_profile = m->lsm_profile,
        .lsm_mount_context = m->lsm_mount_context,
        .page_server = m->page_server,
        .empty_ns = m->empty_ns,
        .n_empty_ns = m->n_empty_ns,
        .log_level = m->log_level,
    };
}

static void checkpointed(void *userdata, const struct checkpoint_result *result, const struct err *err) {
    MSG(CheckpointResponse) out = STASIS__AGENT__V1__CHECKPOINT_RESPONSE__INIT;
    if (err) {
        ttrpc_fail(userdata, err);
        return;
    }
    out.criu_version = (char *)result->criu_version;
    out.duration_usec = result->duration_usec;
    ttrpc_reply(userdata, &out.base);
}

void rpc_on_checkpoint(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(CheckpointRequest) *m = (const void *)in;
    const struct checkpoint_request request = {
        .image_dir = m->image_dir,
        .work_dir = m->work_dir,
        .parent_dir = m->parent_dir,
        .leave_running = m->leave_running,
        .pre_dump = m->pre_dump,
        .allow_execs = m->allow_execs,
        .options = options_of(m->options),
        .timeout_usec = rpc_time(req, CHECKPOINT_TIMEOUT_USEC),
    };
    struct err err = ERR_INIT;
    struct container *c = rpc_find_container(userdata, req, m->id);
    if (c && container_checkpoint(c, &request, checkpointed, req, &err) < 0)
        ttrpc_fail(req, &err);
}

void rpc_on_restore(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(RestoreRequest) *m = (const void *)in;
    const MSG(CreateContainerRequest) *create = m->create;
    struct err err = ERR_INIT;
    if (!create) {
        err_set(&err, EINVAL, "the request names no container");
        ttrpc_fail(req, &err);
        return;
    }
    const struct process_streams streams = {.terminal = create->terminal,
                                            .in = create->stdin,
                                            .out = create->stdout,
                                            .err = create->stderr,
                                            .width = create->width,
                                            .height = create->height,
                                            .relayed = create->relayed};
    struct criu_options options = options_of(m->options);
    options.own_network = create->make_network;
    const struct restore_request request = {
        .container = {.id = create->id,
                      .spec = create->spec.data,
                      .len = create->spec.len,
                      .streams = &streams,
                      .make_network = create->make_network,
                      .pin_namespaces = create->pin_namespaces,
                      .timeout_usec = rpc_time(req, CHECKPOINT_TIMEOUT_USEC)},
        .image_dir = m->image_dir,
        .work_dir = m->work_dir,
        .options = options,
    };
    if (container_restore(userdata, &request, rpc_created, req, &err) < 0)
        ttrpc_fail(req, &err);
}
