/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/util.h"
#include "proto/bootstrap.pb-c.h"
#include "shim/bootstrap.h"

/* sha256("/run/containerd/containerd.sock/k8s.io/c1") */
#define DIGEST "ccd9e484aa63698a22b33f8964a2eb3d2a5c6e843ccac78fda28f084794782cd"

static char *text(const char *s) {
    return (char *)(uintptr_t)s;
}

/* As the flags say. */
static struct bootstrap by_flags(void) {
    struct bootstrap b = {.namespace = strdup("k8s.io"),
                          .grpc_address = strdup("/run/containerd/containerd.sock"),
                          .ttrpc_address = strdup("/run/containerd/containerd.sock.ttrpc"),
                          .publish_binary = strdup("/usr/bin/containerd"),
                          .version = 2};
    assert_true(b.namespace && b.grpc_address && b.ttrpc_address && b.publish_binary);
    return b;
}

static void assert_by_flags(const struct bootstrap *b) {
    assert_string_equal(b->namespace, "k8s.io");
    assert_string_equal(b->grpc_address, "/run/containerd/containerd.sock");
    assert_string_equal(b->ttrpc_address, "/run/containerd/containerd.sock.ttrpc");
    assert_string_equal(b->publish_binary, "/usr/bin/containerd");
    assert_null(b->socket_dir);
    assert_int_equal(b->version, 2);
}

/* ---- the address ---- */

static void address(void **state) {
    (void)state;
    cleanup_bootstrap struct bootstrap b = by_flags();
    char got[BOOTSTRAP_ADDRESS_MAX], other_dir[BOOTSTRAP_ADDRESS_MAX];
    struct err err = ERR_INIT;
    assert_int_equal(bootstrap_address(&b, "c1", got, &err), 0);
    assert_string_equal(got, "unix:///run/containerd/s/" DIGEST);
    b.socket_dir = strdup("/run/other");
    assert_int_equal(bootstrap_address(&b, "c1", got, &err), 0);
    assert_string_equal(got, "unix:///run/other/" DIGEST);
    b.socket_dir[1] = '\xff'; /* the answer could not hold it */
    assert_int_equal(bootstrap_address(&b, "c1", other_dir, &err), -EINVAL);
    b.socket_dir[1] = 'r';
    /* Every part of it counts. */
    char other[BOOTSTRAP_ADDRESS_MAX];
    assert_int_equal(bootstrap_address(&b, "c2", other, &err), 0);
    assert_string_not_equal(got, other);
    b.namespace[0] = 'K';
    assert_int_equal(bootstrap_address(&b, "c1", other, &err), 0);
    assert_string_not_equal(got, other);
}

/* What is given out fits a socket's address, to the byte. */
static void address_too_long(void **state) {
    (void)state;
    cleanup_bootstrap struct bootstrap b = by_flags();
    struct sockaddr_un addr;
    char got[BOOTSTRAP_ADDRESS_MAX];
    size_t fits = sizeof(addr.sun_path) - 1 - strlen("/" DIGEST);
    b.socket_dir = calloc(1, fits + 2);
    memset(b.socket_dir, 'd', fits);
    b.socket_dir[0] = '/';
    struct err err = ERR_INIT;
    assert_int_equal(bootstrap_address(&b, "c1", got, &err), 0);
    assert_int_equal(strlen(got), strlen("unix://") + sizeof(addr.sun_path) - 1);
    b.socket_dir[fits] = 'd';
    assert_int_equal(bootstrap_address(&b, "c1", got, &err), -EINVAL);
    assert_non_null(strstr(err.msg, b.socket_dir));
}

/* ---- stdin ---- */

static int apply_params(struct bootstrap *b, const Stasis__Bootstrap__BootstrapParams *p, struct err *err) {
    uint8_t buf[1024];
    assert_true(stasis__bootstrap__bootstrap_params__get_packed_size(p) <= sizeof(buf));
    size_t n = stasis__bootstrap__bootstrap_params__pack(p, buf);
    return bootstrap_apply(b, "c1", buf, n, err);
}

static Stasis__Bootstrap__BootstrapParams some_params(void) {
    Stasis__Bootstrap__BootstrapParams p = STASIS__BOOTSTRAP__BOOTSTRAP_PARAMS__INIT;
    p.instance_id = text("c1");
    p.namespace_ = text("ns");
    p.ttrpc_address = text("/t");
    p.grpc_address = text("/g");
    p.binary = text("/bin/c");
    p.socket_dir = text("/sockets");
    return p;
}

static void params(void **state) {
    (void)state;
    cleanup_bootstrap struct bootstrap b = by_flags();
    Stasis__Bootstrap__BootstrapParams p = some_params();
    struct err err = ERR_INIT;
    assert_int_equal(apply_params(&b, &p, &err), 0);
    assert_string_equal(b.namespace, "ns");
    assert_string_equal(b.ttrpc_address, "/t");
    assert_string_equal(b.grpc_address, "/g");
    assert_string_equal(b.publish_binary, "/bin/c");
    assert_string_equal(b.socket_dir, "/sockets");
    assert_int_equal(b.version, 3);
}

/* What they leave out is as the flags say. */
static void few_params(void **state) {
    (void)state;
    cleanup_bootstrap struct bootstrap b = by_flags();
    Stasis__Bootstrap__BootstrapParams p = STASIS__BOOTSTRAP__BOOTSTRAP_PARAMS__INIT;
    p.instance_id = text("c1");
    struct err err = ERR_INIT;
    assert_int_equal(apply_params(&b, &p, &err), 0);
    assert_int_equal(b.version, 3);
    b.version = 2;
    assert_by_flags(&b);
}

/* Field numbers, against containerd's: a message made by hand. */
static void params_on_the_wire(void **state) {
    (void)state;
    cleanup_bootstrap struct bootstrap b = by_flags();
    static const uint8_t wire[] = "\x0a\x02"
                                  "c1"
                                  "\x12\x01n\x18\x01\x20\x03\x2a\x01t\x32\x01g\x3a\x01"
                                  "b\x4a\x01s";
    assert_int_equal(bootstrap_apply(&b, "c1", wire, sizeof(wire) - 1, NULL), 0);
    assert_string_equal(b.namespace, "n");
    assert_string_equal(b.ttrpc_address, "t");
    assert_string_equal(b.grpc_address, "g");
    assert_string_equal(b.publish_binary, "b");
    assert_string_equal(b.socket_dir, "s");
}

/* Those of another container, an Any of the runtime's options (whose type_url stands where the id does), nothing, or
 * anything else: the flags stay. */
static void not_params(void **state) {
    (void)state;
    cleanup_bootstrap struct bootstrap b = by_flags();
    Stasis__Bootstrap__BootstrapParams p = some_params();
    struct err err = ERR_INIT;
    p.instance_id = text("c2");
    assert_int_equal(apply_params(&b, &p, &err), 0);
    assert_by_flags(&b);

    Containerd__Task__V2__Any any = CONTAINERD__TASK__V2__ANY__INIT;
    uint8_t buf[256];
    any.type_url = text("containerd.runc.v1.Options");
    any.value.data = (uint8_t *)text("\x1a\x04runc");
    any.value.len = 6;
    size_t n = containerd__task__v2__any__pack(&any, buf);
    assert_int_equal(bootstrap_apply(&b, "c1", buf, n, &err), 0);
    assert_by_flags(&b);

    assert_int_equal(bootstrap_apply(&b, "c1", NULL, 0, &err), 0);
    assert_int_equal(bootstrap_apply(&b, "c1", (const uint8_t *)"{\"a\":1}", 7, &err), 0);
    assert_int_equal(bootstrap_apply(&b, "c1", (const uint8_t *)"\xff\xff\xff", 3, &err), 0);
    assert_by_flags(&b);
}

/* ---- the answer ---- */

static void answer(void **state) {
    (void)state;
    struct bootstrap b = {.version = 2};
    cleanup_free char *bare = bootstrap_answer(&b, "unix:///run/s/x");
    assert_string_equal(bare, "unix:///run/s/x");
    b.version = 3;
    cleanup_free char *json = bootstrap_answer(&b, "unix:///run/s/x");
    assert_string_equal(json, "{\"version\":3,\"address\":\"unix:///run/s/x\",\"protocol\":\"ttrpc\"}");
}

static void runtime_name(void **state) {
    (void)state;
    static const struct {
        const char *program, *name;
    } cases[] = {
        {"containerd-shim-stasis-v2", "io.containerd.stasis.v2"},
        {"containerd-shim-kata-v2", "io.containerd.kata.v2"},
        {"containerd-shim-kata-qemu-v2", "io.containerd.kata-qemu.v2"},
        {"containerd-shim-runc-v1", "io.containerd.runc.v1"},
        {"stasis", "io.containerd.stasis.v2"},
        {"", "io.containerd.stasis.v2"},
        {"containerd-shim-", "io.containerd.stasis.v2"},
        {"containerd-shim-x", "io.containerd.stasis.v2"},
        {"containerd-shim-x-", "io.containerd.stasis.v2"},
        {"containerd-shim--v2", "io.containerd.stasis.v2"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_free char *name = bootstrap_runtime_name(cases[i].program);
        assert_string_equal(name, cases[i].name);
    }
}

static void info(void **state) {
    (void)state;
    cleanup_free uint8_t *buf = NULL;
    size_t len;
    struct err err = ERR_INIT;
    assert_int_equal(bootstrap_info("containerd-shim-kata-v2", &buf, &len, &err), 0);
    Stasis__Bootstrap__RuntimeInfo *m = stasis__bootstrap__runtime_info__unpack(NULL, len, buf);
    assert_non_null(m);
    assert_string_equal(m->name, "io.containerd.kata.v2");
    assert_string_equal(m->version->version, STASIS_VERSION);
    assert_null(m->options);
    assert_string_equal(m->features->type_url, "types.containerd.io/opencontainers/runtime-spec/1/features/Features");
    cleanup_json json_t *doc = NULL;
    if (json_parse("features", (const char *)m->features->value.data, m->features->value.len, &doc, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(json_string_value(json_object_get(doc, "ociVersionMin")), "1.0.0");
    assert_true(json_is_object(json_object_get(doc, "linux")));
    stasis__bootstrap__runtime_info__free_unpacked(m, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(address),    cmocka_unit_test(address_too_long), cmocka_unit_test(params),
        cmocka_unit_test(few_params), cmocka_unit_test(not_params),       cmocka_unit_test(params_on_the_wire),
        cmocka_unit_test(answer),     cmocka_unit_test(runtime_name),     cmocka_unit_test(info),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
