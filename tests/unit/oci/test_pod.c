/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/pod.h"
#include "support.h"

#define TYPE "io.kubernetes.cri.container-type"
#define ID "io.kubernetes.cri.sandbox-id"

static void roles(void **state) {
    (void)state;
    static const struct {
        const char *spec;
        enum oci_pod_role role;
        const char *id;
    } cases[] = {
        {"{}", OCI_POD_NONE, NULL},
        {"{\"annotations\":null}", OCI_POD_NONE, NULL},
        {"{\"annotations\":{}}", OCI_POD_NONE, NULL},
        /* without a type an id says nothing */
        {"{\"annotations\":{\"" ID "\":\"../x\"}}", OCI_POD_NONE, NULL},
        {"{\"annotations\":{\"" TYPE "\":\"sandbox\"}}", OCI_POD_SANDBOX, NULL},
        {"{\"annotations\":{\"" TYPE "\":\"sandbox\",\"" ID "\":\"p1\"}}", OCI_POD_SANDBOX, "p1"},
        {"{\"annotations\":{\"" TYPE "\":\"container\",\"" ID "\":\"p1\"}}", OCI_POD_MEMBER, "p1"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_json json_t *spec = json_loads(cases[i].spec, 0, NULL);
        struct oci_pod pod;
        memset(&pod, 0xff, sizeof(pod));
        struct err e = ERR_INIT;
        if (oci_pod_role(spec, &pod, &e) != 0)
            fail_msg("%s: %s", cases[i].spec, e.msg);
        assert_int_equal(pod.role, cases[i].role);
        if (cases[i].id)
            assert_string_equal(pod.sandbox_id, cases[i].id);
        else
            assert_null(pod.sandbox_id);
    }
}

static void mistakes(void **state) {
    (void)state;
    static const struct {
        const char *annotations, *message;
    } cases[] = {
        {"[]", "annotations: must be an object"},
        {"{\"" TYPE "\":1}", "annotations." TYPE ": must be a string"},
        {"{\"" TYPE "\":\"\"}", "annotations." TYPE ": must be sandbox or container, not \"\""},
        {"{\"" TYPE "\":\"Sandbox\"}", "annotations." TYPE ": must be sandbox or container, not \"Sandbox\""},
        {"{\"" TYPE "\":\"container\"}", "annotations." ID ": is missing, and the container is a pod's"},
        {"{\"" TYPE "\":\"container\",\"" ID "\":1}", "annotations." ID ": must be a string"},
        {"{\"" TYPE "\":\"container\",\"" ID "\":\"\"}", NULL},
        {"{\"" TYPE "\":\"container\",\"" ID "\":\"..\"}", NULL},
        {"{\"" TYPE "\":\"container\",\"" ID "\":\"../p1\"}",
         "annotations." ID ": invalid sandbox id \"../p1\": only letters, digits, _ + - . are allowed, and no leading "
         "-"},
        {"{\"" TYPE "\":\"sandbox\",\"" ID "\":\"a,b=c\"}", NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_free char *text = str_printf("{\"annotations\":%s}", cases[i].annotations);
        cleanup_json json_t *spec = json_loads(text, 0, NULL);
        struct oci_pod pod = {.role = OCI_POD_NONE, .sandbox_id = "untouched"};
        struct err e = ERR_INIT;
        if (oci_pod_role(spec, &pod, &e) != -EINVAL)
            fail_msg("accepted: %s", text);
        assert_int_equal(e.code, EINVAL);
        if (cases[i].message)
            assert_string_equal(e.msg, cases[i].message);
        assert_string_equal(pod.sandbox_id, "untouched");
        assert_int_equal(oci_pod_role(spec, &pod, NULL), -EINVAL);
    }
}

static void the_id_has_a_bound(void **state) {
    (void)state;
    for (size_t n = ID_MAX; n <= ID_MAX + 1; n++) {
        char id[ID_MAX + 2] = "";
        memset(id, 'a', n);
        cleanup_json json_t *spec = json_pack("{s:{s:s,s:s}}", "annotations", TYPE, "container", ID, id);
        struct oci_pod pod;
        assert_int_equal(oci_pod_role(spec, &pod, NULL), n == ID_MAX ? 0 : -EINVAL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roles),
        cmocka_unit_test(mistakes),
        cmocka_unit_test(the_id_has_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
