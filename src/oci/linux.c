/* SPDX-License-Identifier: Apache-2.0 */
/* linux.* for the guest: namespaces, devices, seccomp and the small ones. resources.c does linux.resources. */
#include <ctype.h>
#include <string.h>

#include "base/json.h"
#include "oci/rewrite.h"

#define NAMESPACES_MAX 32
#define MAPPINGS_MAX 340 /* the kernel's bound for a user namespace's map */
#define SYSCTL_MAX 1024

const char *const oci_namespace_names[] = {"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts", NULL};

static const struct field namespace_fields[] = {
    {"type", FIELD_STR, .required = true},
    {"path", FIELD_STR},
    {NULL},
};

static const struct field mapping_fields[] = {
    {"containerID", FIELD_INT, .required = true, .min = 0, .max = UINT32_MAX},
    {"hostID", FIELD_INT, .required = true, .min = 0, .max = UINT32_MAX},
    {"size", FIELD_INT, .required = true, .min = 1, .max = UINT32_MAX},
    {NULL},
};

static const struct field device_fields[] = {
    {"type", FIELD_STR, .required = true},
    {"path", FIELD_STR, .required = true},
    {"major", FIELD_INT, .min = 0, .max = INT32_MAX},
    {"minor", FIELD_INT, .min = 0, .max = INT32_MAX},
    {"fileMode", FIELD_INT, .min = 0, .max = 0177777}, /* may hold the type's bits too */
    {"uid", FIELD_INT, .min = 0, .max = OCI_ID_VALUE_MAX},
    {"gid", FIELD_INT, .min = 0, .max = OCI_ID_VALUE_MAX},
    {NULL},
};

static const struct field seccomp_arg_fields[] = {
    {"index", FIELD_INT, .required = true, .min = 0, .max = 5},
    {"value", FIELD_INT, .required = true, .min = INT64_MIN, .max = INT64_MAX}, /* unsigned, see json_parse() */
    {"valueTwo", FIELD_INT, .min = INT64_MIN, .max = INT64_MAX},
    {"op", FIELD_STR, .required = true},
    {NULL},
};

static const struct field syscall_fields[] = {
    {"names", FIELD_STRS, .required = true, .max = OCI_LIST_MAX},
    {"action", FIELD_STR, .required = true},
    {"errnoRet", FIELD_INT, .min = 0, .max = UINT32_MAX},
    {"args", FIELD_OBJS, .max = 64, .fields = seccomp_arg_fields},
    {"comment", FIELD_STR, FIELD_DROP}, /* Docker's profiles carry these three */
    {"includes", FIELD_OBJ, FIELD_DROP},
    {"excludes", FIELD_OBJ, FIELD_DROP},
    {NULL},
};

static const struct field seccomp_fields[] = {
    {"defaultAction", FIELD_STR, .required = true},
    {"defaultErrnoRet", FIELD_INT, .min = 0, .max = UINT32_MAX},
    {"architectures", FIELD_STRS, .max = 64},
    {"flags", FIELD_STRS, .max = 64},
    {"listenerPath", FIELD_STR, FIELD_DROP}, /* refused before */
    {"listenerMetadata", FIELD_STR, FIELD_DROP},
    {"syscalls", FIELD_OBJS, .max = OCI_LIST_MAX, .fields = syscall_fields},
    {NULL},
};

static const struct field personality_fields[] = {
    {"domain", FIELD_STR, .required = true},
    {"flags", FIELD_STRS, .max = 16},
    {NULL},
};

static const struct field offset_fields[] = {
    {"secs", FIELD_INT, .min = INT64_MIN, .max = INT64_MAX},
    {"nanosecs", FIELD_INT, .min = 0, .max = 999999999},
    {NULL},
};

static const struct field time_offsets_fields[] = {
    {"monotonic", FIELD_OBJ, .fields = offset_fields},
    {"boottime", FIELD_OBJ, .fields = offset_fields},
    {NULL},
};

const struct field oci_linux_fields[] = {
    {"namespaces", FIELD_OBJS, FIELD_REWRITE, .max = NAMESPACES_MAX, .fields = namespace_fields},
    {"uidMappings", FIELD_OBJS, .max = MAPPINGS_MAX, .fields = mapping_fields},
    {"gidMappings", FIELD_OBJS, .max = MAPPINGS_MAX, .fields = mapping_fields},
    {"devices", FIELD_OBJS, .max = OCI_LIST_MAX, .fields = device_fields},
    {"cgroupsPath", FIELD_STR, FIELD_REWRITE},
    {"resources", FIELD_OBJ, FIELD_REWRITE, .fields = oci_resources_fields},
    {"rootfsPropagation", FIELD_STR},
    {"seccomp", FIELD_OBJ, .fields = seccomp_fields},
    {"sysctl", FIELD_STRMAP, .max = SYSCTL_MAX},
    {"maskedPaths", FIELD_STRS, .max = OCI_LIST_MAX},
    {"readonlyPaths", FIELD_STRS, .max = OCI_LIST_MAX},
    {"mountLabel", FIELD_STR, FIELD_NOTE, .why = "the guest has no SELinux"},
    {"intelRdt", FIELD_OBJ, FIELD_NOTE, .why = "the guest has no resctrl"},
    {"netDevices", FIELD_OBJ, FIELD_NOTE, .why = "the host's network devices cannot be used in a VM"},
    {"personality", FIELD_OBJ, .fields = personality_fields},
    {"timeOffsets", FIELD_OBJ, .fields = time_offsets_fields},
    {NULL},
};

bool spec_has_namespace(const json_t *spec, const char *type) {
    const json_t *list = json_object_get(json_object_get(spec, "linux"), "namespaces");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_object_get(json_array_get(list, i), "type")), type) == 0)
            return true;
    return false;
}

static bool is_read_only(const json_t *spec, const char *path) {
    const json_t *paths = json_object_get(json_object_get(spec, "linux"), "readonlyPaths");
    for (size_t i = 0; i < json_array_size(paths); i++)
        if (strcmp(json_string_value(json_array_get(paths, i)), path) == 0)
            return true;
    return false;
}

/* Whether the program can change what there is in a network namespace of its own: with CAP_SYS_ADMIN it could mount
 * another /proc, to whose sysctls root may write. */
static bool may_change_network(const json_t *spec) {
    static const char *const enough[] = {"CAP_NET_ADMIN", "CAP_SYS_ADMIN"};
    const json_t *capabilities = json_object_get(json_object_get(spec, "process"), "capabilities");
    const json_t *bounding = json_object_get(capabilities, "bounding");
    for (size_t i = 0; i < json_array_size(bounding); i++)
        for (size_t k = 0; k < ARRAY_SIZE(enough); k++)
            if (strcmp(json_string_value(json_array_get(bounding, i)), enough[k]) == 0)
                return true;
    return !capabilities || spec_has_namespace(spec, "user") || !is_read_only(spec, "/proc/sys");
}

int oci_guest_make_network(struct oci_guest_spec *g, const char *id, bool always, struct err *err) {
    const json_t *list = json_object_get(json_object_get(g->spec, "linux"), "namespaces");
    json_t *network = NULL;
    for (size_t i = 0; i < json_array_size(list) && !network; i++)
        if (strcmp(json_string_value(json_object_get(json_array_get(list, i), "type")), "network") == 0)
            network = json_array_get(list, i);
    if (!network || json_object_get(network, "path") || (!always && may_change_network(g->spec)))
        return 0;
    int r = json_put(network, "path", json_pack("s++", OCI_GUEST_NAMESPACES "/", id, "/net"), err);
    return r < 0 ? r : 1;
}

/* "/ipc" and so on, if this path means a namespace of the pod's sandbox container; else NULL. */
static const char *pod_namespace(const struct rewrite *rw, const char *type, const char *path) {
    static const struct {
        const char *type, *file;
    } names[] = {{"network", "/net"}, {"ipc", "/ipc"}, {"uts", "/uts"}, {"pid", "/pid"}};
    for (size_t i = 0; rw->pod && i < ARRAY_SIZE(names); i++) {
        char own[64];
        if (strcmp(type, names[i].type) != 0)
            continue;
        snprintf(own, sizeof(own), "/proc/%d/ns%s", (int)rw->pod->pid, names[i].file);
        /* Whatever the path of the network namespace, there is one network in the VM for the pod. */
        return i == 0 || strcmp(path, own) == 0 ? names[i].file : NULL;
    }
    return NULL;
}

static int one_namespace(struct rewrite *rw, const json_t *list, size_t i, json_t *to, struct err *err) {
    const json_t *in = json_array_get(list, i);
    const char *type = json_string_value(json_object_get(in, "type"));
    const char *path = json_string_value(json_object_get(in, "path"));
    if (!str_in_list(type, oci_namespace_names))
        return err_set(err, EINVAL, "linux.namespaces[%zu].type: unknown namespace \"%.64s\"", i, type);
    for (size_t k = 0; k < i; k++)
        if (strcmp(type, json_string_value(json_object_get(json_array_get(list, k), "type"))) == 0)
            return err_set(err, EINVAL, "linux.namespaces[%zu].type: %s is there twice", i, type);
    const char *shared = path && *path ? pod_namespace(rw, type, path) : NULL;
    if (shared)
        return json_push(
            to, json_pack("{s:s, s:s++}", "type", type, "path", OCI_GUEST_NAMESPACES "/", rw->pod->sandbox_id, shared),
            err);
    if (path && *path && strcmp(type, "network") != 0)
        return err_set(err, EOPNOTSUPP,
                       "linux.namespaces[%zu].path: a %s namespace of the host cannot be joined from a VM", i, type);
    if (path && *path) {
        int r = note_add(&rw->out->notes, err,
                         "linux.namespaces[%zu].path: %.200s is on the host, the container gets loopback only, ignored",
                         i, path);
        if (r < 0)
            return r;
    }
    return json_push(to, json_pack("{s:s}", "type", type), err);
}

static int rewrite_namespaces(struct rewrite *rw, json_t *to, struct err *err) {
    const json_t *list = json_object_get(json_object_get(rw->spec, "linux"), "namespaces");
    json_t *out = json_array();
    int r = json_put(to, "namespaces", out, err);
    for (size_t i = 0; r == 0 && i < json_array_size(list); i++)
        r = one_namespace(rw, list, i, out, err);
    if (r < 0)
        return r;
    if (!spec_has_namespace(rw->spec, "network"))
        return err_set(err, EOPNOTSUPP,
                       "linux.namespaces: no network namespace: the host's network cannot be shared with a VM");
    if (!spec_has_namespace(rw->spec, "mount"))
        return err_set(err, EOPNOTSUPP,
                       "linux.namespaces: no mount namespace: the host's mounts cannot be shared with a VM");
    static const char *const shared[] = {"pid", "ipc", "uts"};
    for (size_t i = 0; i < ARRAY_SIZE(shared); i++)
        if (!spec_has_namespace(rw->spec, shared[i])) {
            r = note_add(&rw->out->notes, err,
                         "linux.namespaces: no %s namespace: the container shares the guest's, not the host's",
                         shared[i]);
            if (r < 0)
                return r;
        }
    /* A spec from a cgroup v1 host has none. In the guest, which has v2 only, a container without one would see the
     * whole tree at /sys/fs/cgroup instead of its own limits. */
    if (!spec_has_namespace(rw->spec, "cgroup") && json_array_append_new(out, json_pack("{s:s}", "type", "cgroup")) < 0)
        return err_set(err, ENOMEM, "out of memory");
    return 0;
}

static int check_user_mappings(const struct rewrite *rw, struct err *err) {
    static const char *const keys[] = {"uidMappings", "gidMappings"};
    const json_t *lin = json_object_get(rw->spec, "linux");
    for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
        const json_t *list = json_object_get(lin, keys[k]);
        if (json_array_size(list) && !spec_has_namespace(rw->spec, "user"))
            return err_set(err, EINVAL, "linux.%s: needs a user namespace in linux.namespaces", keys[k]);
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *m = json_array_get(list, i);
            json_int_t size = json_integer_value(json_object_get(m, "size"));
            if (json_integer_value(json_object_get(m, "containerID")) + size > (json_int_t)UINT32_MAX + 1 ||
                json_integer_value(json_object_get(m, "hostID")) + size > (json_int_t)UINT32_MAX + 1)
                return err_set(err, EINVAL, "linux.%s[%zu]: goes beyond id %u", keys[k], i, UINT32_MAX);
        }
    }
    return 0;
}

const char *oci_guest_device(unsigned dev_major, unsigned dev_minor) {
    static const struct {
        unsigned major, minor;
        const char *path;
    } devices[] = {
        {1, 3, "/dev/null"},       {1, 5, "/dev/zero"},    {1, 7, "/dev/full"},    {1, 8, "/dev/random"},
        {1, 9, "/dev/urandom"},    {5, 0, "/dev/tty"},     {5, 1, "/dev/console"}, {5, 2, "/dev/ptmx"},
        {10, 200, "/dev/net/tun"}, {10, 229, "/dev/fuse"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(devices); i++)
        if (devices[i].major == dev_major && devices[i].minor == dev_minor)
            return devices[i].path;
    return NULL;
}

static int check_devices(const struct rewrite *rw, struct err *err) {
    const json_t *list = json_object_get(json_object_get(rw->spec, "linux"), "devices");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *d = json_array_get(list, i);
        const char *type = json_string_value(json_object_get(d, "type"));
        const char *path = json_string_value(json_object_get(d, "path"));
        if (strlen(type) != 1 || !strchr("bcup", type[0]))
            return err_set(err, EINVAL, "linux.devices[%zu].type: must be one of b, c, u and p, not \"%.32s\"", i,
                           type);
        if (path[0] != '/')
            return err_set(err, EINVAL, "linux.devices[%zu].path: must be an absolute path, not \"%.200s\"", i, path);
        if (type[0] == 'p') /* a FIFO is the container's own */
            continue;
        const json_t *maj = json_object_get(d, "major"), *min = json_object_get(d, "minor");
        if (!json_is_integer(maj) || !json_is_integer(min))
            return err_set(err, EINVAL, "linux.devices[%zu] %.200s: major and minor must be given", i, path);
        if (type[0] == 'b' || !oci_guest_device((unsigned)json_integer_value(maj), (unsigned)json_integer_value(min)))
            return err_set(err, EOPNOTSUPP, "linux.devices[%zu] %.200s: host devices cannot be used in a VM", i, path);
    }
    return 0;
}

static int check_seccomp(const struct rewrite *rw, struct err *err) {
    const json_t *s = json_object_get(json_object_get(rw->spec, "linux"), "seccomp");
    const char *action = json_string_value(json_object_get(s, "defaultAction"));
    static const char what[] = "the listener would be on the host and the container is in a VM";
    if (!json_says_nothing(json_object_get(s, "listenerPath")))
        return err_set(err, EOPNOTSUPP, "linux.seccomp.listenerPath: is not supported, %s", what);
    if (action && strcmp(action, "SCMP_ACT_NOTIFY") == 0)
        return err_set(err, EOPNOTSUPP, "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY is not supported, %s", what);
    const json_t *calls = json_object_get(s, "syscalls");
    for (size_t i = 0; i < json_array_size(calls); i++) {
        action = json_string_value(json_object_get(json_array_get(calls, i), "action"));
        if (strcmp(action, "SCMP_ACT_NOTIFY") == 0)
            return err_set(err, EOPNOTSUPP, "linux.seccomp.syscalls[%zu].action: SCMP_ACT_NOTIFY is not supported, %s",
                           i, what);
    }
    return 0;
}

/* crun turns a name into a path below /proc/sys. */
static int check_sysctl(const struct rewrite *rw, struct err *err) {
    const char *key;
    json_t *v;
    json_object_foreach(json_object_get(json_object_get(rw->spec, "linux"), "sysctl"), key, v) {
        if (!*key || strstr(key, "..") || key[0] == '/' || key[0] == '.')
            return err_set(err, EINVAL, "linux.sysctl[\"%.200s\"]: is not a sysctl's name", key);
    }
    return 0;
}

static int check_propagation(const struct rewrite *rw, struct err *err) {
    static const char *const known[] = {"",      "private", "rprivate",   "shared",      "rshared",
                                        "slave", "rslave",  "unbindable", "runbindable", NULL};
    const char *p = json_string_value(json_object_get(json_object_get(rw->spec, "linux"), "rootfsPropagation"));
    if (p && !str_in_list(p, known))
        return err_set(err, EINVAL, "linux.rootfsPropagation: unknown propagation \"%.64s\"", p);
    return 0;
}

int rewrite_linux(struct rewrite *rw, struct err *err) {
    const json_t *in = json_object_get(rw->spec, "linux");
    json_t *out = NULL;
    int r;
    if ((r = check_user_mappings(rw, err)) < 0 || (r = check_devices(rw, err)) < 0 ||
        (r = check_seccomp(rw, err)) < 0 || (r = check_sysctl(rw, err)) < 0 || (r = check_propagation(rw, err)) < 0)
        return r;
    if (in && !json_is_null(in))
        r = fields_copy(in, "linux", oci_linux_fields, &out, &rw->out->notes, err);
    else
        out = json_object();
    if (r < 0 || (r = json_put(rw->guest, "linux", out, err)) < 0)
        return r;
    if ((r = rewrite_namespaces(rw, out, err)) < 0)
        return r;
    if ((r = json_put(out, "cgroupsPath", json_pack("s+", "/stasis/", rw->id), err)) < 0)
        return r;
    const json_t *res = json_object_get(in, "resources");
    json_t *guest_res = NULL;
    if (!json_is_object(res))
        return 0;
    r = oci_resources_for_guest(res, &guest_res, &rw->out->notes, err);
    return r < 0 ? r : json_put(out, "resources", guest_res, err);
}
