/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of the Agent service that belong to snapshots of the whole machine. */
#include "agent/check.h"
#include "agent/container.h"
#include "agent/deleted.h"
#include "agent/identity.h"
#include "agent/rpc_impl.h"
#include "agent/snapshot.h"
#include "base/log.h"
#include "base/util.h"
#include "proto/agent.pb-c.h"

#define MSG(name) Stasis__Agent__V1__##name

static void frozen(void *userdata, const struct deleted_list *deleted, const struct err *err) {
    MSG(FreezeResponse) out = STASIS__AGENT__V1__FREEZE_RESPONSE__INIT;
    MSG(DeletedFile) files[DELETED_MAX], *list[DELETED_MAX];
    if (err) {
        ttrpc_fail(userdata, err);
        return;
    }
    for (size_t i = 0; i < deleted->n; i++) {
        const struct deleted_file *f = &deleted->v[i];
        files[i] = (MSG(DeletedFile))STASIS__AGENT__V1__DELETED_FILE__INIT;
        files[i].container_id = (char *)f->container_id;
        files[i].pid = (uint32_t)f->pid;
        files[i].command = (char *)f->command;
        files[i].path = (char *)f->path;
        list[i] = &files[i];
    }
    out.n_deleted = deleted->n;
    out.deleted = list;
    ttrpc_reply(userdata, &out.base);
}

static void freeze(struct agent *a, struct ttrpc_request *req, const MSG(FreezeRequest) * m) {
    const struct snapshot_freeze_request request = {
        .allow_deleted = m->allow_deleted,
        .for_template = m->for_template,
        .timeout_usec = rpc_time(req, SNAPSHOT_FREEZE_TIMEOUT_USEC),
    };
    struct err err = ERR_INIT;
    if (snapshot_freeze(a, &request, frozen, req, &err) < 0)
        ttrpc_fail(req, &err);
}

/* A template's request, while CRIU is looked at. */
struct waiting {
    struct agent *agent;
    struct ttrpc_request *req;
    const MSG(FreezeRequest) * m;
};

static void on_checked(void *userdata, const struct check_result *result, const struct err *err) {
    struct waiting w = *(struct waiting *)userdata;
    (void)result;
    if (err)
        log_warn("the template does not know what CRIU can do: %s", err->msg);
    free(userdata);
    freeze(w.agent, w.req, w.m);
}

/* What CRIU finds out about the kernel it keeps in /run: every copy of a template knows it from the start. */
void rpc_on_freeze(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct agent *a = userdata;
    const MSG(FreezeRequest) *m = (const void *)in;
    struct waiting *w = m->for_template && !a->criu_check && !a->checking ? malloc(sizeof(*w)) : NULL;
    struct err err = ERR_INIT;
    if (w) {
        *w = (struct waiting){.agent = a, .req = req, .m = m};
        if (check_run_brief(a, on_checked, w, &err) == 0)
            return;
        free(w);
    }
    freeze(a, req, m);
}

static void thawed(void *userdata) {
    ttrpc_reply(userdata, NULL);
}

void rpc_on_thaw(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    const MSG(ThawRequest) *m = (const void *)in;
    struct err err = ERR_INIT;
    cleanup_free struct identity_name *names = calloc(m->n_containers + 1, sizeof(*names));
    if (!names) {
        err_set(&err, ENOMEM, "out of memory");
        ttrpc_fail(req, &err);
        return;
    }
    for (size_t i = 0; i < m->n_containers; i++)
        names[i] = (struct identity_name){.id = m->containers[i]->id, .hostname = m->containers[i]->hostname};
    const struct snapshot_thaw_request request = {
        .entropy = m->entropy.data,
        .entropy_len = m->entropy.len,
        .wall_usec = m->wall_usec,
        .new_identity = m->new_identity,
        .names = names,
        .n_names = m->n_containers,
        .check_files = m->check_files,
    };
    if (snapshot_thaw(userdata, &request, thawed, req, &err) < 0)
        ttrpc_fail(req, &err);
}

/* Inspect. */

typedef MSG(InspectResponse__ContainerDetails) details;
typedef MSG(InspectResponse__ProcessEntry) entry;

static void fill_entry(const struct process *p, entry *e) {
    *e = (entry)STASIS__AGENT__V1__INSPECT_RESPONSE__PROCESS_ENTRY__INIT;
    e->exec_id = (char *)p->exec_id;
    e->pid = (uint32_t)p->pid;
    e->exited = p->state == PROCESS_EXITED;
}

/* The entries, and after them the list of pointers to them. */
static int fill_details(const struct container *c, details *d, void **ret) {
    size_t n = 0;
    entry *entries = calloc(c->n_execs + 1, sizeof(*entries) + sizeof(void *));
    if (!entries)
        return -ENOMEM;
    entry **list = (void *)(entries + c->n_execs + 1);
    fill_entry(c->init, &entries[n++]);
    for (const struct process *p = c->execs; p && n <= c->n_execs; p = p->next)
        if (!p->abandoned)
            fill_entry(p, &entries[n++]);
    for (size_t i = 0; i < n; i++)
        list[i] = &entries[i];
    *d = (details)STASIS__AGENT__V1__INSPECT_RESPONSE__CONTAINER_DETAILS__INIT;
    d->id = (char *)c->id;
    d->n_processes = n;
    d->processes = list;
    *ret = entries;
    return 0;
}

void rpc_on_inspect(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    (void)in;
    const struct agent *a = userdata;
    MSG(InspectResponse) out = STASIS__AGENT__V1__INSPECT_RESPONSE__INIT;
    details all[AGENT_CONTAINERS_MAX], *list[AGENT_CONTAINERS_MAX];
    void *entries[AGENT_CONTAINERS_MAX] = {0};
    struct err err = ERR_INIT;
    int r = 0;
    for (const struct container *c = a->containers; c && r == 0 && out.n_containers < AGENT_CONTAINERS_MAX;
         c = c->next) {
        size_t i = out.n_containers;
        r = fill_details(c, &all[i], &entries[i]);
        list[i] = &all[i];
        out.n_containers += r == 0;
    }
    out.containers = list;
    if (r < 0) {
        err_set(&err, ENOMEM, "out of memory");
        ttrpc_fail(req, &err);
    } else {
        ttrpc_reply(req, &out.base);
    }
    for (size_t i = 0; i < AGENT_CONTAINERS_MAX; i++)
        free(entries[i]);
}
