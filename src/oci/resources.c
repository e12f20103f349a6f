/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.resources for crun in a guest with cgroup v2. What names the host's CPUs, disks and network cards means nothing
 * there; what cgroup v2 does not have makes crun fail, so it is left out here, with a note.
 */
#include <ctype.h>
#include <string.h>

#include "base/json.h"
#include "oci/rewrite.h"

static const char no_v2[] = "cgroup v2 has no such limit";
static const char host_cpus[] = "its numbers mean the host's CPUs";

static const struct field device_rule_fields[] = {
    {"allow", FIELD_BOOL, .required = true},
    {"type", FIELD_STR},
    {"major", FIELD_INT, .min = -1, .max = INT32_MAX},
    {"minor", FIELD_INT, .min = -1, .max = INT32_MAX},
    {"access", FIELD_STR},
    {NULL},
};

/* Limits are in bytes; -1 is "unlimited". */
static const struct field memory_fields[] = {
    {"limit", FIELD_INT, .min = INT64_MIN, .max = INT64_MAX},
    {"reservation", FIELD_INT, .min = INT64_MIN, .max = INT64_MAX},
    {"swap", FIELD_INT, .min = INT64_MIN, .max = INT64_MAX},
    {"kernel", FIELD_INT, FIELD_NOTE, .min = INT64_MIN, .max = INT64_MAX, .why = no_v2},
    {"kernelTCP", FIELD_INT, FIELD_NOTE, .min = INT64_MIN, .max = INT64_MAX, .why = no_v2},
    {"swappiness", FIELD_INT, FIELD_NOTE, .min = 0, .max = INT64_MAX, .why = no_v2},
    {"disableOOMKiller", FIELD_BOOL, FIELD_NOTE, .why = "cgroup v2 cannot do that"},
    {"useHierarchy", FIELD_BOOL, FIELD_DROP}, /* cgroup v2 always does */
    {"checkBeforeUpdate", FIELD_BOOL},
    {NULL},
};

static const struct field cpu_fields[] = {
    {"shares", FIELD_INT, .min = 0, .max = INT64_MAX},
    {"quota", FIELD_INT, .min = INT64_MIN, .max = INT64_MAX},
    {"burst", FIELD_INT, .min = 0, .max = INT64_MAX},
    {"period", FIELD_INT, .min = 0, .max = INT64_MAX},
    {"idle", FIELD_INT, .min = 0, .max = 1},
    {"realtimeRuntime", FIELD_INT, FIELD_NOTE, .min = INT64_MIN, .max = INT64_MAX, .why = no_v2},
    {"realtimePeriod", FIELD_INT, FIELD_NOTE, .min = 0, .max = INT64_MAX, .why = no_v2},
    {"cpus", FIELD_STR, FIELD_NOTE, .why = host_cpus},
    {"mems", FIELD_STR, FIELD_NOTE, .why = "its numbers mean the host's memory nodes"},
    {NULL},
};

static const struct field pids_fields[] = {
    {"limit", FIELD_INT, .min = INT64_MIN, .max = INT64_MAX},
    {NULL},
};

static const struct field hugepage_fields[] = {
    {"pageSize", FIELD_STR, .required = true},
    {"limit", FIELD_INT, .required = true, .min = INT64_MIN, .max = INT64_MAX},
    {NULL},
};

const struct field oci_resources_fields[] = {
    {"devices", FIELD_OBJS, .max = OCI_LIST_MAX, .fields = device_rule_fields},
    {"memory", FIELD_OBJ, .fields = memory_fields},
    {"cpu", FIELD_OBJ, .fields = cpu_fields},
    {"pids", FIELD_OBJ, .fields = pids_fields},
    {"hugepageLimits", FIELD_OBJS, FIELD_REWRITE, .max = 64, .fields = hugepage_fields},
    {"unified", FIELD_STRMAP, .max = 256},
    {"blockIO", FIELD_OBJ, FIELD_NOTE, .why = "the container's files are not on a block device of the guest"},
    {"network", FIELD_OBJ, FIELD_NOTE, .why = no_v2},
    {"rdma", FIELD_OBJ, FIELD_NOTE, .why = "the guest has no RDMA devices"},
    {NULL},
};

static int check_device_rules(const json_t *resources, struct err *err) {
    const json_t *list = json_object_get(resources, "devices");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *rule = json_array_get(list, i);
        const char *type = json_string_value(json_object_get(rule, "type"));
        const char *access = json_string_value(json_object_get(rule, "access"));
        if (type && (strlen(type) > 1 || !strchr("abc", type[0])))
            return err_set(err, EINVAL, "linux.resources.devices[%zu].type: must be a, b or c, not \"%.32s\"", i, type);
        if (access && strspn(access, "rwm") != strlen(access))
            return err_set(err, EINVAL,
                           "linux.resources.devices[%zu].access: must be made of r, w and m, not \"%.32s\"", i, access);
    }
    return 0;
}

/* crun makes file names of these. */
static int check_unified(const json_t *resources, struct err *err) {
    const char *key;
    json_t *v;
    json_object_foreach(json_object_get(resources, "unified"), key, v) {
        bool good = isalpha((unsigned char)*key) && strchr(key, '.') && !strstr(key, "..");
        for (const char *p = key; *p; p++)
            good &= isalnum((unsigned char)*p) || *p == '.' || *p == '_';
        if (!good)
            return err_set(err, EINVAL, "linux.resources.unified[\"%.200s\"]: is not a cgroup file's name", key);
    }
    return 0;
}

static int copy_hugepages(const json_t *resources, json_t *to, struct err *err) {
    const json_t *list = json_object_get(resources, "hugepageLimits");
    if (json_array_size(list) == 0)
        return 0;
    json_t *copy = json_array();
    int r = json_put(to, "hugepageLimits", copy, err);
    for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
        const json_t *h = json_array_get(list, i);
        const char *size = json_string_value(json_object_get(h, "pageSize"));
        const json_t *limit = json_object_get(h, "limit");
        size_t digits = strspn(size, "0123456789");
        if (digits == 0 || digits > 9 || !size[digits] || !strchr("KMG", size[digits]) ||
            strcmp(size + digits + 1, "B") != 0)
            return err_set(err, EINVAL,
                           "linux.resources.hugepageLimits[%zu].pageSize: must be like \"2MB\", not \"%.32s\"", i,
                           size);
        /* Kubernetes forbids every size of the host this way. The guest reserves no huge pages, and crun would fail on
         * a size that the guest's CPU does not have. */
        if (json_integer_value(limit) == 0)
            continue;
        r = json_push(copy, json_pack("{s:s, s:I}", "pageSize", size, "limit", json_integer_value(limit)), err);
    }
    return r;
}

int oci_resources_for_guest(const json_t *resources, json_t **ret, struct strv *notes, struct err *err) {
    if (!json_is_object(resources))
        return err_set(err, EINVAL, "linux.resources: must be an object");
    cleanup_json json_t *copy = NULL;
    int r = fields_check(resources, "linux.resources", oci_resources_fields, err);
    if (r < 0 || (r = check_device_rules(resources, err)) < 0 || (r = check_unified(resources, err)) < 0)
        return r;
    r = fields_copy(resources, "linux.resources", oci_resources_fields, &copy, notes, err);
    if (r < 0 || (r = copy_hugepages(resources, copy, err)) < 0)
        return r;
    *ret = TAKE_PTR(copy);
    return 0;
}

/* The object at key, made if it is not there. */
static int child(json_t *parent, const char *key, json_t **ret, struct err *err) {
    *ret = json_object_get(parent, key);
    if (json_is_object(*ret))
        return 0;
    *ret = json_object();
    return json_put(parent, key, *ret, err);
}

int oci_guest_limit_pids(struct oci_guest_spec *g, uint32_t limit, struct err *err) {
    static const char *const path[] = {"linux", "resources", "pids"};
    json_t *o = g->spec, *resources = json_object_get(json_object_get(o, "linux"), "resources");
    if (limit == 0 || json_object_get(json_object_get(resources, "unified"), "pids.max"))
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(path); i++) {
        int r = child(o, path[i], &o, err);
        if (r < 0)
            return r;
    }
    return json_object_get(o, "limit") ? 0 : json_put(o, "limit", json_integer(limit), err);
}
