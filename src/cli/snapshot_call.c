/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/snapshot_call.h"

#include "snapshot/manifest.h"

#include <stdlib.h>

/* protobuf-c's messages have no const strings; they are only read from. */
#define TEXT(s) ((char *)(uintptr_t)(s))

static const ProtobufCServiceDescriptor *const sandbox = &stasis__sandbox__v1__sandbox__descriptor;

int call_snapshot(struct session *s, const struct snapshot_call *c, uint64_t timeout,
                  Stasis__Sandbox__V1__SnapshotResponse **ret, struct err *err) {
    Stasis__Sandbox__V1__SnapshotRequest req = STASIS__SANDBOX__V1__SNAPSHOT_REQUEST__INIT;
    req.store = TEXT(c->store);
    req.name = TEXT(c->name);
    req.stop = c->stop;
    req.force = c->force;
    req.no_sync = c->no_sync;
    return session_call(s, sandbox, "Snapshot", &req.base, NULL, 0, timeout, (ProtobufCMessage **)(void *)ret, err);
}

int call_restore_snapshot(struct session *s, const struct restore_call *c, uint64_t timeout, uint64_t *ret_usec,
                          struct err *err) {
    typedef Stasis__Sandbox__V1__RestoredContainer restored;
    Stasis__Sandbox__V1__RestoreSnapshotRequest req = STASIS__SANDBOX__V1__RESTORE_SNAPSHOT_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    cleanup_free restored *list = calloc(c->n + 1, sizeof(*list));
    restored *pointers[MANIFEST_CONTAINERS_MAX];
    if (!list)
        return err_set(err, ENOMEM, "out of memory");
    if (c->n > MANIFEST_CONTAINERS_MAX)
        return err_set(err, E2BIG, "more than %d containers", MANIFEST_CONTAINERS_MAX);
    for (size_t i = 0; i < c->n; i++) {
        stasis__sandbox__v1__restored_container__init(&list[i]);
        list[i].id = TEXT(c->containers[i].id);
        list[i].bundle = TEXT(c->containers[i].bundle);
        list[i].mounts = c->containers[i].mounts->v;
        list[i].n_mounts = c->containers[i].mounts->n;
        list[i].init_pid = (uint32_t)c->containers[i].host_pid;
        pointers[i] = &list[i];
    }
    req.store = TEXT(c->store);
    req.name = TEXT(c->name);
    req.new_identity = c->new_identity;
    req.force = c->force;
    req.containers = pointers;
    req.n_containers = c->n;
    int r = session_call(s, sandbox, "RestoreSnapshot", &req.base, NULL, 0, timeout, &reply, err);
    if (r < 0)
        return r;
    *ret_usec = ((const Stasis__Sandbox__V1__RestoreSnapshotResponse *)reply)->usec;
    protobuf_c_message_free_unpacked(reply, NULL);
    return 0;
}

int call_attach(struct session *s, const char *id, const char *exec_id, const struct task_stdio *io, bool append,
                struct err *err) {
    Stasis__Sandbox__V1__AttachRequest req = STASIS__SANDBOX__V1__ATTACH_REQUEST__INIT;
    req.id = TEXT(id);
    req.exec_id = TEXT(exec_id);
    req.stdin = TEXT(io->in);
    req.stdout = TEXT(io->out);
    req.stderr = TEXT(io->err);
    req.width = io->width;
    req.height = io->height;
    req.append = append;
    return session_call(s, sandbox, "Attach", &req.base, io->fds, io->n_fds, 0, NULL, err);
}

int call_detach(struct session *s, const char *id, const char *exec_id, struct err *err) {
    Stasis__Sandbox__V1__DetachRequest req = STASIS__SANDBOX__V1__DETACH_REQUEST__INIT;
    req.id = TEXT(id);
    req.exec_id = TEXT(exec_id);
    return session_call(s, sandbox, "Detach", &req.base, NULL, 0, 0, NULL, err);
}

int call_build_template(struct session *s, const char *store, bool rebuild, uint64_t timeout,
                        Stasis__Sandbox__V1__BuildTemplateResponse **ret, struct err *err) {
    Stasis__Sandbox__V1__BuildTemplateRequest req = STASIS__SANDBOX__V1__BUILD_TEMPLATE_REQUEST__INIT;
    req.store = TEXT(store);
    req.rebuild = rebuild;
    return session_call(s, sandbox, "BuildTemplate", &req.base, NULL, 0, timeout, (ProtobufCMessage **)(void *)ret,
                        err);
}
