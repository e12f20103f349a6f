/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/path.h"
#include "sandbox/boot.h"
#include "sandbox/container_impl.h"
#include "sandbox/snapshot.h"
#include "snapshot/store.h"

#define PROCESSES_MAX (CONTAINER_EXECS_MAX + 1)

struct restoring {
    struct sandbox *sb;
    sandbox_done_fn done;
    void *userdata;
    size_t shown; /* containers whose monitors have their files */
};

/* An entry's text is untrusted: it may come from another host. What is mounted the request says. */
static int read_mounts(const json_t *state, const struct snapshot_container *asked, struct oci_guest_spec *g,
                       struct err *err) {
    json_t *list = NULL, *m;
    size_t i;
    int r = json_get_array(state, "state", "mounts", &list, err);
    if (r >= 0 && json_array_size(list) != asked->n_mounts)
        r = err_set(err, EINVAL, "has %zu mounts, %zu are named", json_array_size(list), asked->n_mounts);
    if (r < 0 || json_array_size(list) == 0)
        return MIN(r, 0);
    if (json_array_size(list) > OCI_MOUNTS_MAX)
        return err_set(err, EINVAL, "state.mounts: more than %d", OCI_MOUNTS_MAX);
    g->mounts = calloc(json_array_size(list), sizeof(*g->mounts));
    if (!g->mounts)
        return err_set(err, ENOMEM, "out of memory");
    json_array_foreach(list, i, m) {
        char path[48];
        const char *source = asked->mounts[i];
        int64_t index = -1, spec_index = OCI_MOUNTS_MAX; /* not in older snapshots: no view of it then */
        struct oci_share_mount *to = &g->mounts[i];
        snprintf(path, sizeof(path), "state.mounts[%zu]", i);
        if (!json_is_object(m))
            return err_set(err, EINVAL, "%s: must be an object", path);
        if ((r = json_get_i64(m, path, "index", 0, OCI_MOUNTS_MAX - 1, &index, err)) < 0 ||
            (r = json_get_i64(m, path, "spec_index", 0, OCI_MOUNTS_MAX - 1, &spec_index, err)) < 0 ||
            (r = json_get_bool(m, path, "read_only", &to->read_only, err)) < 0 ||
            (r = json_get_bool(m, path, "recursive", &to->recursive, err)) < 0 ||
            (r = json_get_bool(m, path, "top_only", &to->top_only, err)) < 0)
            return r;
        if (index < 0 || !path_is_normal(source))
            return err_set(err, EINVAL, "%s: needs an index and an absolute source", path);
        to->index = (unsigned)index;
        to->spec_index = (unsigned)spec_index;
        to->source = strdup(source);
        g->n_mounts++;
        if (!to->source)
            return err_set(err, ENOMEM, "out of memory");
    }
    return 0;
}

static int read_exit(const json_t *j, const char *path, struct process_exit *ret, struct err *err) {
    json_t *ex = NULL;
    int64_t status = 0, time = 0;
    int r = json_get_obj(j, path, "exit", &ex, err);
    if (r <= 0)
        return r < 0 ? r : err_set(err, EINVAL, "%s: has no exit", path);
    if ((r = json_get_i64(ex, path, "status", 0, 255, &status, err)) < 0 ||
        (r = json_get_i64(ex, path, "time", 0, INT64_MAX, &time, err)) < 0 ||
        (r = json_get_bool(ex, path, "oom", &ret->oom_killed, err)) < 0)
        return r;
    ret->status = (uint32_t)status;
    ret->wall_usec = (uint64_t)time;
    return 0;
}

static int read_process(struct container *c, const json_t *j, const char *path, pid_t host_pid, struct err *err) {
    static const struct process_ops exec_ops = {0};
    const char *exec_id = NULL, *state = NULL;
    struct process_streams io = {0};
    struct process_exit ex = {0};
    int64_t pid = 0, width = 0, height = 0;
    bool terminal = false;
    int r;
    if ((r = json_get_str(j, path, "exec_id", &exec_id, err)) < 0 ||
        (r = json_get_str(j, path, "state", &state, err)) < 0 ||
        (r = json_get_i64(j, path, "pid", 0, UINT32_MAX, &pid, err)) < 0 ||
        (r = json_get_bool(j, path, "terminal", &terminal, err)) < 0 ||
        (r = json_get_bool(j, path, "stdin", &io.in, err)) < 0 ||
        (r = json_get_bool(j, path, "stdout", &io.out, err)) < 0 ||
        (r = json_get_bool(j, path, "stderr", &io.err, err)) < 0 ||
        (r = json_get_i64(j, path, "width", 0, UINT16_MAX, &width, err)) < 0 ||
        (r = json_get_i64(j, path, "height", 0, UINT16_MAX, &height, err)) < 0)
        return r;
    io.width = (uint32_t)width;
    io.height = (uint32_t)height;
    if (!exec_id || !state)
        return err_set(err, EINVAL, "%s: needs an exec_id and a state", path);
    bool init = !*exec_id, exited = strcmp(state, "exited") == 0, created = strcmp(state, "created") == 0;
    if (!exited && !created && strcmp(state, "running") != 0)
        return err_set(err, EINVAL, "%s.state: \"%s\" is no state", path, state);
    if (exited && (r = read_exit(j, path, &ex, err)) < 0)
        return r;
    if (init ? c->init != NULL : (r = id_validate("exec id", exec_id, err)) < 0 || exec_find(&c->execs, exec_id))
        return r < 0 ? r : err_set(err, EINVAL, "%s: there are two processes \"%s\"", path, exec_id);

    struct process_stdio none = PROCESS_STDIO_NONE;
    struct process *p = NULL;
    r = process_new(c->sb, c, exec_id, init ? host_pid : 0, &none, init ? &container_init_ops : &exec_ops, &p, err);
    if (r < 0)
        return r;
    if (init) {
        c->init = p;
    } else if ((r = exec_adopt(&c->execs, c, p, err)) < 0) {
        process_free(p);
        return r;
    }
    const json_t *args = init ? json_object_get(json_object_get(c->spec, "process"), "args") : NULL;
    if (!(init && host_pid) && (r = process_make_monitor(p, args, err)) < 0)
        return r;
    process_adopt(p, &io, terminal,
                  exited    ? PROCESS_EXITED
                  : created ? PROCESS_CREATED
                            : PROCESS_RUNNING,
                  (uint32_t)pid, exited ? &ex : NULL);
    return process_set_uris(p, "", "", "", err);
}

static int read_processes(struct container *c, const json_t *state, pid_t host_pid, struct err *err) {
    json_t *list = NULL, *j;
    size_t i;
    int r = json_get_array(state, "state", "processes", &list, err);
    if (r >= 0 && json_array_size(list) > PROCESSES_MAX)
        r = err_set(err, EINVAL, "state.processes: more than %d", PROCESSES_MAX);
    if (r < 0)
        return r;
    json_array_foreach(list, i, j) {
        char path[48];
        snprintf(path, sizeof(path), "state.processes[%zu]", i);
        r = json_is_object(j) ? read_process(c, j, path, host_pid, err)
                              : err_set(err, EINVAL, "%s: must be an object", path);
        if (r < 0)
            return r;
    }
    return c->init ? 0 : err_set(err, EINVAL, "state.processes: has no init");
}

static int read_state(struct container *c, const json_t *state, struct err *err) {
    static const enum container_state kept[] = {CONTAINER_CREATED, CONTAINER_RUNNING, CONTAINER_PAUSED,
                                                CONTAINER_STOPPED};
    const char *status = NULL;
    int64_t created = 0;
    int r;
    if ((r = json_get_str(state, "state", "status", &status, err)) < 0 ||
        (r = json_get_i64(state, "state", "created", 0, INT64_MAX, &created, err)) < 0 ||
        (r = json_get_bool(state, "state", "pod_sandbox", &c->pod_sandbox, err)) < 0 ||
        (r = json_get_bool(state, "state", "terminal", &c->guest.terminal, err)) < 0)
        return r;
    c->created_wall_usec = (uint64_t)created;
    for (size_t i = 0; status && i < ARRAY_SIZE(kept); i++)
        if (strcmp(status, container_lifecycle.names[kept[i]]) == 0) {
            c->state = kept[i];
            return 0;
        }
    return err_set(err, EINVAL, "state.status: \"%s\" is no state of a saved container", status ? status : "");
}

/* An upper directory of its own over the snapshot's copy. */
static int mount_root(struct container *c, size_t n, const struct manifest_root *root, struct err *err) {
    struct sandbox *sb = c->sb;
    cleanup_strv struct strv lowers = {0};
    char name[64];
    struct stat st;
    cleanup_free char *copy = str_printf("%s/" MANIFEST_ROOTS "/%zu", sb->boot->source, n);
    cleanup_free char *upper = str_printf("%s/%s/%zu/upper", sb->layers_store.dir, sb->layers_tmp, n);
    cleanup_free char *work = str_printf("%s/%s/%zu/work", sb->layers_store.dir, sb->layers_tmp, n);
    c->rootfs = str_printf("%s/roots/%zu", sb->dir, n);
    if (!copy || !upper || !work || !c->rootfs || strv_add(&lowers, copy) < 0)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < root->lowers.n; i++) {
        if (access(root->lowers.v[i], F_OK) < 0)
            return err_errno(err, errno, "%s, which the root stands on", root->lowers.v[i]);
        if (strv_add(&lowers, root->lowers.v[i]) < 0)
            return err_set(err, ENOMEM, "out of memory");
    }
    if (stat(copy, &st) < 0)
        return err_errno(err, errno, "cannot look at %s", copy);
    snprintf(name, sizeof(name), "%zu/work", n);
    cleanup_fd int w = path_mkdirs_beneath(sb->layers_fd, name, 0755, err);
    snprintf(name, sizeof(name), "%zu/upper", n);
    cleanup_fd int u = w < 0 ? w : path_mkdirs_beneath(sb->layers_fd, name, 0755, err);
    if (u < 0)
        return u;
    /* The top of an overlay has the attributes of its upper directory. */
    if (fchownat(sb->layers_fd, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        fchmodat(sb->layers_fd, name, st.st_mode & 07777, 0) < 0)
        return err_errno(err, errno, "cannot set the owner and mode of %s", upper);
    int r = path_mkdirs(c->rootfs, 0711, err);
    if (r == 0 && FAULT(LOAD_ROOT))
        r = err_errno(err, errno, "cannot mount %s", c->rootfs);
    if (r == 0)
        r = layers_mount(&lowers, upper, work, c->rootfs, err);
    if (r < 0)
        return r;
    c->layers = (struct layers){.upper = TAKE_PTR(upper), .lowers = lowers};
    lowers = (struct strv){0};
    c->layers_are_ours = true;
    return 0;
}

static int make_container(struct sandbox *sb, size_t n, const struct snapshot_container *to, struct err *err) {
    const struct manifest_container *from = &sb->boot->manifest.containers[n];
    struct container *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(err, ENOMEM, "out of memory");
    c->sb = sb;
    c->id = strdup(to->id);
    c->guest_id = strdup(from->guest_id);
    c->bundle = strdup(to->bundle);
    int r = c->id && c->guest_id && c->bundle ? id_validate("container id", to->id, err)
                                              : err_set(err, ENOMEM, "out of memory");
    if (r == 0)
        r = sandbox_add(sb, c, err);
    if (r < 0) {
        container_free(c);
        return r;
    }
    r = oci_spec_load(to->bundle, &c->spec, err); /* not the manifest's: who asks decides what of it is honoured */
    if (r == 0)
        r = read_state(c, from->state, err);
    if (r == 0)
        r = read_mounts(from->state, to, &c->guest, err);
    if (r == 0)
        r = read_processes(c, from->state, to->host_pid, err);
    if (r == 0)
        r = mount_root(c, n, &from->root, err);
    if (r == 0 && !(c->guest.rootfs = strdup(c->rootfs)))
        r = err_set(err, ENOMEM, "out of memory");
    if (r == 0)
        r = share_add_container(&sb->share, c->guest_id, &c->guest, err);
    return r < 0 ? err_wrap(err, "container %s", to->id) : 0;
}

static int watch_exec(struct process *p, void *userdata, struct err *err) {
    (void)userdata;
    return process_get_exit(p) ? 0 : process_watch(p, process_guest_pid(p), err);
}

static void finish(struct restoring *r, const struct err *err) {
    r->done(r->userdata, err);
    free(r);
}

/* One container after the other: their monitors get their files. */
static void show_next(struct restoring *r);

static void on_shown(void *userdata, const struct err *err) {
    struct restoring *r = userdata;
    struct container *c = r->sb->containers[r->shown];
    c->view_worker = NULL;
    c->shown = !err;
    r->shown++;
    if (err)
        finish(r, err);
    else
        show_next(r);
}

static void show_next(struct restoring *r) {
    struct err err = ERR_INIT;
    while (r->shown < r->sb->n_containers && process_get_exit(r->sb->containers[r->shown]->init))
        r->shown++;
    if (r->shown == r->sb->n_containers)
        finish(r, NULL);
    else if (container_show(r->sb->containers[r->shown], on_shown, r, &err) < 0)
        finish(r, &err);
}

static void on_ready(void *userdata, const struct err *err) {
    struct restoring *r = userdata;
    struct sandbox *sb = r->sb;
    struct err e = ERR_INIT;
    int n = err ? -1 : 0;
    if (err)
        e = *err;
    for (size_t i = 0; n == 0 && i < sb->n_containers; i++) {
        n = watch_exec(sb->containers[i]->init, NULL, &e);
        if (n == 0)
            n = exec_each(&sb->containers[i]->execs, watch_exec, NULL, &e);
    }
    if (n < 0) {
        finish(r, &e);
        return;
    }
    sandbox_save(sb);
    show_next(r);
}

static int open_snapshot(struct sandbox *sb, const struct snapshot_restore_spec *spec, struct err *err) {
    cleanup_manifest struct manifest m = {0};
    cleanup_fd int fd = -1;
    char name[ID_MAX + 1];
    int r = store_open(spec->store, false, &sb->layers_store, err);
    if (r == 0)
        r = store_use(&sb->layers_store, spec->name, &fd, err);
    if (r == 0)
        r = manifest_read(fd, &m, err);
    if (r < 0)
        return r;
    if (m.is_template)
        return err_set(err, EINVAL, "%s is a template", spec->name);
    if (m.n_containers != spec->n_containers)
        return err_set(err, EINVAL, "%s has %zu containers, %zu are asked for", spec->name, m.n_containers,
                       spec->n_containers);
    cleanup_free char *path = str_printf("%s/%s", spec->store, spec->name);
    if (!path)
        return err_set(err, ENOMEM, "out of memory");
    r = boot_prepare_snapshot(sb, fd, path, &m, spec->new_identity, !spec->force, err);
    if (r < 0)
        return r;
    (void)TAKE_FD(fd);
    snprintf(name, sizeof(name), "layers-%.100s", sb->id);
    return store_begin(&sb->layers_store, name, &sb->layers_fd, &sb->layers_tmp, err);
}

int snapshot_restore(struct sandbox *sb, const struct snapshot_restore_spec *spec, sandbox_done_fn done, void *userdata,
                     struct err *err) {
    if (sandbox_get_state(sb) != SANDBOX_NEW || sb->n_containers || sb->boot)
        return err_set(err, EBUSY, "sandbox %s: is in use", sb->id);
    int r = open_snapshot(sb, spec, err);
    for (size_t i = 0; r == 0 && i < spec->n_containers; i++)
        r = make_container(sb, i, &spec->containers[i], err);
    if (r == 0)
        r = sandbox_record(sb, err);
    struct restoring *restoring = r == 0 ? malloc(sizeof(*restoring)) : NULL;
    if (r == 0 && !restoring)
        r = err_set(err, ENOMEM, "out of memory");
    if (r == 0) {
        *restoring = (struct restoring){.sb = sb, .done = done, .userdata = userdata};
        r = sandbox_when_ready(sb, on_ready, restoring, err);
    }
    if (r < 0) {
        free(restoring);
        return err_wrap(err, "snapshot %s", spec->name);
    }
    return 0;
}
