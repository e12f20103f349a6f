/* SPDX-License-Identifier: Apache-2.0 */
/* The form of the whole configuration: what every use needs, before anything is made of it. */
#include <ctype.h>
#include <string.h>

#include "base/json.h"
#include "oci/rewrite.h"

#define ANNOTATIONS_MAX 1024
#define OPTIONS_MAX 128 /* of one mount */

static const struct field root_fields[] = {
    {"path", FIELD_STR, .required = true},
    {"readonly", FIELD_BOOL},
    {NULL},
};

static const struct field mount_fields[] = {
    {"destination", FIELD_STR, .required = true},
    {"type", FIELD_STR},
    {"source", FIELD_STR},
    {"options", FIELD_STRS, .max = OPTIONS_MAX},
    {"uidMappings", FIELD_OBJS, .max = OCI_LIST_MAX},
    {"gidMappings", FIELD_OBJS, .max = OCI_LIST_MAX},
    {NULL},
};

static const struct field hook_fields[] = {
    {"path", FIELD_STR, .required = true},
    {"args", FIELD_STRS, .max = OCI_ARGS_MAX},
    {"env", FIELD_STRS, .max = OCI_ARGS_MAX},
    {"timeout", FIELD_INT, .min = 1, .max = INT32_MAX},
    {NULL},
};

static const struct field hooks_fields[] = {
    {"prestart", FIELD_OBJS, .max = OCI_HOOKS_MAX, .fields = hook_fields},
    {"createRuntime", FIELD_OBJS, .max = OCI_HOOKS_MAX, .fields = hook_fields},
    {"createContainer", FIELD_OBJS, .max = OCI_HOOKS_MAX, .fields = hook_fields},
    {"startContainer", FIELD_OBJS, .max = OCI_HOOKS_MAX, .fields = hook_fields},
    {"poststart", FIELD_OBJS, .max = OCI_HOOKS_MAX, .fields = hook_fields},
    {"poststop", FIELD_OBJS, .max = OCI_HOOKS_MAX, .fields = hook_fields},
    {NULL},
};

static const struct field spec_fields[] = {
    {"ociVersion", FIELD_STR, .required = true},
    {"root", FIELD_OBJ, .required = true, .fields = root_fields},
    {"hostname", FIELD_STR},
    {"domainname", FIELD_STR},
    {"mounts", FIELD_OBJS, .max = OCI_MOUNTS_MAX, .fields = mount_fields},
    {"hooks", FIELD_OBJ, .fields = hooks_fields},
    {"annotations", FIELD_STRMAP, .max = ANNOTATIONS_MAX},
    {"linux", FIELD_OBJ, .fields = oci_linux_fields},
    {NULL},
};

/* "1.0.2-dev" and the like; the specification promises compatibility within the major version. */
static int check_version(const json_t *spec, struct err *err) {
    const char *v = json_string_value(json_object_get(spec, "ociVersion"));
    if (v[0] != '1' || v[1] != '.' || !isdigit((unsigned char)v[2]))
        return err_set(err, EINVAL, "ociVersion: unsupported version \"%.32s\"; stasis knows 1.x", v);
    return 0;
}

static int check_platform(const json_t *spec, struct err *err) {
    static const char *const others[] = {"windows", "solaris", "freebsd", "vm", "zos", NULL};
    for (const char *const *o = others; *o; o++) {
        const json_t *v = json_object_get(spec, *o);
        if (v && !json_is_null(v))
            return err_set(err, EOPNOTSUPP, "%s: this platform's section is not supported; only Linux containers are",
                           *o);
    }
    return 0;
}

static int check_hooks(const json_t *spec, struct err *err) {
    const char *kind;
    json_t *list;
    json_object_foreach(json_object_get(spec, "hooks"), kind, list) {
        for (size_t i = 0; i < json_array_size(list); i++) {
            const char *path = json_string_value(json_object_get(json_array_get(list, i), "path"));
            if (path && path[0] != '/')
                return err_set(err, EINVAL, "hooks.%.32s[%zu].path: must be an absolute path, not \"%.200s\"", kind, i,
                               path);
        }
    }
    return 0;
}

int oci_spec_validate(const json_t *spec, struct err *err) {
    if (!json_is_object(spec))
        return err_set(err, EINVAL, "config.json: must be a JSON object");
    int r = check_platform(spec, err);
    if (r < 0 || (r = fields_check(spec, "", spec_fields, err)) < 0 || (r = check_version(spec, err)) < 0)
        return r;
    if (json_string_length(json_object_get(json_object_get(spec, "root"), "path")) == 0)
        return err_set(err, EINVAL, "root.path: must not be empty");

    const json_t *process = json_object_get(spec, "process");
    if (!process || json_is_null(process))
        return err_set(err, EINVAL, "process: is missing");
    if ((r = oci_process_validate(process, "process", err)) < 0)
        return r;
    if (!json_is_string(json_object_get(process, "cwd")))
        return err_set(err, EINVAL, "process.cwd: is missing");
    return check_hooks(spec, err);
}
