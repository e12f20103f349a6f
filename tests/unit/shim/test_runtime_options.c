/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/log.h"
#include "proto/options.pb-c.h"
#include "proto/runtimeoptions.pb-c.h"
#include "shim/runtime_options.h"
#include "tmpdir.h"

#define GENERIC "runtimeoptions.v1.Options"
#define RUNC "containerd.runc.v1.Options"

/* What protobuf-c wants is not const, and is not written to. */
static char *text(const char *s) {
    return (char *)(uintptr_t)s;
}

static int apply(const char *type, const ProtobufCMessage *msg, struct config *c, struct err *err) {
    size_t n = protobuf_c_message_get_packed_size(msg);
    cleanup_free uint8_t *data = malloc(n + !n);
    protobuf_c_message_pack(msg, data);
    return runtime_options_apply("c1", type, data, n, c, err);
}

static int apply_generic(const char *type_url, const char *path, const char *body, struct config *c, struct err *err) {
    Runtimeoptions__V1__Options o = RUNTIMEOPTIONS__V1__OPTIONS__INIT;
    o.type_url = text(type_url);
    o.config_path = text(path);
    o.config_body = (ProtobufCBinaryData){.len = strlen(body), .data = (uint8_t *)text(body)};
    return apply(GENERIC, &o.base, c, err);
}

/* The host's: nothing in it is a default. */
static struct config host_config(void) {
    struct config c;
    config_init(&c);
    c.cpus = 7;
    c.log_level = LOG_LEVEL_WARN;
    return c;
}

static void no_options(void **state) {
    (void)state;
    struct config c = host_config(), before = c;
    assert_int_equal(runtime_options_apply("c1", "", NULL, 0, &c, NULL), 0);
    assert_int_equal(runtime_options_apply("c1", GENERIC, NULL, 0, &c, NULL), 0);
    assert_int_equal(runtime_options_apply("c1", RUNC, NULL, 0, &c, NULL), 0);
    assert_int_equal(apply_generic("", "", "", &c, NULL), 0);
    assert_memory_equal(&c, &before, sizeof(c));
}

static void a_file_takes_the_place_of_the_hosts(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *path = tmpdir_path(t, "s.conf");
    tmpdir_write(t, "s.conf", "[vm]\nmemory = 1G\n");
    struct config c = host_config();
    struct err e = ERR_INIT;
    if (apply_generic("", path, "", &c, &e) < 0)
        fail_msg("%s", e.msg);
    assert_true(c.memory == 1 << 30);
    assert_int_equal(c.cpus, 2);
    assert_int_equal(c.log_level, LOG_LEVEL_INFO);
}

static void a_body_is_read_over_the_hosts_or_over_the_file(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *path = tmpdir_path(t, "s.conf");
    tmpdir_write(t, "s.conf", "[vm]\nmemory = 1G\n");
    struct config c = host_config();
    struct err e = ERR_INIT;
    if (apply_generic("", "", "[vm]\nmemory = \"512M\"\n", &c, &e) < 0)
        fail_msg("%s", e.msg);
    assert_true(c.memory == 512 << 20);
    assert_int_equal(c.cpus, 7);
    if (apply_generic("", path, "[vm]\ncpus = 5\n", &c, &e) < 0)
        fail_msg("%s", e.msg);
    assert_true(c.memory == 1 << 30);
    assert_int_equal(c.cpus, 5);
    assert_int_equal(c.log_level, LOG_LEVEL_INFO);
}

static void types(void **state) {
    (void)state;
    static const char *const good[] = {GENERIC, "cri." GENERIC, "type.googleapis.com/" GENERIC, "a/b/" GENERIC,
                                       "/" GENERIC};
    Runtimeoptions__V1__Options o = RUNTIMEOPTIONS__V1__OPTIONS__INIT;
    o.config_body = (ProtobufCBinaryData){.len = 13, .data = (uint8_t *)text("[vm]\ncpus = 3")};
    struct err e = ERR_INIT;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        struct config c = host_config();
        if (apply(good[i], &o.base, &c, &e) < 0)
            fail_msg("%s", e.msg);
        assert_int_equal(c.cpus, 3);
    }
    static const char *const bad[] = {"",          "/",         GENERIC "/",
                                      "x" GENERIC, GENERIC "2", "containerd.linux.runc.RuncOptions"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct config c = host_config(), before = c;
        assert_int_equal(apply(bad[i], &o.base, &c, &e), -EINVAL);
        cleanup_free char *message = str_printf("container c1: runtime options of type \"%s\" are not known; there are "
                                                "runtimeoptions.v1.Options and containerd.runc.v1.Options",
                                                bad[i]);
        assert_string_equal(e.msg, message);
        assert_memory_equal(&c, &before, sizeof(c));
    }
}

static void the_configuration_has_a_type_too(void **state) {
    (void)state;
    struct config c = host_config();
    struct err e = ERR_INIT;
    assert_int_equal(apply_generic("io.containerd.stasis.v2.options", "", "[vm]\ncpus = 3", &c, &e), 0);
    assert_int_equal(c.cpus, 3);
    assert_int_equal(apply_generic("x/io.containerd.stasis.v2.options", "", "[vm]\ncpus = 4", &c, &e), 0);
    assert_int_equal(c.cpus, 4);
    assert_int_equal(apply_generic("io.containerd.kata.v2.options", "", "[vm]\ncpus = 5", &c, &e), -EINVAL);
    assert_string_equal(e.msg, "container c1: runtime options: the configuration is of type "
                               "\"io.containerd.kata.v2.options\"; stasis reads io.containerd.stasis.v2.options");
    assert_int_equal(c.cpus, 4);
}

static void bad_configurations_are_named(void **state) {
    struct tmpdir *t = *state;
    cleanup_free char *path = tmpdir_path(t, "s.conf");
    struct config c = host_config(), before = c;
    struct err e = ERR_INIT;
    assert_int_equal(apply_generic("", path, "", &c, &e), -ENOENT);
    cleanup_free char *missing =
        str_printf("container c1: runtime options: cannot open %s: No such file or directory", path);
    assert_string_equal(e.msg, missing);

    tmpdir_write(t, "s.conf", "[vm]\nmemory = 1G\ncpus = 0\n");
    assert_int_equal(apply_generic("", path, "", &c, &e), -EINVAL);
    cleanup_free char *bad =
        str_printf("container c1: runtime options: %s:3: cpus = \"0\" in [vm]: must be number, 1 to 255", path);
    assert_string_equal(e.msg, bad);

    assert_int_equal(truncate(path, (off_t)CONFIG_FILE_MAX + 1), 0);
    assert_int_equal(apply_generic("", path, "", &c, &e), -EFBIG);
    assert_int_equal(apply_generic("", t->path, "", &c, &e), -EINVAL);

    /* a good file, a bad body */
    tmpdir_write(t, "s.conf", "[vm]\nmemory = 1G\n");
    assert_int_equal(apply_generic("", path, "[vm]\ncpus = x", &c, &e), -EINVAL);
    assert_string_equal(e.msg, "container c1: runtime options (config_body):2: cpus = \"x\" in [vm]: must be number, 1 "
                               "to 255");

    static const char *const paths[] = {"s.conf", "./s.conf", "/etc/../etc/x", "/etc//x"};
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        assert_int_equal(apply_generic("", paths[i], "", &c, &e), -EINVAL);
        cleanup_free char *message =
            str_printf("container c1: runtime options: config_path \"%s\" is not an absolute, normal path", paths[i]);
        assert_string_equal(e.msg, message);
    }
    assert_memory_equal(&c, &before, sizeof(c));
}

static void damaged_and_overlong_messages(void **state) {
    (void)state;
    static const char *const types[] = {GENERIC, RUNC};
    static const uint8_t cut[] = {0x0a, 0x05, 'a'}, wrong_type[] = {0x10, 0x05, 0x1a}, tag0[] = {0x00};
    struct config c = host_config(), before = c;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        struct err e = ERR_INIT;
        assert_int_equal(runtime_options_apply("c1", types[i], cut, sizeof(cut), &c, &e), -EINVAL);
        cleanup_free char *message = str_printf("container c1: runtime options (%s) are damaged", types[i]);
        assert_string_equal(e.msg, message);
        assert_int_equal(runtime_options_apply("c1", types[i], wrong_type, sizeof(wrong_type), &c, &e), -EINVAL);
        assert_int_equal(runtime_options_apply("c1", types[i], tag0, sizeof(tag0), &c, &e), -EINVAL);
        cleanup_free uint8_t *big = calloc(1, RUNTIME_OPTIONS_MAX + 1);
        assert_int_equal(runtime_options_apply("c1", types[i], big, RUNTIME_OPTIONS_MAX + 1, &c, &e), -EFBIG);
    }
    assert_memory_equal(&c, &before, sizeof(c));

    /* the longest body is not cut off by the bound of the message */
    cleanup_free char *body = malloc(CONFIG_FILE_MAX + 2);
    memset(body, '\n', CONFIG_FILE_MAX + 1);
    body[CONFIG_FILE_MAX + 1] = '\0';
    assert_int_equal(apply_generic("", "", body, &c, NULL), -EFBIG);
    assert_int_equal(apply_generic("", "", body + 1, &c, NULL), 0);
}

/* Applies o and returns what was logged. */
static char *logged(const Containerd__Runc__V1__Options *o) {
    struct config c = host_config(), before = c;
    struct err e = ERR_INIT;
    cleanup_fd int fd = memfd_create("log", MFD_CLOEXEC);
    log_set_fd(fd);
    log_set_format(LOG_FORMAT_PLAIN);
    int r = apply("types/" RUNC, &o->base, &c, &e);
    log_set_fd(2);
    if (r < 0)
        fail_msg("%s", e.msg);
    assert_memory_equal(&c, &before, sizeof(c));
    char *lines = calloc(1, 4096);
    assert_true(pread(fd, lines, 4095, 0) >= 0);
    return lines;
}

static void runc_options_are_ignored_by_name(void **state) {
    (void)state;
    Containerd__Runc__V1__Options o = CONTAINERD__RUNC__V1__OPTIONS__INIT;
    cleanup_free char *none = logged(&o);
    assert_string_equal(none, "");

    o.criu_image_path = text("/i");
    o.criu_work_path = text("/w");
    cleanup_free char *criu = logged(&o);
    assert_string_equal(criu, "");

    o.systemd_cgroup = true;
    cleanup_free char *one = logged(&o);
    assert_string_equal(
        one, "stasis: container c1: runtime options that mean nothing in a VM are ignored: systemd_cgroup\n");

    o.no_pivot_root = o.no_new_keyring = true;
    o.io_uid = o.io_gid = 1;
    o.shim_cgroup = o.binary_name = o.root = o.criu_path = text("x");
    cleanup_free char *all = logged(&o);
    assert_string_equal(all, "stasis: container c1: runtime options that mean nothing in a VM are ignored: "
                             "no_pivot_root, no_new_keyring, shim_cgroup, io_uid, io_gid, binary_name, root, "
                             "criu_path, systemd_cgroup\n");
}

#define T(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, tmpdir_teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_options),
        T(a_file_takes_the_place_of_the_hosts),
        T(a_body_is_read_over_the_hosts_or_over_the_file),
        cmocka_unit_test(types),
        cmocka_unit_test(the_configuration_has_a_type_too),
        T(bad_configurations_are_named),
        cmocka_unit_test(damaged_and_overlong_messages),
        cmocka_unit_test(runc_options_are_ignored_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
