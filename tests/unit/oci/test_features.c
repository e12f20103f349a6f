/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

static json_t *at(json_t *v, const char *a, const char *b, const char *c) {
    v = json_object_get(v, a);
    v = b ? json_object_get(v, b) : v;
    return c ? json_object_get(v, c) : v;
}

static void the_document(void **state) {
    (void)state;
    cleanup_json json_t *f = oci_features();
    assert_non_null(f);
    assert_string_equal(json_string_value(at(f, "ociVersionMin", NULL, NULL)), "1.0.0");
    assert_string_equal(json_string_value(at(f, "ociVersionMax", NULL, NULL)), OCI_VERSION);
    assert_true(json_is_false(at(f, "linux", "cgroup", "v1")));
    assert_true(json_is_true(at(f, "linux", "cgroup", "v2")));
    assert_true(json_is_false(at(f, "linux", "apparmor", "enabled")));
    assert_true(json_is_false(at(f, "linux", "selinux", "enabled")));
    assert_true(json_is_true(at(f, "linux", "seccomp", "enabled")));
    assert_true(json_is_false(json_object_get(at(f, "linux", "mountExtensions", "idmap"), "enabled")));
    assert_int_equal(json_array_size(at(f, "linux", "capabilities", NULL)), 41);
    assert_string_equal(json_string_value(at(f, "annotations", "stasis.version", NULL)), STASIS_VERSION);
    cleanup_free char *hooks = json_text(at(f, "hooks", NULL, NULL), JSON_COMPACT);
    assert_string_equal(hooks, "[\"prestart\",\"createRuntime\",\"startContainer\",\"poststart\",\"poststop\"]");
}

/* What is said to be known is accepted, and passed on or without effect; no note. */
static void said_is_done(void **state) {
    struct tmpdir *t = *state;
    cleanup_json json_t *f = oci_features(), *spec = oci_spec_default();
    json_t *options = at(f, "mountOptions", NULL, NULL), *namespaces = json_array();
    assert_true(json_array_size(options) > 50);
    for (size_t i = 0; i < json_array_size(options); i++) {
        const char *name = json_string_value(json_array_get(options, i));
        if (i > 0) /* sorted */
            assert_true(strcmp(json_string_value(json_array_get(options, i - 1)), name) < 0);
        json_array_append_new(json_object_get(spec, "mounts"),
                              json_pack("{s:s, s:s, s:s, s:[s]}", "destination", "/x", "type", "tmpfs", "source", "dir",
                                        "options", name));
    }
    json_t *types = at(f, "linux", "namespaces", NULL);
    for (size_t i = 0; i < json_array_size(types); i++)
        json_array_append_new(namespaces, json_pack("{s:O}", "type", json_array_get(types, i)));
    json_object_set_new(json_object_get(spec, "linux"), "namespaces", namespaces);
    json_t *caps = at(spec, "process", "capabilities", NULL);
    json_object_set(caps, "bounding", at(f, "linux", "capabilities", NULL));

    cleanup_guest_spec struct oci_guest_spec g = {0};
    struct err e = ERR_INIT;
    if (oci_spec_for_guest(spec, "c", t->path, &g, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(g.notes.n, 0);
    assert_int_equal(json_array_size(at(g.spec, "linux", "namespaces", NULL)), 8);
    assert_int_equal(json_array_size(at(g.spec, "process", "capabilities", "bounding")), 41);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_document),
        BUNDLE_TEST(said_is_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
