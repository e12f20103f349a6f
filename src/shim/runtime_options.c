/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/runtime_options.h"

#include <string.h>

#include "base/log.h"
#include "base/path.h"
#include "base/util.h"
#include "proto/options.pb-c.h"
#include "proto/runtimeoptions.pb-c.h"
#include "shim/config_body.h"

#define CONFIG_TYPE "io.containerd.stasis.v2.options"

static const char *type_name(const char *type_url) {
    const char *slash = strrchr(type_url, '/');
    return slash ? slash + 1 : type_url;
}

static int apply_generic(const char *container_id, const ProtobufCMessage *msg, struct config *config,
                         struct err *err) {
    const Runtimeoptions__V1__Options *o = (const void *)msg;
    struct config copy = *config;
    int r = 0;
    (void)container_id;
    if (*o->type_url && strcmp(type_name(o->type_url), CONFIG_TYPE) != 0)
        return err_set(err, EINVAL, "runtime options: the configuration is of type \"%.128s\"; stasis reads %s",
                       o->type_url, CONFIG_TYPE);
    if (*o->config_path && !path_is_normal(o->config_path))
        return err_set(err, EINVAL, "runtime options: config_path \"%.200s\" is not an absolute, normal path",
                       o->config_path);
    if (*o->config_path && (r = config_load(&copy, o->config_path, err)) < 0) {
        err_wrap(err, "runtime options");
        return r;
    }
    r = config_body_parse(o->config_body.data, o->config_body.len, &copy, err);
    if (r == 0)
        *config = copy;
    return r;
}

static int apply_runc(const char *container_id, const ProtobufCMessage *msg, struct config *config, struct err *err) {
    const Containerd__Runc__V1__Options *o = (const void *)msg;
    const struct {
        const char *name;
        bool set;
    } ignored[] = {
        {"no_pivot_root", o->no_pivot_root},
        {"no_new_keyring", o->no_new_keyring},
        {"shim_cgroup", *o->shim_cgroup},
        {"io_uid", o->io_uid},
        {"io_gid", o->io_gid},
        {"binary_name", *o->binary_name},
        {"root", *o->root},
        {"criu_path", *o->criu_path},
        {"systemd_cgroup", o->systemd_cgroup},
    };
    (void)config;
    (void)err;
    char names[256] = ""; /* all of them fit */
    for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
        if (ignored[i].set) {
            size_t n = strlen(names);
            snprintf(names + n, sizeof(names) - n, "%s%s", n ? ", " : "", ignored[i].name);
        }
    if (*names)
        log_info("container %s: runtime options that mean nothing in a VM are ignored: %s", container_id, names);
    return 0;
}

/* The message types that are known, by the name on the wire. */
static const struct {
    const char *name;
    const ProtobufCMessageDescriptor *descriptor;
    int (*apply)(const char *container_id, const ProtobufCMessage *msg, struct config *config, struct err *err);
} types[] = {
    {"runtimeoptions.v1.Options", &runtimeoptions__v1__options__descriptor, apply_generic},
    {"cri.runtimeoptions.v1.Options", &runtimeoptions__v1__options__descriptor, apply_generic}, /* its older name */
    {"containerd.runc.v1.Options", &containerd__runc__v1__options__descriptor, apply_runc},
};

static int apply(const char *container_id, const char *type_url, const uint8_t *data, size_t len, struct config *config,
                 struct err *err) {
    if (!*type_url && len == 0)
        return 0;
    if (len > RUNTIME_OPTIONS_MAX)
        return err_set(err, EFBIG, "runtime options are longer than %zu bytes", RUNTIME_OPTIONS_MAX);
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        if (strcmp(type_name(type_url), types[i].name) != 0)
            continue;
        ProtobufCMessage *msg =
            protobuf_c_message_unpack(types[i].descriptor, NULL, len, data ? data : (const uint8_t *)"");
        if (!msg)
            return err_set(err, EINVAL, "runtime options (%s) are damaged", types[i].name);
        int r = types[i].apply(container_id, msg, config, err);
        protobuf_c_message_free_unpacked(msg, NULL);
        return r;
    }
    return err_set(err, EINVAL, "runtime options of type \"%.128s\" are not known; there are %s and %s", type_url,
                   types[0].name, types[ARRAY_SIZE(types) - 1].name);
}

int runtime_options_apply(const char *container_id, const char *type_url, const uint8_t *data, size_t len,
                          struct config *config, struct err *err) {
    int r = apply(container_id, type_url, data, len, config, err);
    if (r < 0)
        err_wrap(err, "container %s", container_id);
    return r;
}
