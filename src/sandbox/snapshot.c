/* SPDX-License-Identifier: Apache-2.0 */
/* The entry of a container in the manifest: written from the object here, and an object made of it in
 * snapshot_restore.c.
 */
#include "sandbox/snapshot.h"

#include <string.h>

#include "base/json.h"
#include "sandbox/container_impl.h"

/* States between two others are refused: nothing is under way when a snapshot is taken. */
static bool can_be_saved(const struct container *c) {
    switch ((enum container_state)c->state) {
    case CONTAINER_CREATED:
        return !c->restore;
    case CONTAINER_RUNNING:
    case CONTAINER_PAUSED:
    case CONTAINER_STOPPED:
        return true;
    default:
        return false;
    }
}

static json_t *describe_process(const struct process *p) {
    struct process_streams io;
    const struct process_exit *ex = process_get_exit(p);
    process_describe_stdio(p, &io);
    const char *state = ex ? "exited" : process_get_state(p) == PROCESS_CREATED ? "created" : "running";
    json_t *j =
        json_pack("{s:s, s:I, s:s, s:b, s:b, s:b, s:b, s:I, s:I}", "exec_id", process_exec_id(p), "pid",
                  (json_int_t)process_guest_pid(p), "state", state, "terminal", process_is_terminal(p), "stdin", io.in,
                  "stdout", io.out, "stderr", io.err, "width", (json_int_t)io.width, "height", (json_int_t)io.height);
    if (j && ex &&
        json_object_set_new(j, "exit",
                            json_pack("{s:I, s:I, s:b}", "status", (json_int_t)ex->status, "time",
                                      (json_int_t)ex->wall_usec, "oom", ex->oom_killed)) < 0) {
        json_decref(j);
        return NULL;
    }
    return j;
}

static int add_process(struct process *p, void *userdata, struct err *err) {
    json_t *list = userdata;
    /* An exec that was never started is known to the daemon alone, and goes with it. */
    if (*process_exec_id(p) && process_get_state(p) == PROCESS_CREATED)
        return 0;
    if (process_get_state(p) == PROCESS_STARTING)
        return err_set(err, EBUSY, "process %s is being started", process_exec_id(p));
    return json_array_append_new(list, describe_process(p)) < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

static json_t *describe_mounts(const struct oci_guest_spec *g) {
    json_t *list = json_array();
    for (size_t i = 0; i < g->n_mounts; i++) {
        const struct oci_share_mount *m = &g->mounts[i];
        if (json_array_append_new(list,
                                  json_pack("{s:I, s:I, s:s, s:b, s:b, s:b}", "index", (json_int_t)m->index,
                                            "spec_index", (json_int_t)m->spec_index, "source", m->source, "read_only",
                                            m->read_only, "recursive", m->recursive, "top_only", m->top_only)) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static int describe_root(const struct container *c, struct manifest_root *ret, char **ret_root, struct err *err) {
    const char *from = c->guest.rootfs;
    /* Lower directories of ours are another snapshot's, which may be removed: those are copied along. */
    if (c->layers.upper && !c->layers_are_ours) {
        from = c->layers.upper;
        for (size_t i = 0; i < c->layers.lowers.n; i++)
            if (strv_add(&ret->lowers, c->layers.lowers.v[i]) < 0)
                return err_set(err, ENOMEM, "out of memory");
    }
    *ret_root = strdup(from);
    return *ret_root ? 0 : err_set(err, ENOMEM, "out of memory");
}

int snapshot_describe_container(const struct container *c, struct manifest_container *ret, char **ret_root,
                                struct err *err) {
    if (!can_be_saved(c))
        return err_set(err, EBUSY, "container %s is %s", c->id, container_lifecycle.names[c->state]);
    cleanup_json json_t *processes = json_array();
    int r = processes && c->init ? add_process(c->init, processes, err) : err_set(err, ENOMEM, "out of memory");
    if (r == 0)
        r = exec_each(&c->execs, add_process, processes, err);
    if (r < 0)
        return err_wrap(err, "container %s", c->id);
    *ret = (struct manifest_container){
        .id = strdup(c->id),
        .guest_id = strdup(c->guest_id),
        .spec = json_copy_whole(c->spec),
        .state = json_pack("{s:s, s:I, s:b, s:s, s:b, s:o*, s:O}", "status", container_lifecycle.names[c->state],
                           "created", (json_int_t)c->created_wall_usec, "pod_sandbox", c->pod_sandbox, "root",
                           c->guest.rootfs, "terminal", process_is_terminal(c->init), "mounts",
                           describe_mounts(&c->guest), "processes", processes)};
    if (!ret->id || !ret->guest_id || !ret->spec || !ret->state || !json_object_get(ret->state, "mounts"))
        return err_set(err, ENOMEM, "out of memory");
    return describe_root(c, &ret->root, ret_root, err);
}
