/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/snapshot_bundle.h"

#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/path.h"
#include "oci/spec.h"

/* One container's on its way. */
struct rewriting {
    const char *id;
    const struct snapshot_bundle_rules *rules;
    json_t *spec; /* the copy */
};

static int set(json_t *obj, const char *key, json_t *value, struct err *err) {
    return json_object_set_new(obj, key, value) < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

/* As oci/mounts.c understands it. */
static bool is_bind(const json_t *mount) {
    const char *type = json_string_value(json_object_get(mount, "type"));
    const json_t *options = json_object_get(mount, "options");
    bool bind = type && strcmp(type, "bind") == 0;
    for (size_t i = 0; i < json_array_size(options); i++) {
        const char *s = json_string_value(json_array_get(options, i));
        bind |= s && (strcmp(s, "bind") == 0 || strcmp(s, "rbind") == 0);
    }
    return bind;
}

/* What the person who restores says of a source: NULL: nothing; else the path to mount. */
static const char *named(const struct snapshot_bundle_rules *rules, const char *source) {
    size_t len = strlen(source);
    for (size_t i = 0; rules->mounts && i < rules->mounts->n; i++) {
        const char *m = rules->mounts->v[i];
        if (strncmp(m, source, len) != 0 || (m[len] && (m[len] != '=' || m[len + 1] != '/')))
            continue;
        rules->used[i] = true;
        return m[len] ? m + len + 1 : source;
    }
    return NULL;
}

/* What config.json says of them is for the reader: snapshot_bundle_mounts() has what is mounted. */
static int rewrite_mounts(const struct rewriting *rw, struct err *err) {
    json_t *mount;
    size_t i;
    json_array_foreach(json_object_get(rw->spec, "mounts"), i, mount) {
        const char *source = json_string_value(json_object_get(mount, "source"));
        const char *path = is_bind(mount) && source ? named(rw->rules, source) : NULL;
        int r = path && path != source ? set(mount, "source", json_string(path), err) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

int snapshot_bundle_mounts(const json_t *state, const char *id, const struct snapshot_bundle_rules *rules,
                           struct strv *ret, struct err *err) {
    json_t *mount;
    size_t i;
    json_array_foreach(json_object_get(state, "mounts"), i, mount) {
        const char *source = json_string_value(json_object_get(mount, "source"));
        if (!source || !path_is_normal(source))
            return err_set(err, EINVAL, "container %s: state.mounts[%zu] has no absolute source", id, i);
        const char *path = named(rules, source);
        if (!path && rules->imported)
            return err_set(err, EPERM,
                           "container %s: the snapshot was imported and mounts %s of this host: if it may, say so with "
                           "--allow-mount %s, or with --allow-mount %s=PATH to mount another one there",
                           id, source, source, source);
        if (path && !path_is_normal(path))
            return err_set(err, EINVAL, "--allow-mount %s=%s: must be a path without \"..\" and the like", source,
                           path);
        if (strv_add(ret, path ? path : source) < 0)
            return err_set(err, ENOMEM, "out of memory");
    }
    return 0;
}

static void drop(const struct rewriting *rw, json_t *from, const char *key, const char *what) {
    const json_t *v = json_object_get(from, key);
    if (json_object_size(v) || (json_is_string(v) && *json_string_value(v)))
        log_warn("container %s: the %s of an imported snapshot %s", rw->id, what,
                 strcmp(key, "hooks") == 0 ? "are not run" : "is left out");
    (void)json_object_del(from, key);
}

static void drop_what_reaches_out(const struct rewriting *rw) {
    json_t *linux_part = json_object_get(rw->spec, "linux"), *ns;
    size_t i;
    json_array_foreach(json_object_get(linux_part, "namespaces"), i, ns) {
        (void)json_object_del(ns, "path");
    }
    if (!rw->rules->imported)
        return;
    drop(rw, rw->spec, "hooks", "hooks");
    drop(rw, linux_part, "cgroupsPath", "cgroup path");
    (void)json_object_del(rw->spec, "annotations"); /* some give orders */
}

int snapshot_bundle_spec(const json_t *spec, const char *id, const struct snapshot_bundle_rules *rules, json_t **ret,
                         struct err *err) {
    int r = oci_spec_validate(spec, err);
    if (r < 0)
        return err_wrap(err, "container %s: the snapshot's configuration", id);
    cleanup_json json_t *copy = json_copy_whole(spec);
    const struct rewriting rw = {.id = id, .rules = rules, .spec = copy};
    if (!copy)
        return err_set(err, ENOMEM, "out of memory");
    drop_what_reaches_out(&rw);
    r = set(json_object_get(copy, "root"), "path", json_string("rootfs"), err);
    if (r == 0)
        r = rewrite_mounts(&rw, err);
    if (r == 0)
        *ret = TAKE_PTR(copy);
    return r;
}

int snapshot_bundle_write(const char *dir, const json_t *spec, struct err *err) {
    cleanup_free char *config = path_join(dir, "config.json");
    cleanup_free char *rootfs = path_join(dir, "rootfs");
    cleanup_free char *text = json_text(spec, JSON_INDENT(4));
    if (!config || !rootfs || !text)
        return err_set(err, ENOMEM, "out of memory");
    int r = path_mkdirs(dir, 0700, err);
    if (r == 0 && mkdir(rootfs, 0755) < 0)
        r = err_errno(err, errno, "cannot create directory %s", rootfs);
    return r == 0 ? file_write_atomic(config, text, strlen(text), 0600, false, err) : r;
}
