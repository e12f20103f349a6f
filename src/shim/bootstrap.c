/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/bootstrap.h"

#include <nettle/sha2.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/util.h"
#include "oci/spec.h"
#include "proto/bootstrap.pb-c.h"

#define SHIM_PREFIX "containerd-shim-"
#define TYPE_FEATURES "types.containerd.io/opencontainers/runtime-spec/1/features/Features"

void bootstrap_clear(struct bootstrap *b) {
    free(b->namespace);
    free(b->grpc_address);
    free(b->ttrpc_address);
    free(b->publish_binary);
    free(b->socket_dir);
    *b = (struct bootstrap){0};
}

static int replace(char **to, const char *with) {
    char *copy = *with ? strdup(with) : NULL;
    if (!*with)
        return 0;
    if (!copy)
        return -ENOMEM;
    free(*to);
    *to = copy;
    return 0;
}

int bootstrap_apply(struct bootstrap *b, const char *id, const uint8_t *input, size_t len, struct err *err) {
    Stasis__Bootstrap__BootstrapParams *p = stasis__bootstrap__bootstrap_params__unpack(NULL, len, input);
    if (!p)
        return 0;
    int r = 0;
    if (strcmp(p->instance_id, id) == 0) {
        r |= replace(&b->namespace, p->namespace_);
        r |= replace(&b->grpc_address, p->grpc_address);
        r |= replace(&b->ttrpc_address, p->ttrpc_address);
        r |= replace(&b->publish_binary, p->binary);
        r |= replace(&b->socket_dir, p->socket_dir);
        b->version = BOOTSTRAP_TASK_VERSION_MAX;
    }
    stasis__bootstrap__bootstrap_params__free_unpacked(p, NULL);
    return r ? err_set(err, ENOMEM, "out of memory") : 0;
}

int bootstrap_address(const struct bootstrap *b, const char *id, char ret[BOOTSTRAP_ADDRESS_MAX], struct err *err) {
    struct sha256_ctx ctx;
    uint8_t digest[SHA256_DIGEST_SIZE];
    char hex[2 * SHA256_DIGEST_SIZE + 1];
    const char *const parts[] = {b->grpc_address, "/", b->namespace, "/", id};
    sha256_init(&ctx);
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        sha256_update(&ctx, strlen(parts[i]), (const uint8_t *)parts[i]);
    sha256_digest(&ctx, sizeof(digest), digest);
    hex_format(digest, sizeof(digest), hex);
    const char *dir = b->socket_dir ? b->socket_dir : BOOTSTRAP_SOCKET_DIR;
    if (!utf8_valid(dir, strlen(dir))) /* the answer is JSON */
        return err_set(err, EINVAL, "the directory for sockets is not UTF-8");
    int n = snprintf(ret, BOOTSTRAP_ADDRESS_MAX, "unix://%s/%s", dir, hex);
    if (n < 0 || (size_t)n >= BOOTSTRAP_ADDRESS_MAX)
        return err_set(err, EINVAL, "the directory for sockets %s is too long for a socket's address", dir);
    return 0;
}

char *bootstrap_answer(const struct bootstrap *b, const char *address) {
    if (b->version < 3)
        return strdup(address);
    cleanup_json json_t *doc = json_pack("{s:i, s:s, s:s}", "version", 3, "address", address, "protocol", "ttrpc");
    return doc ? json_text(doc, JSON_COMPACT) : NULL;
}

char *bootstrap_runtime_name(const char *program) {
    const char *name = strncmp(program, SHIM_PREFIX, strlen(SHIM_PREFIX)) == 0 ? program + strlen(SHIM_PREFIX) : "";
    const char *version = strrchr(name, '-');
    if (!version || version == name || !version[1])
        return strdup("io.containerd.stasis.v2");
    return str_printf("io.containerd.%.*s.%s", (int)(version - name), name, version + 1);
}

int bootstrap_info(const char *program, uint8_t **ret, size_t *ret_len, struct err *err) {
    cleanup_json json_t *doc = oci_features();
    cleanup_free char *features = doc ? json_text(doc, JSON_COMPACT) : NULL;
    cleanup_free char *name = bootstrap_runtime_name(program);
    if (!features || !name)
        return err_set(err, ENOMEM, "out of memory");
    Containerd__Task__V2__Any any = CONTAINERD__TASK__V2__ANY__INIT;
    any.type_url = (char *)(uintptr_t)TYPE_FEATURES;
    any.value.data = (uint8_t *)features;
    any.value.len = strlen(features);
    Stasis__Bootstrap__RuntimeVersion version = STASIS__BOOTSTRAP__RUNTIME_VERSION__INIT;
    version.version = (char *)(uintptr_t)STASIS_VERSION;
    Stasis__Bootstrap__RuntimeInfo info = STASIS__BOOTSTRAP__RUNTIME_INFO__INIT;
    info.name = name;
    info.version = &version;
    info.features = &any;
    *ret_len = stasis__bootstrap__runtime_info__get_packed_size(&info);
    *ret = malloc(*ret_len);
    if (!*ret)
        return err_set(err, ENOMEM, "out of memory");
    stasis__bootstrap__runtime_info__pack(&info, *ret);
    return 0;
}
