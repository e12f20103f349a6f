/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of the Task service that go to the agent as they are: checked, passed on, and its answer passed back. */
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "oci/spec.h"
#include "proto/metrics.pb-c.h"
#include "proto/options.pb-c.h"
#include "sandbox/container.h"
#include "shim/task_call.h"
#include "ttrpc/wire.h"

#define TYPE_RESOURCES "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
#define TYPE_METRICS "io.containerd.cgroups.v2.Metrics"
#define METRICS_MAX ((size_t)64 << 10) /* bytes of them, encoded: about 60 for a device, 300 for the rest */

static void on_forwarded(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    (void)reply;
    task_call_done(userdata, err);
}

static void forward(struct task_call *c, const char *method, const ProtobufCMessage *msg, ttrpc_reply_fn fn) {
    struct err err = ERR_INIT;
    if (sandbox_call(c->s->sb, method, msg, fn, c, NULL, &err) < 0)
        task_call_fail(c, &err);
}

static int find_live_process(struct service *s, const char *id, const char *exec_id, struct process **ret,
                             struct err *err) {
    int r = task_find_process(s, id, exec_id, ret, err);
    if (r < 0)
        return r;
    if (process_get_state(*ret) == PROCESS_EXITED)
        return err_set(err, ESRCH, "process already finished");
    return 0;
}

void task_handle_kill(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Containerd__Task__V2__KillRequest *in = (const void *)msg;
    struct task_call *c = task_call_new(userdata, req);
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
        task_call_fail(c, &err);
        return;
    }
    if (!*in->exec_id && container_kill_unrestored(process_container(p))) {
        task_call_done(c, NULL);
        return;
    }
    Stasis__Agent__V1__ProcessId id = process_agent_id(p);
    Stasis__Agent__V1__SignalRequest out = STASIS__AGENT__V1__SIGNAL_REQUEST__INIT;
    out.id = &id;
    out.signal = in->signal;
    out.all = in->all;
    forward(c, "Signal", &out.base, on_forwarded);
}

void task_handle_resize(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Containerd__Task__V2__ResizePtyRequest *in = (const void *)msg;
    struct task_call *c = task_call_new(userdata, req);
    if (!c)
        return;
    struct err err = ERR_INIT;
    struct process *p;
    int r = find_live_process(c->s, in->id, in->exec_id, &p, &err);
    if (r == 0 && !process_is_terminal(p))
        r = err_set(&err, EINVAL, "the process has no terminal");
    if (r < 0) {
        task_call_fail(c, &err);
        return;
    }
    Stasis__Agent__V1__ProcessId id = process_agent_id(p);
    Stasis__Agent__V1__ResizeRequest out = STASIS__AGENT__V1__RESIZE_REQUEST__INIT;
    out.id = &id;
    out.width = in->width;
    out.height = in->height;
    forward(c, "Resize", &out.base, on_forwarded);
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

void task_handle_update(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Containerd__Task__V2__UpdateTaskRequest *in = (const void *)msg;
    struct task_call *c = task_call_new(userdata, req);
    if (!c)
        return;
    struct err err = ERR_INIT;
    struct container *ctr;
    int r = task_find_container(c->s, in->id, &ctr, &err);
    if (r == 0 && (!in->resources || !task_any_is(in->resources, TYPE_RESOURCES))) {
        err_set(&err, EINVAL, "update of container %s: resources of type %s cannot be used", in->id,
                in->resources ? in->resources->type_url : "(none)");
        r = -EINVAL;
    }
    if (r == 0 && container_get_state(ctr) == CONTAINER_STOPPED)
        r = err_set(&err, EBUSY, "cannot update container %s: it is stopped", in->id);
    if (r < 0) {
        task_call_fail(c, &err);
        return;
    }
    cleanup_free char *text = NULL;
    if (resources_for_guest(in, &text, &err) < 0) {
        task_call_fail(c, &err);
        return;
    }
    Stasis__Agent__V1__UpdateRequest out = STASIS__AGENT__V1__UPDATE_REQUEST__INIT;
    out.id = (char *)(uintptr_t)container_guest_id(ctr);
    out.resources.data = (uint8_t *)text;
    out.resources.len = strlen(text);
    forward(c, "Update", &out.base, on_forwarded);
}

/* Whoever asked will unpack this, and may have no bound of its own on what the guest's bytes make it allocate. */
static int check_metrics(const ProtobufCBinaryData *m, struct err *err) {
    if (m->len > METRICS_MAX)
        return err_set(err, EPROTO, "the agent's statistics are %zu bytes long, more than %zu", m->len, METRICS_MAX);
    cleanup_message ProtobufCMessage *msg =
        wire_unpack(&io__containerd__cgroups__v2__metrics__descriptor, m->data, m->len);
    return msg ? 0 : err_set(err, EPROTO, "the agent's statistics cannot be used");
}

static void on_stats(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct task_call *c = userdata;
    struct err e = ERR_INIT;
    if (err) {
        task_call_fail(c, err);
        return;
    }
    const Stasis__Agent__V1__StatsResponse *r = (const void *)*reply;
    if (check_metrics(&r->metrics, &e) < 0) {
        task_call_fail(c, &e);
        return;
    }
    Containerd__Task__V2__Any any = CONTAINERD__TASK__V2__ANY__INIT;
    any.type_url = (char *)(uintptr_t)TYPE_METRICS;
    any.value = r->metrics;
    Containerd__Task__V2__StatsResponse out = CONTAINERD__TASK__V2__STATS_RESPONSE__INIT;
    out.stats = &any;
    task_call_reply(c, &out.base);
}

static void ask_container(struct service *s, struct ttrpc_request *req, const char *id, const char *method,
                          ttrpc_reply_fn fn) {
    struct task_call *c = task_call_new(s, req);
    if (!c)
        return;
    struct err err = ERR_INIT;
    struct container *ctr;
    snprintf(c->id, sizeof(c->id), "%s", id);
    int r = task_find_container(s, id, &ctr, &err);
    if (r == 0 && container_get_state(ctr) == CONTAINER_STOPPED)
        r = err_set(&err, EBUSY, "container %s is not running", id);
    if (r < 0) {
        task_call_fail(c, &err);
        return;
    }
    Stasis__Agent__V1__ContainerRequest out = STASIS__AGENT__V1__CONTAINER_REQUEST__INIT;
    out.id = (char *)(uintptr_t)container_guest_id(ctr);
    forward(c, method, &out.base, fn);
}

#define TYPE_DETAILS "containerd.runc.v1.ProcessDetails"
#define DETAILS_MAX ((size_t)ID_MAX + 8) /* bytes of ProcessDetails, encoded */

/* The processes of a container that the host knows. */
struct pids {
    Containerd__Task__V2__ProcessInfo *infos, **list;
    Containerd__Task__V2__Any *anys;
    uint8_t *details; /* DETAILS_MAX bytes for each */
    size_t n;
};

static void add_pid(struct pids *p, const struct process *process) {
    size_t i = p->n++;
    containerd__task__v2__process_info__init(&p->infos[i]);
    p->infos[i].pid = (uint32_t)process_host_pid(process);
    p->list[i] = &p->infos[i];
    Containerd__Runc__V1__ProcessDetails details = CONTAINERD__RUNC__V1__PROCESS_DETAILS__INIT;
    details.exec_id = (char *)(uintptr_t)process_exec_id(process);
    if (!*details.exec_id)
        return;
    containerd__task__v2__any__init(&p->anys[i]);
    p->anys[i].type_url = (char *)(uintptr_t)TYPE_DETAILS;
    p->anys[i].value.data = p->details + i * DETAILS_MAX;
    p->anys[i].value.len = containerd__runc__v1__process_details__pack(&details, p->anys[i].value.data);
    p->infos[i].info = &p->anys[i];
}

static int add_exec(struct process *process, void *userdata, struct err *err) {
    (void)err;
    if (process_get_state(process) == PROCESS_RUNNING)
        add_pid(userdata, process);
    return 0;
}

/* Engines look these pids up on the host (`docker top`), so they are the monitors': the container's, and those of execs
 * with the exec's id, in the form of runc's shim, which is the one that clients know. A stopped task still has its own,
 * as containerd takes a task without any pid for one that was never made. */
void task_handle_pids(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const char *id = ((const Containerd__Task__V2__PidsRequest *)(const void *)msg)->id;
    struct container *ctr;
    struct err err = ERR_INIT;
    int r = task_find_container(userdata, id, &ctr, &err);
    struct pids p = {0};
    size_t max = CONTAINER_EXECS_MAX + 1;
    cleanup_free Containerd__Task__V2__ProcessInfo *infos = p.infos = calloc(max, sizeof(*infos));
    cleanup_free Containerd__Task__V2__ProcessInfo **list = p.list = calloc(max, sizeof(void *));
    cleanup_free Containerd__Task__V2__Any *anys = p.anys = calloc(max, sizeof(*anys));
    cleanup_free uint8_t *details = p.details = calloc(max, DETAILS_MAX);
    if (r == 0 && !(infos && list && anys && details))
        r = err_set(&err, ENOMEM, "out of memory");
    if (r < 0) {
        ttrpc_fail(req, &err);
        return;
    }
    add_pid(&p, container_find(ctr, ""));
    (void)container_each_exec(ctr, add_exec, &p, NULL);
    Containerd__Task__V2__PidsResponse out = CONTAINERD__TASK__V2__PIDS_RESPONSE__INIT;
    out.n_processes = p.n;
    out.processes = list;
    ttrpc_reply(req, &out.base);
}

void task_handle_stats(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    ask_container(userdata, req, ((const Containerd__Task__V2__StatsRequest *)(const void *)msg)->id, "Stats",
                  on_stats);
}
