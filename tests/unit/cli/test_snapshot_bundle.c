/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/snapshot_bundle.h"

#include <sys/stat.h>

#include "base/json.h"
#include "oci/spec.h"
#include "support.h"
#include "tmpdir.h"

static const char spec_text[] =
    "{\"ociVersion\": \"1.0.2\", \"process\": {\"args\": [\"sh\"], \"cwd\": \"/\", \"user\": {\"uid\": 0, \"gid\": 0}},"
    " \"root\": {\"path\": \"/srv/root\", \"readonly\": true}, \"hostname\": \"web\","
    " \"annotations\": {\"io.stasis.vm.memory\": \"1T\"},"
    " \"hooks\": {\"poststop\": [{\"path\": \"/bin/evil\"}]},"
    " \"mounts\": [{\"destination\": \"/proc\", \"type\": \"proc\", \"source\": \"proc\"},"
    "  {\"destination\": \"/a\", \"type\": \"bind\", \"source\": \"/srv/a\", \"options\": [\"rbind\"]},"
    "  {\"destination\": \"/b\", \"type\": \"none\", \"source\": \"rel\", \"options\": [\"bind\", \"ro\"]}],"
    " \"linux\": {\"cgroupsPath\": \"/system.slice\", \"namespaces\": [{\"type\": \"network\", \"path\": "
    "\"/run/netns/x\"}]}}";

struct rules {
    struct strv mounts;
    bool used[4];
};

static json_t *parse(void) {
    json_t *spec = NULL;
    assert_int_equal(json_parse("spec", spec_text, strlen(spec_text), &spec, NULL), 0);
    return spec;
}

static int make(bool imported, struct rules *rules, json_t **ret, struct err *err) {
    cleanup_json json_t *spec = parse();
    const struct snapshot_bundle_rules r = {.imported = imported, .mounts = &rules->mounts, .used = rules->used};
    return snapshot_bundle_spec(spec, "web", &r, ret, err);
}

static int mounts(bool imported, struct rules *rules, struct strv *ret, struct err *err) {
    cleanup_json json_t *state = json_pack("{s:[{s:s}, {s:s}]}", "mounts", "source", "/srv/a", "source", "/old/rel");
    const struct snapshot_bundle_rules r = {.imported = imported, .mounts = &rules->mounts, .used = rules->used};
    strv_clear(ret);
    return snapshot_bundle_mounts(state, "web", &r, ret, err);
}

static const char *source(const json_t *spec, size_t i) {
    return json_string_value(json_object_get(json_array_get(json_object_get(spec, "mounts"), i), "source"));
}

static const json_t *linux_part(const json_t *spec, const char *key) {
    return json_object_get(json_object_get(spec, "linux"), key);
}

static void ours_keeps_what_it_said(void **state) {
    (void)state;
    struct rules rules = {0};
    cleanup_json json_t *spec = NULL;
    assert_int_equal(make(false, &rules, &spec, NULL), 0);
    assert_non_null(json_object_get(spec, "hooks"));
    assert_non_null(json_object_get(spec, "annotations"));
    assert_non_null(linux_part(spec, "cgroupsPath"));
    assert_string_equal(source(spec, 0), "proc");
    assert_string_equal(source(spec, 1), "/srv/a");
    assert_string_equal(source(spec, 2), "rel");
    assert_string_equal(json_string_value(json_object_get(json_object_get(spec, "root"), "path")), "rootfs");
    assert_true(json_is_true(json_object_get(json_object_get(spec, "root"), "readonly")));
    assert_null(json_object_get(json_array_get(linux_part(spec, "namespaces"), 0), "path"));
}

static void a_strangers_reaches_nothing(void **state) {
    (void)state;
    struct rules rules = {0};
    cleanup_json json_t *spec = NULL;
    assert_int_equal(make(true, &rules, &spec, NULL), 0);
    assert_int_equal(json_array_size(json_object_get(spec, "mounts")), 3); /* the guest knows them by their order */
    assert_null(json_object_get(spec, "hooks"));
    assert_null(json_object_get(spec, "annotations"));
    assert_null(linux_part(spec, "cgroupsPath"));
    assert_null(json_object_get(json_array_get(linux_part(spec, "namespaces"), 0), "path"));
}

static void its_mounts_are_named(void **state) {
    (void)state;
    struct rules rules = {0};
    struct err err = ERR_INIT;
    cleanup_strv struct strv list = {0};
    cleanup_json json_t *odd = json_pack("{s:[{s:s}]}", "mounts", "source", "/srv/../etc");
    const struct snapshot_bundle_rules none = {.imported = false};
    assert_int_equal(mounts(true, &rules, &list, &err), -EPERM);
    assert_message(&err, "--allow-mount /srv/a");
    /* A part of a name, or more than the name, is not the name. */
    strv_add(&rules.mounts, "/srv");
    strv_add(&rules.mounts, "/srv/a/b");
    strv_add(&rules.mounts, "/srv/a=other");
    assert_int_equal(mounts(true, &rules, &list, NULL), -EPERM);
    assert_false(rules.used[0] || rules.used[1] || rules.used[2]);
    strv_clear(&rules.mounts);

    strv_add(&rules.mounts, "/srv/a");
    assert_int_equal(mounts(true, &rules, &list, &err), -EPERM);
    assert_message(&err, "/old/rel");
    strv_add(&rules.mounts, "/old/rel=/data/b");
    assert_int_equal(mounts(true, &rules, &list, NULL), 0);
    assert_true(rules.used[0] && rules.used[1]);
    assert_int_equal(list.n, 2);
    assert_string_equal(list.v[0], "/srv/a");
    assert_string_equal(list.v[1], "/data/b");
    strv_clear(&rules.mounts);
    strv_add(&rules.mounts, "/srv/a=/data/../etc");
    assert_int_equal(mounts(false, &rules, &list, NULL), -EINVAL);
    assert_int_equal(snapshot_bundle_mounts(odd, "web", &none, &list, NULL), -EINVAL);
    strv_clear(&rules.mounts);
}

static void another_directory_in_its_place(void **state) {
    (void)state;
    struct rules rules = {0};
    cleanup_json json_t *spec = NULL;
    cleanup_strv struct strv list = {0};
    strv_add(&rules.mounts, "/srv/a=/data/a=b");
    assert_int_equal(make(false, &rules, &spec, NULL), 0);
    assert_string_equal(source(spec, 1), "/data/a=b");
    assert_int_equal(mounts(false, &rules, &list, NULL), 0);
    assert_string_equal(list.v[0], "/data/a=b");
    assert_string_equal(list.v[1], "/old/rel");
    assert_true(rules.used[0]);
    strv_clear(&rules.mounts);
}

static void refuses_what_is_no_spec(void **state) {
    (void)state;
    struct rules rules = {0};
    const struct snapshot_bundle_rules r = {.mounts = &rules.mounts, .used = rules.used};
    static const char *const bad[] = {"[]", "{}", "{\"ociVersion\": \"1.0\", \"mounts\": {}}"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        cleanup_json json_t *spec = json_loads(bad[i], 0, NULL), *out = NULL;
        struct err err = ERR_INIT;
        assert_int_equal(snapshot_bundle_spec(spec, "web", &r, &out, &err), -EINVAL);
        assert_message(&err, "container web");
        assert_null(out);
    }
}

static void writes_a_bundle(void **state) {
    const struct tmpdir *t = *state;
    cleanup_free char *dir = tmpdir_path(t, "bundle/0"), *rootfs = tmpdir_path(t, "bundle/0/rootfs");
    cleanup_json json_t *spec = parse(), *again = NULL;
    struct stat st;
    assert_int_equal(snapshot_bundle_write(dir, spec, NULL), 0);
    assert_int_equal(oci_spec_load(dir, &again, NULL), 0);
    assert_true(json_equal(spec, again));
    assert_int_equal(stat(rootfs, &st), 0);
    assert_int_equal(snapshot_bundle_write(dir, spec, NULL), -EEXIST);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ours_keeps_what_it_said),
        cmocka_unit_test(a_strangers_reaches_nothing),
        cmocka_unit_test(its_mounts_are_named),
        cmocka_unit_test(another_directory_in_its_place),
        cmocka_unit_test(refuses_what_is_no_spec),
        cmocka_unit_test_setup_teardown(writes_a_bundle, tmpdir_setup, tmpdir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
