/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/state.h"

#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cgroup_path.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "base/proc.h"
#include "oci/spec.h"

#define STATE_NAME "state.json"
#define EXIT_KILLED 137 /* what a container's status is when its machine died: 128 + SIGKILL */

/* In the order of a container's life. */
static const char stopped[] = "stopped";
static const char *const statuses[] = {"creating", "created", "running", "paused", stopped};

static const char *status_find(const char *s) {
    for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
        if (strcmp(statuses[i], s) == 0)
            return statuses[i];
    return NULL;
}

void oci_container_state_clear(struct oci_container_state *c) {
    free(c->id);
    free(c->bundle);
    free(c->rootfs);
    json_decref(c->annotations);
    free(c->cgroups_path);
    free(c->scratch);
    *c = (struct oci_container_state){0};
}

void oci_sandbox_state_clear(struct oci_sandbox_state *s) {
    free(s->id);
    for (size_t i = 0; i < s->n_containers; i++)
        oci_container_state_clear(&s->containers[i]);
    free(s->containers);
    *s = (struct oci_sandbox_state){0};
}

const char *oci_owner_name(uid_t uid, char buf[64]) {
    const struct passwd *pw = getpwuid(uid);
    if (pw && pw->pw_name && *pw->pw_name)
        snprintf(buf, 64, "%s", pw->pw_name);
    else
        snprintf(buf, 64, "%u", (unsigned)uid);
    return buf;
}

json_t *oci_container_state_json(const struct oci_container_state *c) {
    char created[40], owner[64];
    json_t *v =
        json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:s}", "ociVersion", OCI_VERSION, "id", c->id, "pid", (int)c->pid,
                  "status", c->status, "bundle", c->bundle ? c->bundle : "", "rootfs", c->rootfs ? c->rootfs : "",
                  "created", format_rfc3339(c->created_wall_usec, created, sizeof(created)));
    if ((c->annotations && json_object_size(c->annotations) && json_object_set(v, "annotations", c->annotations) < 0) ||
        json_object_set_new(v, "owner", json_string(oci_owner_name(c->owner, owner))) < 0) {
        json_decref(v);
        return NULL;
    }
    return v;
}

static json_t *sandbox_json(const struct oci_sandbox_state *s) {
    json_t *containers = json_array();
    for (size_t i = 0; i < s->n_containers; i++) {
        const struct oci_container_state *c = &s->containers[i];
        json_t *v = oci_container_state_json(c);
        json_t *own = json_pack("{s:I, s:I, s:I}", "created", (json_int_t)c->created_wall_usec, "exitStatus",
                                (json_int_t)c->exit_status, "owner", (json_int_t)c->owner);
        if ((c->cgroups_path && json_object_set_new(own, "cgroupsPath", json_string(c->cgroups_path)) < 0) ||
            (c->scratch && json_object_set_new(own, "scratch", json_string(c->scratch)) < 0)) {
            json_decref(own);
            own = NULL;
        }
        if (json_object_set_new(v, "stasis", own) < 0 || json_array_append(containers, v) < 0) {
            json_decref(v);
            json_decref(containers);
            return NULL;
        }
        json_decref(v);
    }
    return json_pack("{s:s, s:s, s:{s:i, s:I, s:i, s:i}, s:o}", "ociVersion", OCI_VERSION, "id", s->id, "stasis",
                     "daemonPid", (int)s->daemon_pid, "daemonStart", (json_int_t)s->daemon_start, "qemuPid",
                     (int)s->qemu_pid, "virtiofsdPid", (int)s->virtiofsd_pid, "containers", containers);
}

char *oci_sandbox_state_text(const struct oci_sandbox_state *s, struct err *err) {
    if (s->n_containers > STATE_CONTAINERS_MAX) {
        err_set(err, EINVAL, "more than %d containers", STATE_CONTAINERS_MAX);
        return NULL;
    }
    cleanup_json json_t *v = sandbox_json(s);
    cleanup_free char *text = v ? json_text(v, JSON_INDENT(2)) : NULL;
    if (!text)
        err_set(err, ENOMEM, "out of memory");
    else if (strlen(text) > JSON_TEXT_MAX)
        err_set(err, EFBIG, "larger than %zu bytes", JSON_TEXT_MAX);
    else
        return TAKE_PTR(text);
    return NULL;
}

int oci_sandbox_state_save(const char *dir, const struct oci_sandbox_state *s, struct err *err) {
    cleanup_free char *path = path_join(dir, STATE_NAME);
    if (!path)
        return err_set(err, ENOMEM, "out of memory");
    struct err why = ERR_INIT;
    cleanup_free char *text = oci_sandbox_state_text(s, &why);
    if (!text)
        return err_set(err, why.code, "cannot write %s: %s", path, why.msg);
    if (FAULT(STATE_SAVE))
        return err_errno(err, errno, "cannot write %s", path);
    return file_write_atomic(path, text, strlen(text), 0600, false, err);
}

/* A required string without control characters, of at most max bytes. */
static int load_str(const json_t *obj, const char *path, const char *key, size_t max, char **ret, struct err *err) {
    const char *s = NULL;
    int r = json_get_str(obj, path, key, &s, err);
    if (r < 0)
        return r;
    if (r == 0 || strlen(s) > max)
        return err_set(err, EINVAL, "%s%s%s: %s", path, *path ? "." : "", key, r == 0 ? "is missing" : "is too long");
    *ret = strdup(s);
    return *ret ? 0 : err_set(err, ENOMEM, "out of memory");
}

static int load_int(const json_t *obj, const char *path, const char *key, int64_t max, int64_t *ret, struct err *err) {
    int r = json_get_i64(obj, path, key, 0, max, ret, err);
    if (r == 0)
        return err_set(err, EINVAL, "%s.%s: is missing", path, key);
    return r < 0 ? r : 0;
}

static int load_pid(const json_t *obj, const char *path, const char *key, pid_t *ret, struct err *err) {
    int64_t v = 0;
    int r = load_int(obj, path, key, INT32_MAX, &v, err);
    if (r == 0)
        *ret = (pid_t)v;
    return r;
}

static int load_annotations(const json_t *obj, const char *path, json_t **ret, struct err *err) {
    json_t *map = NULL;
    int r = json_get_obj(obj, path, "annotations", &map, err);
    if (r <= 0)
        return r;
    const char *key;
    json_t *v;
    json_object_foreach(map, key, v) {
        if (!json_is_string(v))
            return err_set(err, EINVAL, "%s.annotations[\"%.200s\"]: must be a string", path, key);
    }
    *ret = json_incref(map);
    return 0;
}

/* What may be missing. A directory that is to be removed has the form of those that are made. */
static int load_outside(const json_t *own, const char *path, struct oci_container_state *c, struct err *err) {
    int r = json_object_get(own, "cgroupsPath")
                ? load_str(own, path, "cgroupsPath", CGROUP_PATH_MAX, &c->cgroups_path, err)
                : 0;
    if (r == 0 && json_object_get(own, "scratch"))
        r = load_str(own, path, "scratch", PATH_MAX, &c->scratch, err);
    if (r == 0 && c->scratch && (!path_is_normal(c->scratch) || strrchr(c->scratch, '/')[1] != '.'))
        r = err_set(err, EINVAL, "%s.scratch: is not the path of a hidden directory", path);
    return r;
}

static int load_container(const json_t *v, size_t i, struct oci_container_state *c, struct err *err) {
    char path[48], own_path[64];
    json_t *own = NULL;
    int64_t created = 0, status = 0, owner = 0;
    cleanup_free char *name = NULL;
    int r;
    snprintf(path, sizeof(path), "containers[%zu]", i);
    snprintf(own_path, sizeof(own_path), "%s.stasis", path);
    if (!json_is_object(v))
        return err_set(err, EINVAL, "%s: must be an object", path);
    if ((r = load_str(v, path, "id", ID_MAX, &c->id, err)) < 0 || (r = id_validate("container id", c->id, err)) < 0 ||
        (r = load_str(v, path, "bundle", PATH_MAX, &c->bundle, err)) < 0 ||
        (r = load_str(v, path, "rootfs", PATH_MAX, &c->rootfs, err)) < 0 ||
        (r = load_str(v, path, "status", 16, &name, err)) < 0 || (r = load_pid(v, path, "pid", &c->pid, err)) < 0 ||
        (r = load_annotations(v, path, &c->annotations, err)) < 0 ||
        (r = json_get_obj(v, path, "stasis", &own, err)) < 0)
        return r;
    c->status = name ? status_find(name) : NULL;
    if (!c->status)
        return err_set(err, EINVAL, "%s.status: unknown status \"%s\"", path, name ? name : "");
    if ((r = load_int(own, own_path, "created", INT64_MAX, &created, err)) < 0 ||
        (r = load_int(own, own_path, "exitStatus", UINT32_MAX, &status, err)) < 0 ||
        (r = load_int(own, own_path, "owner", UINT32_MAX, &owner, err)) < 0)
        return r;
    c->created_wall_usec = (uint64_t)created;
    c->exit_status = (uint32_t)status;
    c->owner = (uid_t)owner;
    return load_outside(own, own_path, c, err);
}

static int load_sandbox(const json_t *v, struct oci_sandbox_state *s, struct err *err) {
    json_t *own = NULL, *list = NULL;
    int64_t start = 0;
    int r;
    if ((r = load_str(v, "", "id", ID_MAX, &s->id, err)) < 0 || (r = id_validate("sandbox id", s->id, err)) < 0 ||
        (r = json_get_obj(v, "", "stasis", &own, err)) < 0 ||
        (r = load_pid(own, "stasis", "daemonPid", &s->daemon_pid, err)) < 0 ||
        (r = load_int(own, "stasis", "daemonStart", INT64_MAX, &start, err)) < 0 ||
        (r = load_pid(own, "stasis", "qemuPid", &s->qemu_pid, err)) < 0 ||
        (r = load_pid(own, "stasis", "virtiofsdPid", &s->virtiofsd_pid, err)) < 0 ||
        (r = json_get_array(v, "", "containers", &list, err)) < 0)
        return r;
    s->daemon_start = (uint64_t)start;
    size_t n = json_array_size(list);
    if (n > STATE_CONTAINERS_MAX)
        return err_set(err, EINVAL, "containers: more than %d", STATE_CONTAINERS_MAX);
    s->containers = calloc(MAX(n, (size_t)1), sizeof(*s->containers));
    if (!s->containers)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        s->n_containers = i + 1; /* so that a half-read one is freed too */
        if ((r = load_container(json_array_get(list, i), i, &s->containers[i], err)) < 0)
            return r;
    }
    return 0;
}

/* The machine dies with its daemon. Its pids stay, for remains.c, though they may by now be another process's. */
static void mark_dead(struct oci_sandbox_state *s) {
    for (size_t i = 0; i < s->n_containers; i++) {
        struct oci_container_state *c = &s->containers[i];
        if (c->status != stopped)
            c->exit_status = EXIT_KILLED;
        c->status = stopped;
        c->pid = 0;
    }
}

int oci_sandbox_state_parse(const char *what, const char *text, size_t len, struct oci_sandbox_state *ret,
                            struct err *err) {
    cleanup_json json_t *v = NULL;
    cleanup_sandbox_state struct oci_sandbox_state s = {0};
    int r = json_parse(what, text, len, &v, err);
    if (r < 0)
        return r;
    if (load_sandbox(v, &s, err) < 0)
        return err_wrap(err, "%s is damaged", what);
    *ret = s;
    s = (struct oci_sandbox_state){0};
    return 0;
}

int oci_sandbox_state_load(const char *dir, struct oci_sandbox_state *ret, struct err *err) {
    cleanup_free char *path = path_join(dir, STATE_NAME);
    cleanup_free char *text = NULL;
    size_t len;
    if (!path)
        return err_set(err, ENOMEM, "out of memory");
    /* Whatever lies there: neither a link is followed nor a FIFO waited for. */
    cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(err, errno, "cannot open %s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "cannot use %s: it is not a regular file", path);
    int r = fd_read_all(fd, JSON_TEXT_MAX, &text, &len, err);
    if (r < 0)
        return err_wrap(err, "cannot read %s", path);
    r = oci_sandbox_state_parse(path, text, len, ret, err);
    if (r == 0 && !oci_sandbox_daemon_alive(ret))
        mark_dead(ret);
    return r;
}

bool oci_sandbox_daemon_alive(const struct oci_sandbox_state *s) {
    uint64_t start;
    int r = s->daemon_pid > 0 ? proc_start_time(s->daemon_pid, &start) : -ESRCH;
    /* One that cannot be looked at is not taken for dead: it would be cleaned up after. */
    return r == 0 ? start == s->daemon_start : r != -ESRCH;
}
