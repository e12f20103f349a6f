/* SPDX-License-Identifier: Apache-2.0 */
/* The containers of a pod, in the VM of its sandbox container. Needs root: the share is mounted for real. */
#include "task_calls.h"

#define NS_DIR "/run/stasis/ns/c1"

static int setup(void **state) {
    if (daemon_setup(state) < 0)
        return -1;
    struct daemon *d = *state;
    d->s.namespace = "k8s.io";
    return mkdirat(d->dir->fd, "member", 0700) | mkdirat(d->dir->fd, "member/rootfs", 0755);
}

/* Writes the config.json of this bundle as the CRI plugin does; namespaces: JSON, of the spec's list, NULL: the
 * default's. */
static void write_pod_spec(struct daemon *d, const char *bundle, const char *type, const char *sandbox_id,
                           const char *namespaces) {
    cleanup_json json_t *spec = oci_spec_default();
    cleanup_free char *file = str_printf("%s/config.json", bundle);
    json_t *annotations =
        json_pack("{s:s, s:s*}", "io.kubernetes.cri.container-type", type, "io.kubernetes.cri.sandbox-id", sandbox_id);
    assert_int_equal(json_object_set_new(json_object_get(spec, "process"), "terminal", json_false()), 0);
    assert_int_equal(json_object_set_new(spec, "annotations", annotations), 0);
    if (namespaces) {
        json_t *list = json_loads(namespaces, 0, NULL);
        assert_non_null(list);
        assert_int_equal(json_object_set_new(json_object_get(spec, "linux"), "namespaces", list), 0);
    }
    cleanup_free char *doc = json_text(spec, JSON_COMPACT);
    tmpdir_write(d->dir, file, doc);
}

static int create_member(struct daemon *d, const char *id) {
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    cleanup_free char *bundle = tmpdir_path(d->dir, "member");
    req.id = text(id);
    req.bundle = bundle;
    return daemon_call(d, "Create", &req.base, NULL);
}

/* The path of this namespace in the spec that the agent got; "" if it is one of its own, NULL if there is none. */
static const char *guest_namespace(const json_t *spec, const char *type) {
    size_t i;
    const json_t *ns;
    json_array_foreach(json_object_get(json_object_get(spec, "linux"), "namespaces"), i, ns) {
        const char *path = json_string_value(json_object_get(ns, "path"));
        if (strcmp(json_string_value(json_object_get(ns, "type")), type) == 0)
            return path ? path : "";
    }
    return NULL;
}

static json_t *agent_spec(void) {
    assert_non_null(the_agent()->spec);
    json_t *spec = json_loads(the_agent()->spec, 0, NULL);
    assert_non_null(spec);
    return spec;
}

static void create_sandbox(struct daemon *d) {
    write_pod_spec(d, "bundle", "sandbox", "c1",
                   "[{\"type\":\"pid\"},{\"type\":\"ipc\"},{\"type\":\"uts\"},{\"type\":\"mount\"},"
                   "{\"type\":\"network\",\"path\":\"/proc/self/ns/net\"}]");
    create(d);
}

static void test_sandbox_and_member(void **state) {
    struct daemon *d = *state;
    create_sandbox(d);
    assert_true(the_agent()->pin_namespaces);
    cleanup_json json_t *spec = agent_spec();
    assert_string_equal(guest_namespace(spec, "network"), "");
    assert_string_equal(guest_namespace(spec, "ipc"), "");
    must(d, "Start", "");

    /* containerd has these paths from the pid that it was given: the monitor's. */
    cleanup_free char *namespaces =
        str_printf("[{\"type\":\"pid\"},{\"type\":\"mount\"},{\"type\":\"ipc\",\"path\":\"/proc/%d/ns/ipc\"},"
                   "{\"type\":\"uts\",\"path\":\"/proc/%d/ns/uts\"},"
                   "{\"type\":\"network\",\"path\":\"/proc/self/ns/net\"}]",
                   (int)monitor_of(d, "c1"), (int)monitor_of(d, "c1"));
    write_pod_spec(d, "member", "container", "c1", namespaces);
    if (create_member(d, "m1") < 0)
        fail_msg("%s", d->err.msg);
    assert_int_equal(fake_vm.n_started, 1);
    assert_int_equal(sandbox_count(d->s.sb), 2);
    assert_false(the_agent()->pin_namespaces);
    cleanup_json json_t *member = agent_spec();
    assert_string_equal(guest_namespace(member, "network"), NS_DIR "/net");
    assert_string_equal(guest_namespace(member, "ipc"), NS_DIR "/ipc");
    assert_string_equal(guest_namespace(member, "uts"), NS_DIR "/uts");
    assert_string_equal(guest_namespace(member, "pid"), "");
    assert_string_equal(guest_namespace(member, "mount"), "");
}

/* shareProcessNamespace of the pod. */
static void test_shared_pids(void **state) {
    struct daemon *d = *state;
    create_sandbox(d);
    cleanup_free char *namespaces =
        str_printf("[{\"type\":\"pid\",\"path\":\"/proc/%d/ns/pid\"},{\"type\":\"mount\"},{\"type\":\"uts\"},"
                   "{\"type\":\"network\",\"path\":\"/proc/%d/ns/net\"}]",
                   (int)monitor_of(d, "c1"), (int)monitor_of(d, "c1"));
    write_pod_spec(d, "member", "container", "c1", namespaces);
    if (create_member(d, "m1") < 0)
        fail_msg("%s", d->err.msg);
    cleanup_json json_t *member = agent_spec();
    assert_string_equal(guest_namespace(member, "pid"), NS_DIR "/pid");
    assert_string_equal(guest_namespace(member, "network"), NS_DIR "/net");
}

static void test_another_pid(void **state) {
    struct daemon *d = *state;
    create_sandbox(d);
    write_pod_spec(d, "member", "container", "c1",
                   "[{\"type\":\"pid\",\"path\":\"/proc/1/ns/pid\"},{\"type\":\"mount\"},{\"type\":\"uts\"},"
                   "{\"type\":\"network\"}]");
    assert_int_equal(create_member(d, "m1"), -ENOSYS);
    ASSERT_SAYS(&d->err, "linux.namespaces[0].path");
    assert_int_equal(sandbox_count(d->s.sb), 1);
}

static void test_unknown_sandbox(void **state) {
    struct daemon *d = *state;
    write_pod_spec(d, "member", "container", "c9", NULL);
    assert_int_equal(create_member(d, "m1"), -ENOENT);
    ASSERT_SAYS(&d->err, "c9");
    ASSERT_SAYS(&d->err, "m1");
    create_sandbox(d);
    assert_int_equal(create_member(d, "m1"), -ENOENT);
    assert_int_equal(sandbox_count(d->s.sb), 1);
    assert_int_equal(fake_vm.n_started, 1);
}

static void test_bad_annotations(void **state) {
    struct daemon *d = *state;
    write_pod_spec(d, "member", "pause", "c1", NULL);
    assert_int_equal(create_member(d, "m1"), -EINVAL);
    ASSERT_SAYS(&d->err, "io.kubernetes.cri.container-type");
    write_pod_spec(d, "member", "container", NULL, NULL);
    assert_int_equal(create_member(d, "m1"), -EINVAL);
    ASSERT_SAYS(&d->err, "io.kubernetes.cri.sandbox-id");
    write_pod_spec(d, "member", "container", "../x", NULL);
    assert_int_equal(create_member(d, "m1"), -EINVAL);
    assert_int_equal(sandbox_count(d->s.sb), 0);
    assert_int_equal(fake_vm.n_started, 0);
}

/* The size is the pod's: a member may repeat it, not change it. */
static void test_size_of_a_member(void **state) {
    struct daemon *d = *state;
    static const struct {
        const char *memory;
        int result;
    } cases[] = {{"192M", -EINVAL}, {"256M", 0}};
    d->config.memory = UINT64_C(256) << 20;
    create_sandbox(d);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_json json_t *spec = NULL;
        write_pod_spec(d, "member", "container", "c1", NULL);
        cleanup_free char *bundle = tmpdir_path(d->dir, "member");
        assert_int_equal(oci_spec_load(bundle, &spec, &d->err), 0);
        json_t *annotations = json_object_get(spec, "annotations");
        assert_int_equal(json_object_set_new(annotations, "io.stasis.vm.memory", json_string(cases[i].memory)), 0);
        cleanup_free char *doc = json_text(spec, JSON_COMPACT);
        tmpdir_write(d->dir, "member/config.json", doc);
        int r = create_member(d, "m1");
        if (r != cases[i].result)
            fail_msg("%s: %d: %s", cases[i].memory, r, d->err.msg);
        if (r < 0)
            ASSERT_SAYS(&d->err, "io.stasis.vm.memory");
    }
}

/* For the CLI each container is its own, whatever its spec was copied from. */
static void test_no_pods_of_the_cli(void **state) {
    struct daemon *d = *state;
    d->s.namespace = NULL;
    write_pod_spec(d, "bundle", "sandbox", "c1", NULL);
    create(d);
    assert_false(the_agent()->pin_namespaces);
}

/* The pause container may go first: the others stay, and the daemon with them. */
static void test_sandbox_goes_first(void **state) {
    struct daemon *d = *state;
    Containerd__Task__V2__ShutdownRequest req = CONTAINERD__TASK__V2__SHUTDOWN_REQUEST__INIT;
    int code;
    create_sandbox(d);
    write_pod_spec(d, "member", "container", "c1", NULL);
    assert_int_equal(create_member(d, "m1"), 0);
    must(d, "Delete", "");
    req.id = text("c1");
    assert_int_equal(daemon_call(d, "Shutdown", &req.base, NULL), 0);
    assert_true(sd_event_get_exit_code(d->event, &code) < 0);
    assert_int_equal(sandbox_count(d->s.sb), 1);
    assert_int_equal(create_member(d, "m2"), -ENOENT);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, daemon_teardown)

int main(void) {
    if (!own_mounts())
        return EXIT_SKIPPED;
    const struct CMUnitTest tests[] = {
        TEST(test_sandbox_and_member), TEST(test_shared_pids),        TEST(test_another_pid),
        TEST(test_unknown_sandbox),    TEST(test_bad_annotations),    TEST(test_size_of_a_member),
        TEST(test_no_pods_of_the_cli), TEST(test_sandbox_goes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
