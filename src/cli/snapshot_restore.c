/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/snapshot_restore.h"

#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/path.h"
#include "cli/attach.h"
#include "cli/delete.h"
#include "cli/launch.h"
#include "cli/lookup.h"
#include "cli/monitor.h"
#include "cli/new_sandbox.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/snapshot_bundle.h"
#include "cli/snapshot_call.h"
#include "cli/snapshot_open.h"

/* One container on its way. */
struct member {
    char *id, *bundle; /* owned */
    json_t *spec;      /* of the bundle; owned */
    struct strv mounts;
    struct monitor monitor;
};

struct restore {
    struct cli *cli;
    const struct snapshot_restore *o;
    const char *id;              /* of the sandbox */
    bool new_identity, replaces; /* there is something to replace */
    struct config config;
    struct snapshot snapshot;
    struct member *members; /* one for each container of the manifest */
    size_t n, main;
    struct new_sandbox sandbox;
    bool wrote_pid;
};

static int out_of_memory(struct err *err) {
    return err_set(err, ENOMEM, "out of memory");
}

static void clear(struct restore *x) {
    for (size_t i = 0; i < x->n; i++) {
        struct member *m = &x->members[i];
        monitor_abort(&m->monitor); /* a released one lives on */
        json_decref(m->spec);
        strv_clear(&m->mounts);
        free(m->id);
        free(m->bundle);
    }
    free(x->members);
    new_sandbox_close(&x->sandbox);
    snapshot_close(&x->snapshot);
}

static int choose_ids(struct restore *x, struct err *err) {
    const struct manifest *m = &x->snapshot.manifest;
    x->id = x->o->id ? x->o->id : m->sandbox_id;
    bool original = strcmp(x->id, m->sandbox_id) == 0 && !x->snapshot.imported;
    x->new_identity = x->o->identity == RESTORE_IDENTITY_NEW || (x->o->identity == RESTORE_IDENTITY_AUTO && !original);
    int r = id_validate("container id", x->id, err);
    if (r < 0)
        return r;
    if (m->n_containers == 0)
        return err_set(err, EINVAL, "it has no container");
    x->members = calloc(m->n_containers, sizeof(*x->members));
    if (!x->members)
        return out_of_memory(err);
    for (; x->n < m->n_containers; x->n++) {
        const char *old = m->containers[x->n].id;
        struct member *member = &x->members[x->n];
        bool main = strcmp(old, m->sandbox_id) == 0, same = strcmp(x->id, m->sandbox_id) == 0;
        member->monitor = MONITOR_NONE;
        if (main)
            x->main = x->n;
        member->id = main ? strdup(x->id) : same ? strdup(old) : str_printf("%s-%s", x->id, old);
        if (!member->id) {
            x->n++;
            return out_of_memory(err);
        }
    }
    for (size_t i = 0; r == 0 && i < x->n; i++)
        r = id_validate("container id", x->members[i].id, err);
    return r;
}

static int make_specs(struct restore *x, struct err *err) {
    const struct strv *mounts = x->o->mounts;
    cleanup_free bool *used = calloc(mounts ? mounts->n + 1 : 1, sizeof(*used));
    const struct snapshot_bundle_rules rules = {.imported = x->snapshot.imported, .mounts = mounts, .used = used};
    int r = used ? 0 : out_of_memory(err);
    for (size_t i = 0; r == 0 && i < x->n; i++) {
        const struct manifest_container *c = &x->snapshot.manifest.containers[i];
        r = snapshot_bundle_spec(c->spec, c->id, &rules, &x->members[i].spec, err);
        if (r == 0)
            r = snapshot_bundle_mounts(c->state, c->id, &rules, &x->members[i].mounts, err);
    }
    for (size_t i = 0; r == 0 && mounts && used && i < mounts->n; i++)
        if (!used[i])
            r = err_set(err, EINVAL, "--allow-mount %s: nothing in the snapshot is mounted from there", mounts->v[i]);
    return r;
}

/* Ids are unique in the root, not only in their sandbox. */
static int check_ids(struct restore *x, struct err *err) {
    for (size_t i = 0; i < x->n; i++) {
        cleanup_lookup struct lookup l = LOOKUP_NONE;
        const char *id = x->members[i].id;
        struct err e = ERR_INIT;
        int r = lookup_container(x->cli, id, &l, &e);
        if (r == 0 && x->o->replace && strcmp(l.dir.id, x->id) == 0) {
            x->replaces = true;
            continue;
        }
        if (r == 0)
            return err_set(err, EEXIST, "container %s exists: delete it first, or %s", id,
                           x->o->id ? "choose another --id" : "use --replace, or --id for a copy beside it");
        if (r != -ENOENT && r != -EINVAL)
            return err_copy(err, &e);
    }
    return 0;
}

/* What the sandbox that is replaced would be lost for. */
static int check_host(const struct restore *x, struct err *err) {
    for (size_t i = 0; i < x->n; i++)
        for (size_t k = 0; k < x->members[i].mounts.n; k++)
            if (access(x->members[i].mounts.v[k], F_OK) < 0)
                return err_errno(err, errno, "container %s mounts %s", x->members[i].id, x->members[i].mounts.v[k]);
    if (!x->o->pid_file)
        return 0;
    const char *slash = strrchr(x->o->pid_file, '/');
    cleanup_free char *dir =
        slash ? str_printf("%.*s", (int)MAX(slash - x->o->pid_file, 1), x->o->pid_file) : strdup(".");
    if (!dir)
        return out_of_memory(err);
    return access(dir, W_OK) < 0 ? err_errno(err, errno, "--pid-file %s", x->o->pid_file) : 0;
}

static int prepare(struct restore *x, struct err *err) {
    int r = cli_load_config(x->cli, &x->config, err);
    if (r == 0)
        r = snapshot_open(SNAPSHOT_KIND_SNAPSHOT, x->config.snapshot_dir, x->o->name, &x->snapshot, err);
    if (r == 0)
        r = choose_ids(x, err);
    if (r == 0)
        r = make_specs(x, err);
    if (r == 0)
        r = check_ids(x, err);
    if (r == 0 && x->replaces)
        r = check_host(x, err);
    /* What is there is only given up for a snapshot that is whole, and of a machine that can run here. */
    if (r == 0 && x->replaces)
        r = sandbox_check_snapshot(x->cli, x->snapshot.fd, err);
    if (r == 0 && x->replaces)
        r = snapshot_verify(&x->snapshot, x->o->name, err);
    return r;
}

static int make_dir(struct restore *x, struct err *err) {
    int r = x->o->replace ? delete_container(x->cli, x->id, true, err) : 0;
    if (r < 0)
        return r;
    r = sandbox_dir_make(x->cli->root, x->id, &x->sandbox.dir, err);
    return r == -EEXIST ? err_set(err, EEXIST, "container %s exists: delete it first, or choose another --id", x->id)
                        : r;
}

static int make_members(struct restore *x, struct err *err) {
    cleanup_free char *dir = sandbox_dir_path(&x->sandbox.dir);
    int r = dir ? 0 : out_of_memory(err);
    for (size_t i = 0; r == 0 && i < x->n; i++) {
        struct member *m = &x->members[i];
        m->bundle = str_printf("%s/bundle/%zu", dir, i);
        if (FAULT(DIR_BUNDLE))
            return err_errno(err, errno, "cannot create directory %s", m->bundle);
        r = m->bundle ? snapshot_bundle_write(m->bundle, m->spec, err) : out_of_memory(err);
        const struct monitor_spec spec = {.sandbox_id = x->id,
                                          .container_id = m->id,
                                          .exec_id = "",
                                          .title = json_object_get(json_object_get(m->spec, "process"), "args"),
                                          .slave = -1};
        if (r == 0)
            r = monitor_fork(&spec, &m->monitor, err);
    }
    return r;
}

static int call(struct restore *x, struct restored *ret, struct err *err) {
    cleanup_free struct restore_call_container *list = calloc(MAX(x->n, 1), sizeof(*list));
    cleanup_free char *what = str_printf("restoring %s", x->id);
    struct progress progress = {0};
    struct session *s = &x->sandbox.session;
    if (!list || !what)
        return out_of_memory(err);
    for (size_t i = 0; i < x->n; i++)
        list[i] = (struct restore_call_container){.id = x->members[i].id,
                                                  .bundle = x->members[i].bundle,
                                                  .host_pid = x->members[i].monitor.pid,
                                                  .mounts = &x->members[i].mounts};
    const struct restore_call c = {.store = x->config.snapshot_dir,
                                   .name = x->o->name,
                                   .new_identity = x->new_identity,
                                   .force = x->o->force,
                                   .containers = list,
                                   .n = x->n};
    struct attach interruptible = {.session = s}; /* only so that a signal stops the waiting */
    int r = attach_begin(&interruptible, err);
    progress_begin(&progress, s->event, what);
    if (r == 0)
        r = call_restore_snapshot(s, &c, x->config.boot_timeout + x->config.checkpoint_timeout + x->config.rpc_timeout,
                                  &ret->usec, err);
    progress_end(&progress);
    attach_end(&interruptible);
    return r;
}

static int run(struct restore *x, struct restored *ret, struct err *err) {
    pid_t pid = 0;
    int r = make_members(x, err);
    if (r == 0)
        r = new_sandbox_start(&x->sandbox, x->cli, x->members[x->main].bundle, x->config.rpc_timeout, err);
    for (size_t i = 0; r == 0 && i < x->n; i++)
        r = monitor_attach(&x->members[i].monitor, &x->sandbox.session, x->sandbox.daemon.pid, x->sandbox.daemon_start,
                           err);
    if (r == 0)
        r = call(x, ret, err);
    if (r == 0)
        pid = x->members[x->main].monitor.pid;
    for (size_t i = 0; r == 0 && i < x->n; i++)
        r = monitor_release(&x->members[i].monitor, err);
    if (r == 0 && x->o->pid_file) {
        r = launch_write_pid(x->o->pid_file, pid, err);
        x->wrote_pid = r == 0;
    }
    if (r == 0 && !(ret->id = strdup(x->members[x->main].id)))
        r = out_of_memory(err);
    return r;
}

int snapshot_restore(struct cli *cli, const struct snapshot_restore *o, struct restored *ret, struct err *err) {
    struct restore x = {.cli = cli, .o = o, .snapshot = SNAPSHOT_NONE, .sandbox = NEW_SANDBOX_NONE};
    int r = prepare(&x, err);
    if (r == 0) {
        signals_block();
        r = make_dir(&x, err);
    }
    if (r == 0) {
        r = run(&x, ret, err);
        if (r < 0) {
            new_sandbox_remove(&x.sandbox);
            if (x.wrote_pid)
                (void)unlink(o->pid_file);
        }
    }
    clear(&x);
    return r < 0 ? err_wrap(err, "cannot restore snapshot %s", o->name) : 0;
}
