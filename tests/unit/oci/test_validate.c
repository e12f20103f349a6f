/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

static void refusals(void **state) {
    static const struct refusal cases[] = {
        {{{"ociVersion", NULL}}, -EINVAL, "ociVersion: is missing"},
        {{{"ociVersion", "1"}}, -EINVAL, "ociVersion: must be a string"},
        {{{"ociVersion", "\"2.0.0\""}}, -EINVAL, "ociVersion: unsupported version \"2.0.0\"; stasis knows 1.x"},
        {{{"ociVersion", "\"\""}}, -EINVAL, "ociVersion: unsupported version \"\"; stasis knows 1.x"},
        {{{"ociVersion", "\"1.\""}}, -EINVAL, "ociVersion: unsupported version \"1.\"; stasis knows 1.x"},
        {{{"ociVersion", "\"1x0\""}}, -EINVAL, "ociVersion: unsupported version \"1x0\"; stasis knows 1.x"},
        {{{"ociVersion", "\"10.0\""}}, -EINVAL, "ociVersion: unsupported version \"10.0\"; stasis knows 1.x"},
        {{{"root", NULL}}, -EINVAL, "root: is missing"},
        {{{"root", "\"rootfs\""}}, -EINVAL, "root: must be an object"},
        {{{"root.path", NULL}}, -EINVAL, "root.path: is missing"},
        {{{"root.path", "null"}}, -EINVAL, "root.path: is missing"},
        {{{"root.path", "\"\""}}, -EINVAL, "root.path: must not be empty"},
        {{{"root.readonly", "1"}}, -EINVAL, "root.readonly: must be true or false"},
        {{{"hostname", "1"}}, -EINVAL, "hostname: must be a string"},
        {{{"mounts", "{}"}}, -EINVAL, "mounts: must be an array"},
        {{{"mounts.2", "\"x\""}}, -EINVAL, "mounts[2]: must be an object"},
        {{{"annotations", "[]"}}, -EINVAL, "annotations: must be an object"},
        {{{"annotations", "{\"a\":1}"}}, -EINVAL, "annotations[\"a\"]: must be a string"},
        {{{"hooks", "[]"}}, -EINVAL, "hooks: must be an object"},
        {{{"hooks.prestart", "{}"}}, -EINVAL, "hooks.prestart: must be an array"},
        {{{"hooks.poststop.+", "{}"}}, -EINVAL, "hooks.poststop[0].path: is missing"},
        {{{"hooks.poststop.+", "{\"path\":\"bin/x\"}"}},
         -EINVAL,
         "hooks.poststop[0].path: must be an absolute path, not \"bin/x\""},
        {{{"hooks.prestart.+", "{\"path\":\"/x\",\"timeout\":0}"}},
         -EINVAL,
         "hooks.prestart[0].timeout: must be a whole number from 1 to 2147483647"},
        {{{"hooks.prestart.+", "{\"path\":\"/x\",\"args\":[1]}"}},
         -EINVAL,
         "hooks.prestart[0].args[0]: must be a string"},
        {{{"windows", "{}"}},
         -EOPNOTSUPP,
         "windows: this platform's section is not supported; only Linux containers are"},
        {{{"solaris", "{}"}},
         -EOPNOTSUPP,
         "solaris: this platform's section is not supported; only Linux containers are"},
        {{{"vm", "{\"kernel\":{\"path\":\"/x\"}}"}},
         -EOPNOTSUPP,
         "vm: this platform's section is not supported; only Linux containers are"},
        {{{"zos", "{}"}}, -EOPNOTSUPP, "zos: this platform's section is not supported; only Linux containers are"},
        {{{"freebsd", "{}"}},
         -EOPNOTSUPP,
         "freebsd: this platform's section is not supported; only Linux containers are"},
    };
    check_refusals(*state, cases, ARRAY_SIZE(cases));
}

static void versions(void **state) {
    (void)state;
    static const char *const good[] = {"1.0.0", "1.0.2-dev", "1.1.0", "1.2.1", "1.10.0+x"};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        cleanup_json json_t *spec = oci_spec_default();
        json_object_set_new(spec, "ociVersion", json_string(good[i]));
        assert_int_equal(oci_spec_validate(spec, NULL), 0);
    }
}

static void no_object_at_all(void **state) {
    (void)state;
    struct err e = ERR_INIT;
    assert_int_equal(oci_spec_validate(NULL, &e), -EINVAL);
    assert_string_equal(e.msg, "config.json: must be a JSON object");
}

static void hooks_have_a_bound(void **state) {
    (void)state;
    cleanup_json json_t *spec = oci_spec_default();
    json_t *list = json_array();
    json_object_set_new(spec, "hooks", json_pack("{s:o}", "poststart", list));
    for (int i = 0; i < OCI_HOOKS_MAX; i++)
        json_array_append_new(list, json_pack("{s:s}", "path", "/x"));
    struct err e = ERR_INIT;
    assert_int_equal(oci_spec_validate(spec, &e), 0);
    json_array_append_new(list, json_pack("{s:s}", "path", "/x"));
    assert_int_equal(oci_spec_validate(spec, &e), -EINVAL);
    assert_string_equal(e.msg, "hooks.poststart: more than 64 elements");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        BUNDLE_TEST(refusals),
        cmocka_unit_test(versions),
        cmocka_unit_test(no_object_at_all),
        cmocka_unit_test(hooks_have_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
