/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/process_spec.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "oci/spec.h"

#define ID_LIMIT (UINT32_MAX - 1) /* -1 means "unchanged" to the kernel */
#define CAP_NAME_MAX 64

static int parse_id(const char *text, const char *what, uint32_t *ret, struct err *err) {
    uint64_t v;
    if (parse_u64(text, ID_LIMIT, &v) < 0)
        return err_set(err, EINVAL, "parsing %s as int for %s failed: must be a number from 0 to %u", text, what,
                       ID_LIMIT);
    *ret = (uint32_t)v;
    return 0;
}

int process_parse_user(const char *text, uint32_t *ret_uid, uint32_t *ret_gid, struct err *err) {
    const char *colon = strchr(text, ':');
    cleanup_free char *uid = colon ? strndup(text, (size_t)(colon - text)) : strdup(text);
    if (!uid)
        return err_set(err, ENOMEM, "out of memory");
    int r = colon ? parse_id(colon + 1, "gid", ret_gid, err) : 0;
    return r < 0 ? r : parse_id(uid, "uid", ret_uid, err);
}

int process_parse_cap(const char *text, char *buf, size_t size, struct err *err) {
    bool prefixed = strncasecmp(text, "CAP_", 4) == 0;
    size_t n = (size_t)snprintf(buf, size, "%s%s", prefixed ? "" : "CAP_", text);
    bool ok = n < size && n > 4;
    for (char *c = buf; ok && *c; c++) {
        *c = (char)toupper((unsigned char)*c);
        ok = isupper((unsigned char)*c) || isdigit((unsigned char)*c) || *c == '_';
    }
    return ok ? 0 : err_set(err, EINVAL, "--cap %s: no capability has such a name", text);
}

/* The array `key` of `obj`, made if it is not there. */
static json_t *array_of(json_t *obj, const char *key) {
    json_t *a = json_object_get(obj, key);
    if (json_is_array(a))
        return a;
    a = json_array();
    return json_object_set_new(obj, key, a) < 0 ? NULL : a;
}

static json_t *object_of(json_t *obj, const char *key) {
    json_t *o = json_object_get(obj, key);
    if (json_is_object(o))
        return o;
    o = json_object();
    return json_object_set_new(obj, key, o) < 0 ? NULL : o;
}

static bool holds(const json_t *array, const char *text) {
    size_t i;
    json_t *v;
    json_array_foreach(array, i, v) if (json_is_string(v) && strcmp(json_string_value(v), text) == 0) return true;
    return false;
}

static int add_caps(json_t *process, const struct strv *caps, struct err *err) {
    static const char *const sets[] = {"bounding", "effective", "permitted", "ambient"};
    json_t *all = caps->n ? object_of(process, "capabilities") : NULL;
    for (size_t i = 0; i < caps->n; i++) {
        char name[CAP_NAME_MAX];
        int r = process_parse_cap(caps->v[i], name, sizeof(name), err);
        if (r < 0)
            return r;
        for (size_t s = 0; s < ARRAY_SIZE(sets); s++) {
            json_t *set = array_of(all, sets[s]);
            if (!set || (!holds(set, name) && json_array_append_new(set, json_string(name)) < 0))
                return err_set(err, ENOMEM, "out of memory");
        }
    }
    return 0;
}

static int set_user(json_t *process, const struct process_options *o, struct err *err) {
    json_t *user = object_of(process, "user");
    uint32_t uid = (uint32_t)json_integer_value(json_object_get(user, "uid"));
    uint32_t gid = (uint32_t)json_integer_value(json_object_get(user, "gid"));
    int r = o->user ? process_parse_user(o->user, &uid, &gid, err) : 0;
    if (r < 0)
        return r;
    r = json_object_set_new(user, "uid", json_integer(uid));
    r |= json_object_set_new(user, "gid", json_integer(gid));
    for (size_t i = 0; i < o->additional_gids.n && r == 0; i++) {
        json_t *gids = array_of(user, "additionalGids");
        if (parse_id(o->additional_gids.v[i], "additional gid", &gid, err) < 0)
            return -EINVAL;
        r = json_array_append_new(gids, json_integer(gid));
    }
    return r < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

static int set_texts(json_t *process, const struct process_options *o, int n_args, char *const *args) {
    int r = 0;
    json_t *argv = json_array(), *env = array_of(process, "env");
    for (int i = 0; i < n_args; i++)
        r |= json_array_append_new(argv, json_string(args[i]));
    r |= json_object_set_new(process, "args", argv);
    for (size_t i = 0; i < o->env.n; i++)
        r |= json_array_append_new(env, json_string(o->env.v[i]));
    if (o->cwd)
        r |= json_object_set_new(process, "cwd", json_string(o->cwd));
    if (o->apparmor)
        r |= json_object_set_new(process, "apparmorProfile", json_string(o->apparmor));
    if (o->label)
        r |= json_object_set_new(process, "selinuxLabel", json_string(o->label));
    if (o->no_new_privs)
        r |= json_object_set_new(process, "noNewPrivileges", json_true());
    r |= json_object_set_new(process, "terminal", json_boolean(o->tty));
    return r;
}

int process_spec_build(const json_t *container, const struct process_options *o, int n_args, char *const *args,
                       json_t **ret, struct err *err) {
    if (n_args == 0)
        return err_set(err, EINVAL, "process args cannot be empty");
    cleanup_json json_t *process = container ? json_copy_whole(container) : json_object();
    if (!process)
        return err_set(err, ENOMEM, "out of memory");
    /* The raw command line is the container's, not this process's. */
    json_object_del(process, "commandLine");
    if (set_texts(process, o, n_args, args) < 0)
        return err_set(err, EINVAL, "the arguments, --env and --cwd must be UTF-8");
    int r = set_user(process, o, err);
    if (r == 0)
        r = add_caps(process, &o->caps, err);
    if (r == 0)
        r = oci_process_validate(process, "process", err);
    if (r == 0)
        *ret = TAKE_PTR(process);
    return r;
}

int process_spec_load(const struct process_options *o, json_t **ret, struct err *err) {
    cleanup_json json_t *process = NULL;
    int r = json_parse_file(o->file, &process, err);
    if (r == 0 && o->tty && json_object_set_new(process, "terminal", json_true()) < 0)
        r = err_set(err, ENOMEM, "out of memory");
    if (r == 0)
        r = oci_process_validate(process, "process", err);
    if (r < 0)
        return err_wrap(err, "--process %s", o->file);
    *ret = TAKE_PTR(process);
    return 0;
}
