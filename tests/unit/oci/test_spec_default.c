/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

/* spec-runc.json is what Debian's `runc spec` writes. */
static void as_runc_writes_it(void **state) {
    (void)state;
    cleanup_json json_t *ours = oci_spec_default(), *theirs = NULL;
    assert_non_null(ours);
    assert_int_equal(json_parse_file(FIXTURES "/spec-runc.json", &theirs, NULL), 0);
    /* the two that name the runtime */
    assert_string_equal(json_string_value(json_object_get(ours, "ociVersion")), OCI_VERSION);
    assert_string_equal(json_string_value(json_object_get(ours, "hostname")), "stasis");
    json_object_set_new(theirs, "ociVersion", json_string(OCI_VERSION));
    json_object_set_new(theirs, "hostname", json_string("stasis"));
    /* byte for byte: also the order of the keys, which people see */
    cleanup_free char *a = json_text(ours, JSON_INDENT(1)), *b = json_text(theirs, JSON_INDENT(1));
    assert_string_equal(a, b);
}

static void it_is_valid(void **state) {
    (void)state;
    cleanup_json json_t *spec = oci_spec_default();
    struct err e = ERR_INIT;
    if (oci_spec_validate(spec, &e) < 0)
        fail_msg("%s", e.msg);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_runc_writes_it),
        cmocka_unit_test(it_is_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
