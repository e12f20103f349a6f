/* SPDX-License-Identifier: Apache-2.0 */
/* The namespaces of a pod's member: oci_spec_for_pod(). */
#include "support.h"

#define POD_PID 4242
#define KEPT OCI_GUEST_NAMESPACES "/sandbox-1/"

/* Entries of linux.namespaces with a path. */
#define NS(type, path) "{\"type\":\"" type "\",\"path\":\"" path "\"}"
#define OWN(type) "{\"type\":\"" type "\"}"
#define ADDED OWN("cgroup") /* always the container's own */
#define OTHERS OWN("mount") "," OWN("uts")

static int rewrite(const struct tmpdir *t, const char *namespaces, const struct oci_pod_host *pod,
                   struct oci_guest_spec *g, struct err *err) {
    cleanup_json json_t *spec =
        changed_spec((const struct change[CHANGES_MAX]){{"linux.namespaces", namespaces}}, t->path);
    cleanup_json json_t *before = json_deep_copy(spec);
    int r = oci_spec_for_pod(spec, "m1", t->path, pod, g, err);
    assert_true(json_equal(spec, before));
    return r;
}

static const struct oci_pod_host pod = {.sandbox_id = "sandbox-1", .pid = POD_PID};

static void joins(void **state) {
    static const struct {
        const char *namespaces, *out;
    } cases[] = {
        /* Any path of a network is the pod's: there is one network in the VM. */
        {"[" OTHERS "," NS("network", "/var/run/netns/cni-1") "]",
         "[" OTHERS "," NS("network", KEPT "net") "," ADDED "]"},
        {"[" OTHERS "," NS("network", "/proc/4242/ns/net") "]", "[" OTHERS "," NS("network", KEPT "net") "," ADDED "]"},
        {"[" OWN("mount") "," OWN("network") "," NS("ipc", "/proc/4242/ns/ipc") "," NS(
             "uts", "/proc/4242/ns/uts") "," NS("pid", "/proc/4242/ns/pid") "]",
         "[" OWN("mount") "," OWN("network") "," NS("ipc", KEPT "ipc") "," NS("uts", KEPT "uts") "," NS(
             "pid", KEPT "pid") "," ADDED "]"},
        /* Its own. */
        {"[" OTHERS "," OWN("network") "," OWN("ipc") "," OWN("pid") "]",
         "[" OTHERS "," OWN("network") "," OWN("ipc") "," OWN("pid") "," ADDED "]"},
        {"[" OTHERS "," OWN("network") "," NS("pid", "") "]",
         "[" OTHERS "," OWN("network") "," OWN("pid") "," ADDED "]"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_guest_spec struct oci_guest_spec g = {0};
        struct err err = ERR_INIT;
        if (rewrite(*state, cases[i].namespaces, &pod, &g, &err) < 0)
            fail_msg("%s: %s", cases[i].namespaces, err.msg);
        cleanup_free char *out =
            json_dumps(json_object_get(json_object_get(g.spec, "linux"), "namespaces"), JSON_COMPACT);
        assert_string_equal(out, cases[i].out);
        for (size_t k = 0; k < g.notes.n; k++)
            assert_null(strstr(g.notes.v[k], "namespaces[")); /* nothing was ignored */
    }
}

static void refusals(void **state) {
    static const struct {
        const char *namespaces, *says;
    } cases[] = {
        {"[" OTHERS "," OWN("network") "," NS("ipc", "/proc/1/ns/ipc") "]", "namespaces[3].path: a ipc namespace"},
        {"[" OTHERS "," OWN("network") "," NS("pid", "/proc/42421/ns/pid") "]", "namespaces[3].path: a pid namespace"},
        {"[" OTHERS "," OWN("network") "," NS("pid", "/proc/4242/ns/ipc") "]", "namespaces[3].path: a pid namespace"},
        {"[" OTHERS "," OWN("network") "," NS("pid", "/proc/4242/ns/pid/") "]", "namespaces[3].path"},
        {"[" OTHERS "," OWN("network") "," NS("ipc", "/proc/4242/task/4242/ns/ipc") "]", "namespaces[3].path"},
        {"[" OTHERS "," OWN("network") "," NS("ipc", "../ns/ipc") "]", "namespaces[3].path"},
        /* These are not a pod's to share. */
        {"[" OWN("uts") "," OWN("network") "," NS("mount", "/proc/4242/ns/mnt") "]", "namespaces[2].path"},
        {"[" OTHERS "," OWN("network") "," NS("cgroup", "/proc/4242/ns/cgroup") "]", "namespaces[3].path"},
        {"[" OTHERS "," OWN("network") "," NS("user", "/proc/4242/ns/user") "]", "namespaces[3].path"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct oci_guest_spec g = {0};
        struct err err = ERR_INIT;
        int r = rewrite(*state, cases[i].namespaces, &pod, &g, &err);
        if (r != -EOPNOTSUPP)
            fail_msg("%s: %d: %s", cases[i].namespaces, r, err.msg);
        if (!strstr(err.msg, cases[i].says))
            fail_msg("\"%s\" does not say \"%s\"", err.msg, cases[i].says);
        assert_null(g.spec);
    }
}

/* Of no pod: a path of the network is noted, others are refused, also that of the process itself. */
static void without_a_pod(void **state) {
    cleanup_guest_spec struct oci_guest_spec g = {0};
    struct err err = ERR_INIT;
    assert_int_equal(rewrite(*state, "[" OTHERS "," NS("network", "/var/run/netns/x") "]", NULL, &g, &err), 0);
    cleanup_free char *out = json_dumps(json_object_get(json_object_get(g.spec, "linux"), "namespaces"), JSON_COMPACT);
    assert_string_equal(out, "[" OTHERS "," OWN("network") "," ADDED "]");
    assert_true(g.notes.n > 0);
    assert_non_null(strstr(g.notes.v[0], "/var/run/netns/x"));
    struct oci_guest_spec none = {0};
    assert_int_equal(
        rewrite(*state, "[" OTHERS "," OWN("network") "," NS("ipc", "/proc/4242/ns/ipc") "]", NULL, &none, &err),
        -EOPNOTSUPP);
}

static void a_network_of_the_agents(void **state) {
    const struct tmpdir *t = *state;
    static const struct {
        struct change changes[CHANGES_MAX];
        bool always;
        int made;
        const char *network;
    } cases[] = {
        {{{0}}, false, 1, NS("network", OCI_GUEST_NAMESPACES "/m1/net")},
        /* The host's path has gone before. */
        {{{"linux.namespaces.1.path", "\"/run/netns/n1\""}}, false, 1, NS("network", OCI_GUEST_NAMESPACES "/m1/net")},
        {{{"process.capabilities.bounding.+", "\"CAP_NET_ADMIN\""}}, false, 0, OWN("network")},
        {{{"process.capabilities.bounding.+", "\"CAP_NET_ADMIN\""}},
         true,
         1,
         NS("network", OCI_GUEST_NAMESPACES "/m1/net")},
        {{{"process.capabilities", NULL}}, false, 0, OWN("network")},
        {{{"linux.namespaces.+", "{\"type\":\"user\"}"},
          {"linux.uidMappings.+", "{\"containerID\":0,\"hostID\":0,\"size\":65536}"}},
         false,
         0,
         OWN("network")},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_json json_t *spec = changed_spec(cases[i].changes, t->path);
        cleanup_guest_spec struct oci_guest_spec g = {0};
        struct err err = ERR_INIT;
        if (oci_spec_for_guest(spec, "m1", t->path, &g, &err) < 0)
            fail_msg("%zu: %s", i, err.msg);
        assert_int_equal(oci_guest_make_network(&g, "m1", cases[i].always, &err), cases[i].made);
        const json_t *list = json_object_get(json_object_get(g.spec, "linux"), "namespaces");
        cleanup_free char *out = json_dumps(json_array_get(list, 1), JSON_COMPACT);
        assert_string_equal(out, cases[i].network);
    }
    /* The pod's stays the pod's. */
    cleanup_guest_spec struct oci_guest_spec g = {0};
    struct err err = ERR_INIT;
    assert_int_equal(rewrite(t, "[" OTHERS "," NS("network", "/proc/4242/ns/net") "]", &pod, &g, &err), 0);
    assert_int_equal(oci_guest_make_network(&g, "m1", true, &err), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        BUNDLE_TEST(a_network_of_the_agents),
        BUNDLE_TEST(joins),
        BUNDLE_TEST(refusals),
        BUNDLE_TEST(without_a_pod),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
