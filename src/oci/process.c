/* SPDX-License-Identifier: Apache-2.0 */
/* The process object: of the container's init and of exec. */
#include <string.h>

#include "base/json.h"
#include "oci/rewrite.h"

#define GROUPS_MAX 65536 /* NGROUPS_MAX */

const char *const oci_capability_names[] = {
    "CAP_AUDIT_CONTROL",   "CAP_AUDIT_READ",   "CAP_AUDIT_WRITE",
    "CAP_BLOCK_SUSPEND",   "CAP_BPF",          "CAP_CHECKPOINT_RESTORE",
    "CAP_CHOWN",           "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",          "CAP_FSETID",       "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",       "CAP_KILL",         "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE", "CAP_MAC_ADMIN",    "CAP_MAC_OVERRIDE",
    "CAP_MKNOD",           "CAP_NET_ADMIN",    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",   "CAP_NET_RAW",      "CAP_PERFMON",
    "CAP_SETFCAP",         "CAP_SETGID",       "CAP_SETPCAP",
    "CAP_SETUID",          "CAP_SYS_ADMIN",    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",      "CAP_SYSLOG",       "CAP_SYS_MODULE",
    "CAP_SYS_NICE",        "CAP_SYS_PACCT",    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",       "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",  "CAP_WAKE_ALARM",   NULL,
};

static const char *const rlimit_names[] = {
    "RLIMIT_AS",      "RLIMIT_CORE",     "RLIMIT_CPU",        "RLIMIT_DATA",   "RLIMIT_FSIZE", "RLIMIT_LOCKS",
    "RLIMIT_MEMLOCK", "RLIMIT_MSGQUEUE", "RLIMIT_NICE",       "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_RSS",
    "RLIMIT_RTPRIO",  "RLIMIT_RTTIME",   "RLIMIT_SIGPENDING", "RLIMIT_STACK",  NULL,
};

static const char *const cap_sets[] = {"ambient", "bounding", "effective", "inheritable", "permitted", NULL};

static const struct field user_fields[] = {
    {"uid", FIELD_INT, FIELD_PASS, .min = 0, .max = OCI_ID_VALUE_MAX},
    {"gid", FIELD_INT, FIELD_PASS, .min = 0, .max = OCI_ID_VALUE_MAX},
    {"umask", FIELD_INT, FIELD_PASS, .min = 0, .max = 0777},
    {"additionalGids", FIELD_INTS, FIELD_PASS, .max = GROUPS_MAX},
    {"username", FIELD_STR, FIELD_NOTE, .why = "only for Windows"},
    {NULL},
};

static const struct field caps_fields[] = {
    {"ambient", FIELD_STRS, FIELD_REWRITE, .max = 256},   {"bounding", FIELD_STRS, FIELD_REWRITE, .max = 256},
    {"effective", FIELD_STRS, FIELD_REWRITE, .max = 256}, {"inheritable", FIELD_STRS, FIELD_REWRITE, .max = 256},
    {"permitted", FIELD_STRS, FIELD_REWRITE, .max = 256}, {NULL},
};

/* The limits are unsigned; json_parse() gives those above INT64_MAX as negative numbers. */
static const struct field rlimit_fields[] = {
    {"type", FIELD_STR, FIELD_PASS, .required = true},
    {"hard", FIELD_INT, FIELD_PASS, .required = true, .min = INT64_MIN, .max = INT64_MAX},
    {"soft", FIELD_INT, FIELD_PASS, .required = true, .min = INT64_MIN, .max = INT64_MAX},
    {NULL},
};

static const struct field scheduler_fields[] = {
    {"policy", FIELD_STR, FIELD_PASS, .required = true},
    {"nice", FIELD_INT, FIELD_PASS, .min = -20, .max = 19},
    {"priority", FIELD_INT, FIELD_PASS, .min = 0, .max = 99},
    {"flags", FIELD_STRS, FIELD_PASS, .max = 16},
    {"runtime", FIELD_INT, FIELD_PASS, .min = 0, .max = INT64_MAX},
    {"deadline", FIELD_INT, FIELD_PASS, .min = 0, .max = INT64_MAX},
    {"period", FIELD_INT, FIELD_PASS, .min = 0, .max = INT64_MAX},
    {NULL},
};

static const struct field io_priority_fields[] = {
    {"class", FIELD_STR, FIELD_PASS, .required = true},
    {"priority", FIELD_INT, FIELD_PASS, .min = 0, .max = 7},
    {NULL},
};

const struct field oci_process_fields[] = {
    {"terminal", FIELD_BOOL, FIELD_PASS},
    {"consoleSize", FIELD_OBJ, FIELD_DROP}, /* oci_console_size(): the agent sets it, as any other size */
    {"user", FIELD_OBJ, FIELD_PASS, .fields = user_fields},
    {"args", FIELD_STRS, FIELD_PASS, .max = OCI_ARGS_MAX},
    {"commandLine", FIELD_STR, FIELD_NOTE, .why = "only for Windows"},
    {"env", FIELD_STRS, FIELD_PASS, .max = OCI_ARGS_MAX},
    {"cwd", FIELD_STR, FIELD_PASS},
    {"capabilities", FIELD_OBJ, FIELD_REWRITE, .fields = caps_fields},
    {"rlimits", FIELD_OBJS, FIELD_PASS, .max = 64, .fields = rlimit_fields},
    {"noNewPrivileges", FIELD_BOOL, FIELD_PASS},
    {"apparmorProfile", FIELD_STR, FIELD_NOTE, .why = "the guest has no AppArmor"},
    {"selinuxLabel", FIELD_STR, FIELD_NOTE, .why = "the guest has no SELinux"},
    {"oomScoreAdj", FIELD_INT, FIELD_PASS, .min = -1000, .max = 1000},
    {"scheduler", FIELD_OBJ, FIELD_PASS, .fields = scheduler_fields},
    {"ioPriority", FIELD_OBJ, FIELD_PASS, .fields = io_priority_fields},
    {"execCPUAffinity", FIELD_OBJ, FIELD_NOTE, .why = "its numbers mean the host's CPUs"},
    {NULL},
};

bool str_in_list(const char *s, const char *const *list) {
    for (; *list; list++)
        if (strcmp(s, *list) == 0)
            return true;
    return false;
}

static int check_args(const json_t *process, const char *path, struct err *err) {
    const json_t *args = json_object_get(process, "args");
    if (json_array_size(args) == 0)
        return err_set(err, EINVAL, "%s.args: must have at least one element", path);

    const json_t *env = json_object_get(process, "env");
    for (size_t i = 0; i < json_array_size(env); i++) {
        const char *s = json_string_value(json_array_get(env, i));
        const char *eq = strchr(s, '=');
        if (!eq || eq == s)
            return err_set(err, EINVAL, "%s.env[%zu]: must be NAME=VALUE, not \"%.100s\"", path, i, s);
    }
    const char *cwd = json_string_value(json_object_get(process, "cwd"));
    if (cwd && cwd[0] != '/')
        return err_set(err, EINVAL, "%s.cwd: must be an absolute path, not \"%.200s\"", path, cwd);
    return 0;
}

static int check_rlimits(const json_t *process, const char *path, struct err *err) {
    const json_t *list = json_object_get(process, "rlimits");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *l = json_array_get(list, i);
        const char *type = json_string_value(json_object_get(l, "type"));
        if (!str_in_list(type, rlimit_names))
            return err_set(err, EINVAL, "%s.rlimits[%zu].type: unknown limit \"%.64s\"", path, i, type);
        for (size_t k = 0; k < i; k++)
            if (strcmp(type, json_string_value(json_object_get(json_array_get(list, k), "type"))) == 0)
                return err_set(err, EINVAL, "%s.rlimits[%zu].type: %s is there twice", path, i, type);
        uint64_t soft = (uint64_t)json_integer_value(json_object_get(l, "soft"));
        uint64_t hard = (uint64_t)json_integer_value(json_object_get(l, "hard"));
        if (soft > hard)
            return err_set(err, EINVAL, "%s.rlimits[%zu].soft: must not be above the hard limit (%s)", path, i, type);
    }
    return 0;
}

int oci_process_validate(const json_t *process, const char *path, struct err *err) {
    if (!json_is_object(process))
        return err_set(err, EINVAL, "%s: must be an object", *path ? path : "process");
    int r = fields_check(process, path, oci_process_fields, err);
    if (r < 0 || (r = check_args(process, path, err)) < 0)
        return r;
    return check_rlimits(process, path, err);
}

/* Capabilities that Linux does not have are left out with a warning, as the specification wants it. */
static int copy_capabilities(const json_t *from, json_t *to, struct strv *notes, struct err *err) {
    cleanup_json json_t *caps = json_object();
    for (const char *const *set = cap_sets; *set; set++) {
        const json_t *list = json_object_get(from, *set);
        if (!json_is_array(list))
            continue;
        json_t *copy = json_array();
        int r = json_put(caps, *set, copy, err);
        for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
            const char *name = json_string_value(json_array_get(list, i));
            if (str_in_list(name, oci_capability_names))
                r = json_push(copy, json_string(name), err);
            else
                r = note_add(notes, err, "process.capabilities.%s[%zu]: unknown capability \"%.64s\", ignored", *set, i,
                             name);
        }
        if (r < 0)
            return r;
    }
    return json_put(to, "capabilities", TAKE_PTR(caps), err);
}

int oci_console_size(const json_t *process, uint32_t *ret_width, uint32_t *ret_height, struct err *err) {
    json_t *size = NULL;
    int64_t width = 0, height = 0;
    int r = json_get_obj(process, "process", "consoleSize", &size, err);
    if (r > 0)
        r = json_get_i64(size, "process.consoleSize", "width", 0, UINT16_MAX, &width, err);
    if (r >= 0)
        r = json_get_i64(size, "process.consoleSize", "height", 0, UINT16_MAX, &height, err);
    if (r < 0)
        return r;
    *ret_width = (uint32_t)width;
    *ret_height = (uint32_t)height;
    return 0;
}

int oci_process_for_guest(const json_t *process, json_t **ret, struct strv *notes, struct err *err) {
    int r = oci_process_validate(process, "process", err);
    if (r < 0)
        return r;
    cleanup_json json_t *copy = NULL;
    r = fields_copy(process, "process", oci_process_fields, &copy, notes, err);
    if (r < 0)
        return r;
    const json_t *caps = json_object_get(process, "capabilities");
    if (json_is_object(caps) && (r = copy_capabilities(caps, copy, notes, err)) < 0)
        return r;
    *ret = TAKE_PTR(copy);
    return 0;
}
