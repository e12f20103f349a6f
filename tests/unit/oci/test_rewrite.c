/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

static void refusals(void **state) {
    static const struct refusal cases[] = {
        {{{"root.path", "\"none\""}}, -ENOENT, "root.path: cannot use #/none: No such file or directory"},
        {{{"root.path", "\"/none/such\""}}, -ENOENT, "root.path: cannot use /none/such: No such file or directory"},
        {{{"root.path", "\"file\""}}, -ENOTDIR, "root.path: #/file is not a directory"},
        {{{"linux.namespaces.3", NULL}},
         -EINVAL,
         "hostname: cannot be set without a uts namespace in linux.namespaces"},
        {{{"linux.namespaces.3", NULL}, {"hostname", NULL}, {"domainname", "\"x\""}},
         -EINVAL,
         "domainname: cannot be set without a uts namespace in linux.namespaces"},
        {{{"hostname", "\"0123456789012345678901234567890123456789012345678901234567890123x\""}},
         -EINVAL,
         "hostname: longer than 64 bytes"},
        {{{"hooks.createContainer.+", "{\"path\":\"/bin/true\"}"}},
         -EOPNOTSUPP,
         "hooks.createContainer: cannot be run, the container's namespaces are in the guest and the hook is on the "
         "host; "
         "use createRuntime or startContainer"},
    };
    check_refusals(*state, cases, ARRAY_SIZE(cases));
}

static void rules(void **state) {
    static const struct rule cases[] = {
        {{{"ociVersion", "\"1.0.2-dev\""}}, "ociVersion", "\"1.1.0\""},
        {{{"root.readonly", "true"}}, "root", "{\"path\":\"/share/ctr1/rootfs\",\"readonly\":true}"},
        {{{"root", "{\"path\":\"#/rootfs\"}"}}, "root", "{\"path\":\"/share/ctr1/rootfs\",\"readonly\":false}"},
        {{{"domainname", "\"example\""}}, "domainname", "\"example\""},
        {{{"hostname", "\"\""}}, "hostname", NULL},
        {{{"annotations", "{\"run.oci.handler\":\"wasm\",\"a\":\"b\"}"}}, "annotations", NULL},
        {{{"future", "{\"x\":1}"}}, "future", NULL, "future: is not known to stasis, ignored"},
        {{{"future", "null"}}, "future", NULL},
        {{{"hooks", "{}"}}, "hooks", NULL},
        {{{"hooks", "{\"prestart\":[{\"path\":\"/a\"}],\"createRuntime\":[{\"path\":\"/a\"}],\"createContainer\":[],"
                    "\"poststart\":[{\"path\":\"/a\"}],\"poststop\":[{\"path\":\"/a\"}]}"}},
         "hooks",
         NULL},
        {{{"hooks", "{\"prestart\":[{\"path\":\"/a\"}],\"startContainer\":[{\"path\":\"/b\",\"args\":[\"b\",\"c\"],"
                    "\"env\":[\"X=1\"],\"timeout\":5,\"other\":1}]}"}},
         "hooks",
         "{\"startContainer\":[{\"args\":[\"b\",\"c\"],\"env\":[\"X=1\"],\"path\":\"/b\",\"timeout\":5}]}"},
    };
    check_rules(*state, cases, ARRAY_SIZE(cases));
}

static void the_host_side_of_the_root(void **state) {
    struct tmpdir *t = *state;
    cleanup_json json_t *spec = oci_spec_default();
    cleanup_guest_spec struct oci_guest_spec g = {0};
    assert_int_equal(oci_spec_for_guest(spec, "c", t->path, &g, NULL), 0);
    cleanup_free char *rootfs = tmpdir_path(t, "rootfs");
    assert_string_equal(g.rootfs, rootfs);
    assert_true(g.root_read_only);
    assert_int_equal(g.n_mounts, 0);
    oci_guest_spec_clear(&g);
    oci_guest_spec_clear(&g); /* twice is no harm */
}

/* They become directories in the share and in the cgroup tree. */
static void ids_are_checked(void **state) {
    struct tmpdir *t = *state;
    static const char *const bad[] = {"", "..", "a/b", "../../x", "a b"};
    cleanup_json json_t *spec = oci_spec_default();
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct oci_guest_spec g = {0};
        assert_int_equal(oci_spec_for_guest(spec, bad[i], t->path, &g, NULL), -EINVAL);
        assert_null(g.spec);
    }
}

static void bundles_are_checked(void **state) {
    (void)state;
    struct err e = ERR_INIT;
    struct oci_guest_spec g = {0};
    cleanup_json json_t *spec = oci_spec_default();
    assert_int_equal(oci_spec_for_guest(spec, "c", "rel", &g, &e), -EINVAL);
    assert_string_equal(e.msg, "bundle rel: must be an absolute path in UTF-8");
    assert_int_equal(oci_spec_for_guest(spec, "c", "/x\xff", &g, &e), -EINVAL);
}

static void notes_have_a_bound(void **state) {
    struct tmpdir *t = *state;
    cleanup_json json_t *spec = oci_spec_default();
    for (int i = 0; i < 10000; i++) {
        char key[16];
        snprintf(key, sizeof(key), "k%d", i);
        json_object_set_new(spec, key, json_true());
    }
    cleanup_guest_spec struct oci_guest_spec g = {0};
    assert_int_equal(oci_spec_for_guest(spec, "c", t->path, &g, NULL), 0);
    assert_int_equal(g.notes.n, 257);
    assert_string_equal(g.notes.v[256], "more was left out than can be listed");
}

/* What the engines really write (tests/fixtures); @DIR@ stands for the bundle. */
static json_t *fixture(const struct tmpdir *t, const char *name) {
    cleanup_free char *path = str_printf("%s/%s", FIXTURES, name), *text = NULL;
    struct err e = ERR_INIT;
    if (file_read_at(AT_FDCWD, path, 1 << 20, &text, NULL, &e) < 0)
        fail_msg("%s", e.msg);
    size_t size = strlen(text) * 2 + 1, n = 0;
    cleanup_free char *out = malloc(size);
    for (const char *p = text; *p;) {
        bool dir = strncmp(p, "@DIR@", 5) == 0;
        n += (size_t)snprintf(out + n, size - n, "%.*s", dir ? 64 : 1, dir ? t->path : p);
        p += dir ? 5 : 1;
    }
    json_t *v = NULL;
    if (json_parse(name, out, n, &v, &e) < 0)
        fail_msg("%s", e.msg);
    return v;
}

static void rewrite_fixture(const struct tmpdir *t, const char *name, struct oci_guest_spec *g) {
    struct err e = ERR_INIT;
    cleanup_json json_t *spec = fixture(t, name);
    if (oci_spec_for_guest(spec, "ctr1", t->path, g, &e) < 0)
        fail_msg("%s: %s", name, e.msg);
    assert_null(json_object_get(g->spec, "annotations"));
    cleanup_free char *text = json_text(g->spec, JSON_COMPACT);
    if (strstr(text, t->path))
        fail_msg("%s: a path of the host reaches the guest: %s", name, text);
}

static json_t *of_guest(const struct oci_guest_spec *g, const char *a, const char *b) {
    return json_object_get(json_object_get(g->spec, a), b);
}

static void runc_spec(void **state) {
    cleanup_guest_spec struct oci_guest_spec g = {0};
    rewrite_fixture(*state, "spec-runc.json", &g);
    assert_int_equal(g.notes.n, 0);
    assert_int_equal(g.n_mounts, 0);
    assert_true(g.terminal);
    assert_int_equal(json_array_size(json_object_get(g.spec, "mounts")), 7);
    assert_int_equal(json_array_size(of_guest(&g, "linux", "maskedPaths")), 10);
}

static void ctr_spec(void **state) {
    cleanup_guest_spec struct oci_guest_spec g = {0};
    rewrite_fixture(*state, "spec-ctr.json", &g);
    assert_int_equal(g.notes.n, 0);
    assert_int_equal(g.n_mounts, 1);
    assert_true(g.mounts[0].read_only && g.mounts[0].recursive);
    assert_int_equal(json_array_size(json_object_get(of_guest(&g, "linux", "resources"), "devices")), 4);
}

static void podman_spec(void **state) {
    cleanup_guest_spec struct oci_guest_spec g = {0};
    rewrite_fixture(*state, "spec-podman.json", &g);
    assert_int_equal(g.notes.n, 2);
    assert_string_equal(g.notes.v[0], "process.apparmorProfile: the guest has no AppArmor, ignored");
    assert_string_equal(g.notes.v[1],
                        "linux.namespaces[1].path: /run/netns/netns-5b1b7a0e is on the host, the container "
                        "gets loopback only, ignored");
    assert_int_equal(g.n_mounts, 6);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(of_guest(&g, "process", "rlimits"), 2), "hard")),
                     -1);
    assert_int_equal(json_array_size(json_object_get(of_guest(&g, "linux", "seccomp"), "syscalls")), 4);
}

static void cri_spec(void **state) {
    cleanup_guest_spec struct oci_guest_spec g = {0};
    rewrite_fixture(*state, "spec-cri.json", &g);
    static const char *const notes[] = {
        "process.selinuxLabel: the guest has no SELinux, ignored",
        "linux.mountLabel: the guest has no SELinux, ignored",
        "linux.namespaces[4].path: /var/run/netns/cni-1 is on the host, the container gets loopback only, ignored",
        "linux.resources.cpu.cpus: its numbers mean the host's CPUs, ignored",
    };
    assert_int_equal(g.notes.n, ARRAY_SIZE(notes));
    for (size_t i = 0; i < ARRAY_SIZE(notes); i++)
        assert_string_equal(g.notes.v[i], notes[i]);
    assert_int_equal(g.n_mounts, 2);
    assert_int_equal(json_array_size(json_object_get(of_guest(&g, "linux", "resources"), "hugepageLimits")), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        BUNDLE_TEST(refusals),
        BUNDLE_TEST(rules),
        BUNDLE_TEST(the_host_side_of_the_root),
        BUNDLE_TEST(ids_are_checked),
        cmocka_unit_test(bundles_are_checked),
        BUNDLE_TEST(notes_have_a_bound),
        BUNDLE_TEST(runc_spec),
        BUNDLE_TEST(ctr_spec),
        BUNDLE_TEST(podman_spec),
        BUNDLE_TEST(cri_spec),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
