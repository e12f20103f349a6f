/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the mock answers about snapshots and to clients that attach: Snapshot tells what it got (snapshot.txt in
 * the bundle); RestoreSnapshot starts the processes of the bundles anew, with pipes that an attached client is
 * connected to, and tells what it got (restore.txt in the first bundle). The annotation "mock" "fail" makes it fail.
 */
#include "mock.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "message_text.h"
#include "proto/sandbox.pb-c.h"

void handle_snapshot(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    struct mock *m = userdata;
    const Stasis__Sandbox__V1__SnapshotRequest *in = (const void *)msg;
    static const char *warnings[] = {"the mock saves nothing"};
    cleanup_free char *text = message_text(&in->base, "");
    mock_leave_text(m, "snapshot.txt", text);
    if (strcmp(in->name, "taken") == 0) {
        mock_fail(req, EEXIST, "there is a snapshot taken already");
        return;
    }
    Stasis__Sandbox__V1__SnapshotResponse out = STASIS__SANDBOX__V1__SNAPSHOT_RESPONSE__INIT;
    out.stopped_usec = 84000;
    out.memory_bytes = 1 << 20;
    out.shared_bytes = 1 << 19;
    out.device_bytes = 1 << 10;
    out.root_bytes = 5;
    out.warnings = (char **)(uintptr_t)warnings;
    out.n_warnings = in->force;
    ttrpc_reply(req, &out.base);
}

/* The pipes that stand for what the guest keeps until somebody takes it. */
static void make_stdio(struct process *p) {
    for (int i = 0; i < 3; i++) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
            abort();
        p->fds[i] = ends[i == 0 ? 0 : 1];
        p->hold[i] = ends[i == 0 ? 1 : 0];
    }
}

static int restore_one(struct mock *m, const Stasis__Sandbox__V1__RestoredContainer *c, struct err *err) {
    cleanup_free char *path = path_join(c->bundle, "config.json");
    cleanup_json json_t *config = NULL;
    int r = json_parse_file(path, &config, err);
    if (r < 0)
        return r;
    const char *mode = json_string_value(json_object_get(json_object_get(config, "annotations"), "mock"));
    if (mode && strcmp(mode, "fail") == 0)
        return err_set(err, EBADMSG, "the mock fails, as it was told");
    json_t *process = json_object_get(config, "process");
    m->bundle = strdup(c->bundle);
    m->rootfs = strdup("/");
    struct process *p = process_add(m, "", json_incref(process), json_is_true(json_object_get(process, "terminal")),
                                    c->init_pid, 80, 25);
    make_stdio(p);
    r = process_start(p, err);
    m->status = "running";
    mock_save(m);
    return r;
}

void handle_restore_snapshot(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    struct mock *m = userdata;
    const Stasis__Sandbox__V1__RestoreSnapshotRequest *in = (const void *)msg;
    struct err err = ERR_INIT;
    if (restore_one(m, in->containers[0], &err) < 0) {
        ttrpc_fail(req, &err);
        return;
    }
    cleanup_free char *text = message_text(&in->base, in->containers[0]->id);
    mock_leave_text(m, "restore.txt", text);
    Stasis__Sandbox__V1__RestoreSnapshotResponse out = STASIS__SANDBOX__V1__RESTORE_SNAPSHOT_RESPONSE__INIT;
    out.usec = 30000;
    ttrpc_reply(req, &out.base);
}

/* The client's stdin has ended, and so does the process's. */
static void on_client_input_done(struct pump *pump, void *userdata) {
    (void)pump;
    struct process *p = userdata;
    p->hold[0] = fd_close(p->hold[0]);
}

static const struct pump_ops client_input_ops = {.done = on_client_input_done};

static int relay(struct process *p, int i, const char *uri, struct ttrpc_request *req, struct err *err) {
    if (strcmp(uri, "fd://") != 0)
        return 0;
    p->client[i] = ttrpc_request_take_fd(req);
    if (p->hold[i] < 0) /* stdin of which an earlier client has seen the end */
        return 0;
    return i == 0 ? pump_new(p->mock->event, p->client[i], p->hold[i], &client_input_ops, p, &p->relay[i], err)
                  : pump_new(p->mock->event, p->hold[i], p->client[i], &process_output_ops, p, &p->relay[i], err);
}

void handle_attach(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Stasis__Sandbox__V1__AttachRequest *in = (const void *)msg;
    struct process *p = process_find_or_fail(userdata, in->exec_id, req);
    struct err err = ERR_INIT;
    if (!p)
        return;
    if (p->hold[1] < 0 || p->relay[1]) {
        mock_fail(req, EBUSY, "its stdio is connected already");
        return;
    }
    int r = relay(p, 0, in->stdin, req, &err);
    if (r == 0)
        r = relay(p, 1, in->stdout, req, &err);
    if (r == 0)
        r = relay(p, 2, in->stderr, req, &err);
    cleanup_free char *text = message_text(&in->base, "");
    mock_leave_text(userdata, "attach.txt", text);
    Stasis__Sandbox__V1__AttachResponse out = STASIS__SANDBOX__V1__ATTACH_RESPONSE__INIT;
    out.terminal = p->terminal;
    if (r < 0)
        ttrpc_fail(req, &err);
    else
        ttrpc_reply(req, &out.base);
}

void handle_detach(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Stasis__Sandbox__V1__DetachRequest *in = (const void *)msg;
    struct process *p = process_find_or_fail(userdata, in->exec_id, req);
    if (!p)
        return;
    process_let_go(p);
    mock_leave_text(userdata, "detach.txt", "");
    ttrpc_reply(req, NULL);
}

void handle_build_template(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    (void)userdata;
    const Stasis__Sandbox__V1__BuildTemplateRequest *in = (const void *)msg;
    Stasis__Sandbox__V1__BuildTemplateResponse out = STASIS__SANDBOX__V1__BUILD_TEMPLATE_RESPONSE__INIT;
    out.name = TEXT("q35-mock");
    out.built = in->rebuild;
    out.memory_bytes = 50 << 20;
    ttrpc_reply(req, &out.base);
}
