/* SPDX-License-Identifier: Apache-2.0 */
/* Runtime options: what is accepted is within bounds, what is refused changes nothing and says why. The first byte says
 * how the rest is read: as a message of one of the types, as a type, or as a config_body. */
#include <fcntl.h>
#include <stdint.h>

#include "config_bounds.h"
#include "proto/runtimeoptions.pb-c.h"
#include "shim/runtime_options.h"

#define GENERIC "runtimeoptions.v1.Options"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Files of this machine are no input. */
static bool names_a_file(const uint8_t *data, size_t size) {
    Runtimeoptions__V1__Options *o = runtimeoptions__v1__options__unpack(NULL, size, data);
    bool yes = o && path_is_normal(o->config_path);
    runtimeoptions__v1__options__free_unpacked(o, NULL);
    return yes;
}

static void apply(const char *type, const uint8_t *data, size_t size) {
    struct config c, before;
    struct err err = ERR_INIT;
    config_init(&c);
    before = c;
    int r = runtime_options_apply("c1", type, data, size, &c, &err);
    if (r == 0) {
        check_bounds(&c);
    } else {
        require(err.code == -r && memcmp(&c, &before, sizeof(c)) == 0);
        require(r == -EINVAL || r == -EFBIG);
        require(strncmp(err.msg, "container c1: runtime options", 29) == 0);
    }
}

static void apply_body(const uint8_t *data, size_t size) {
    Runtimeoptions__V1__Options o = RUNTIMEOPTIONS__V1__OPTIONS__INIT;
    o.config_body = (ProtobufCBinaryData){.len = size, .data = (uint8_t *)(uintptr_t)data};
    size_t n = runtimeoptions__v1__options__get_packed_size(&o);
    cleanup_free uint8_t *packed = malloc(n + !n);
    require(packed);
    runtimeoptions__v1__options__pack(&o, packed);
    apply(GENERIC, packed, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    log_set_level(LOG_LEVEL_ERROR);
    if (size == 0)
        return 0;
    const uint8_t *rest = data + 1;
    size--;
    switch (data[0] % 4) {
    case 0:
        if (!names_a_file(rest, size))
            apply(GENERIC, rest, size);
        break;
    case 1:
        apply("containerd.runc.v1.Options", rest, size);
        break;
    case 2: {
        cleanup_free char *type = str_printf("%.*s", (int)size, (const char *)rest);
        apply(type, rest, 0);
        break;
    }
    default:
        apply_body(rest, size);
    }
    return 0;
}
