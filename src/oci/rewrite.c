/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's specification: the top, the root, the process and the hooks. mounts.c and linux.c do the rest. */
#include "oci/rewrite.h"

#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/path.h"

static int rewrite_root(struct rewrite *rw, struct err *err) {
    const json_t *root = json_object_get(rw->spec, "root");
    const char *path = json_string_value(json_object_get(root, "path"));
    rw->out->root_read_only = json_is_true(json_object_get(root, "readonly"));
    rw->out->rootfs = path[0] == '/' ? strdup(path) : path_join(rw->bundle, path);
    if (!rw->out->rootfs)
        return err_set(err, ENOMEM, "out of memory");

    struct stat st;
    if (stat(rw->out->rootfs, &st) < 0)
        return err_errno(err, errno, "root.path: cannot use %s", rw->out->rootfs);
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ENOTDIR, "root.path: %s is not a directory", rw->out->rootfs);

    json_t *guest_root =
        json_pack("{s:s++, s:b}", "path", OCI_GUEST_SHARE "/", rw->id, "/rootfs", "readonly", rw->out->root_read_only);
    return json_put(rw->guest, "root", guest_root, err);
}

static int rewrite_process(struct rewrite *rw, struct err *err) {
    json_t *process = NULL;
    int r = oci_process_for_guest(json_object_get(rw->spec, "process"), &process, &rw->out->notes, err);
    if (r < 0)
        return r;
    rw->out->terminal = json_is_true(json_object_get(process, "terminal"));
    return json_put(rw->guest, "process", process, err);
}

static int rewrite_names(struct rewrite *rw, struct err *err) {
    static const char *const names[] = {"hostname", "domainname"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        const char *s = json_string_value(json_object_get(rw->spec, names[i]));
        if (!s || !*s)
            continue;
        if (!spec_has_namespace(rw->spec, "uts"))
            return err_set(err, EINVAL, "%s: cannot be set without a uts namespace in linux.namespaces", names[i]);
        if (strlen(s) > 64)
            return err_set(err, EINVAL, "%s: longer than 64 bytes", names[i]);
        int r = json_put(rw->guest, names[i], json_string(s), err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* crun in the guest runs the hooks of the container's own namespaces; the others are the host's (hooks.h). */
static int rewrite_hooks(struct rewrite *rw, struct err *err) {
    const json_t *hooks = json_object_get(rw->spec, "hooks");
    if (json_array_size(json_object_get(hooks, "createContainer")))
        return err_set(err, EOPNOTSUPP,
                       "hooks.createContainer: cannot be run, the container's namespaces are in the guest and the hook "
                       "is on the host; use createRuntime or startContainer");
    json_t *start = json_object_get(hooks, "startContainer");
    if (json_array_size(start) == 0)
        return 0;
    cleanup_json json_t *copy = json_array();
    for (size_t i = 0; i < json_array_size(start); i++) {
        static const char *const keys[] = {"path", "args", "env", "timeout"};
        json_t *hook = json_object();
        int r = json_push(copy, hook, err);
        for (size_t k = 0; r == 0 && k < ARRAY_SIZE(keys); k++) {
            const json_t *v = json_object_get(json_array_get(start, i), keys[k]);
            if (v && !json_is_null(v))
                r = json_put(hook, keys[k], json_copy_whole(v), err);
        }
        if (r < 0)
            return r;
    }
    return json_put(rw->guest, "hooks", json_pack("{s:o}", "startContainer", TAKE_PTR(copy)), err);
}

/* Annotations stay on the host: crun takes orders from some of them (run.oci.*). */
static int note_unknown(struct rewrite *rw, struct err *err) {
    static const char *const known[] = {"ociVersion", "process", "root",        "hostname", "domainname",
                                        "mounts",     "hooks",   "annotations", "linux",    NULL};
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)rw->spec, key, v) {
        if (str_in_list(key, known) || json_is_null(v))
            continue;
        int r = note_add(&rw->out->notes, err, "%.200s: is not known to stasis, ignored", key);
        if (r < 0)
            return r;
    }
    return 0;
}

static int rewrite_all(struct rewrite *rw, struct err *err) {
    int r = json_put(rw->guest, "ociVersion", json_string(OCI_VERSION), err);
    if (r < 0 || (r = rewrite_root(rw, err)) < 0 || (r = rewrite_process(rw, err)) < 0 ||
        (r = rewrite_names(rw, err)) < 0 || (r = rewrite_mounts(rw, err)) < 0 || (r = rewrite_hooks(rw, err)) < 0 ||
        (r = rewrite_linux(rw, err)) < 0)
        return r;
    return note_unknown(rw, err);
}

int oci_spec_for_guest(const json_t *spec, const char *id, const char *bundle, struct oci_guest_spec *ret,
                       struct err *err) {
    return oci_spec_for_pod(spec, id, bundle, NULL, ret, err);
}

int oci_spec_for_pod(const json_t *spec, const char *id, const char *bundle, const struct oci_pod_host *pod,
                     struct oci_guest_spec *ret, struct err *err) {
    int r = id_validate("container id", id, err);
    if (r < 0 || (r = oci_spec_validate(spec, err)) < 0)
        return r;
    /* It becomes part of the container's state, which is JSON. */
    if (bundle[0] != '/' || !utf8_valid(bundle, strlen(bundle)))
        return err_set(err, EINVAL, "bundle %s: must be an absolute path in UTF-8", bundle);
    cleanup_guest_spec struct oci_guest_spec out = {.spec = json_object()};
    if (!out.spec)
        return err_set(err, ENOMEM, "out of memory");
    struct rewrite rw = {.spec = spec, .id = id, .bundle = bundle, .pod = pod, .out = &out, .guest = out.spec};
    r = rewrite_all(&rw, err);
    if (r < 0)
        return r;
    *ret = out;
    out = (struct oci_guest_spec){0};
    return 0;
}
