/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

static void load_reads_and_checks(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    json_t *spec = NULL;
    cleanup_free char *path = tmpdir_path(t, "config.json");
    char expected[256];

    assert_int_equal(oci_spec_load(t->path, &spec, &e), -ENOENT);
    snprintf(expected, sizeof(expected), "cannot open %s: No such file or directory", path);
    assert_string_equal(e.msg, expected);

    tmpdir_write(t, "config.json", "{\n  \"ociVersion\": \"1.0.0\",\n}\n");
    assert_int_equal(oci_spec_load(t->path, &spec, &e), -EINVAL);
    snprintf(expected, sizeof(expected), "%s: line 3, column 1: string or '}' expected near '}'", path);
    assert_string_equal(e.msg, expected);

    tmpdir_write(t, "config.json", "{\"ociVersion\": \"1.0.0\", \"root\": {\"path\": 5}}");
    assert_int_equal(oci_spec_load(t->path, &spec, &e), -EINVAL);
    snprintf(expected, sizeof(expected), "%s: root.path: must be a string", path);
    assert_string_equal(e.msg, expected);
    assert_null(spec);

    cleanup_json json_t *def = oci_spec_default();
    cleanup_free char *text = json_text(def, JSON_INDENT(4));
    tmpdir_write(t, "config.json", text);
    assert_int_equal(oci_spec_load(t->path, &spec, &e), 0);
    assert_true(json_equal(spec, def));
    json_decref(spec);
}

static void load_has_a_bound(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    json_t *spec = NULL;
    cleanup_free char *path = tmpdir_path(t, "config.json");
    tmpdir_write(t, "config.json", "{}");
    assert_int_equal(truncate(path, (off_t)JSON_TEXT_MAX + 1), 0);
    assert_int_equal(oci_spec_load(t->path, &spec, &e), -EFBIG);
    assert_non_null(strstr(e.msg, path));
}

static void clear_accepts_nothing(void **state) {
    (void)state;
    struct oci_guest_spec g = {0};
    oci_guest_spec_clear(&g);
    assert_null(g.spec);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        BUNDLE_TEST(load_reads_and_checks),
        BUNDLE_TEST(load_has_a_bound),
        cmocka_unit_test(clear_accepts_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
