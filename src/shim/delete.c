/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/path.h"
#include "oci/pod.h"
#include "oci/spec.h"
#include "proto/sandbox.pb-c.h"
#include "proto/task.pb-c.h"
#include "shim/bootstrap.h"
#include "shim/home.h"
#include "shim/start.h"
#include "shim/timestamp.h"
#include "ttrpc/client.h"

#define EXIT_KILLED 137                /* 128 + SIGKILL */
#define REMOVE_USEC (4 * USEC_PER_SEC) /* containerd gives the whole command 5 s */

struct outcome {
    uint32_t pid, status;
    uint64_t exited_wall_usec;
};

/* What config.json says, as far as it can be read: the bundle may be half gone. */
struct bundle_facts {
    json_t *spec; /* owned; may be NULL */
    struct oci_pod pod;
};

static void read_bundle(const char *dir, struct bundle_facts *ret) {
    struct err err = ERR_INIT;
    *ret = (struct bundle_facts){0};
    cleanup_free char *path = path_join(dir, "config.json");
    if (!path || json_parse_file(path, &ret->spec, &err) < 0) {
        if (err.code != ENOENT)
            log_warn("%s", err.msg);
    } else if (oci_pod_role(ret->spec, &ret->pod, &err) < 0) {
        log_warn("%s", err.msg);
    }
}

static int ask_daemon(const char *address, const char *id, struct outcome *io, struct err *err) {
    sd_event *event = NULL;
    struct ttrpc_client *client = NULL;
    Stasis__Sandbox__V1__RemoveRequest req = STASIS__SANDBOX__V1__REMOVE_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.id = (char *)(uintptr_t)id;
    int r = home_connect(address, err);
    if (r < 0)
        return r;
    int fd = r;
    if (sd_event_new(&event) < 0) {
        fd_close(fd);
        return err_set(err, ENOMEM, "out of memory");
    }
    r = ttrpc_client_new_plain(event, fd, NULL, NULL, &client, err);
    if (r == 0)
        r = ttrpc_client_call_sync(client, &stasis__sandbox__v1__sandbox__descriptor, "Remove", &req.base, NULL, 0,
                                   REMOVE_USEC, &reply, err);
    if (r == 0) {
        const Stasis__Sandbox__V1__RemoveResponse *m = (const void *)reply;
        *io = (struct outcome){.pid = m->pid, .status = m->exit_status, .exited_wall_usec = m->exited_wall_usec};
        protobuf_c_message_free_unpacked(reply, NULL);
    }
    ttrpc_client_free(client);
    sd_event_unref(event);
    return r;
}

/* The daemon is dead or does not answer, and this container is the one it was made for. */
static int clear_sandbox(const char *namespace, const char *id, const char *address, const json_t *spec,
                         struct outcome *io, struct err *err) {
    cleanup_home struct home h = HOME_NONE;
    int r = home_name(namespace, id, &h, err);
    if (r < 0)
        return r;
    io->pid = (uint32_t)home_daemon_pid(&h);
    r = home_clear(&h, err);
    if (r < 0)
        return r;
    (void)unlink(home_socket_path(address)); /* normally gone with its daemon */
    const char *cgroup = json_string_value(json_object_get(json_object_get(spec, "linux"), "cgroupsPath"));
    struct err e = ERR_INIT;
    if (cgroup && *cgroup && cgroup_remove(cgroup, &e) < 0)
        log_warn("%s", e.msg);
    return 0;
}

static int print_outcome(const struct outcome *o, struct err *err) {
    Containerd__Task__V2__Timestamp ts = timestamp_of(o->exited_wall_usec);
    Containerd__Task__V2__DeleteResponse out = CONTAINERD__TASK__V2__DELETE_RESPONSE__INIT;
    out.pid = o->pid;
    out.exit_status = o->status;
    out.exited_at = &ts;
    uint8_t buf[64];
    size_t n = containerd__task__v2__delete_response__get_packed_size(&out);
    if (n > sizeof(buf))
        return err_set(err, EMSGSIZE, "the answer is too long");
    containerd__task__v2__delete_response__pack(&out, buf);
    int r = fd_write_all(STDOUT_FILENO, buf, n);
    return r < 0 ? err_errno(err, -r, "cannot print the answer") : 0;
}

int shim_delete(const struct cmdline *c, struct err *err) {
    struct bootstrap b = {
        .namespace = (char *)(uintptr_t)(c->namespace ? c->namespace : ""),
        .grpc_address = (char *)(uintptr_t)(c->address ? c->address : ""),
    };
    struct outcome outcome = {.status = EXIT_KILLED, .exited_wall_usec = now_wall_usec()};
    struct bundle_facts bundle;
    struct err e = ERR_INIT;
    char address[BOOTSTRAP_ADDRESS_MAX];
    int r = id_validate("container id", c->id ? c->id : "", err);
    if (r < 0)
        return r;
    read_bundle(c->bundle ? c->bundle : ".", &bundle);
    bool member = bundle.pod.role == OCI_POD_MEMBER;
    r = bootstrap_address(&b, member ? bundle.pod.sandbox_id : c->id, address, err);
    if (r == 0 && ask_daemon(address, c->id, &outcome, &e) < 0) {
        /* Closed: it was ending, and has ended now. */
        if (e.code != ENOENT && e.code != ECONNREFUSED && e.code != ECONNRESET)
            log_warn("container %s: %s", c->id, e.msg);
        if (!member)
            r = clear_sandbox(b.namespace, c->id, address, bundle.spec, &outcome, err);
    }
    json_decref(bundle.spec);
    return r < 0 ? r : print_outcome(&outcome, err);
}
