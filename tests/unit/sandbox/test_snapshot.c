/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot.c and snapshot_restore.c: a container out of a manifest and into one again; what a manifest from elsewhere
 * may not bring about. Needs root: roots are mounted for real, in a mount namespace of its own. No VM comes up: there
 * is nothing in the VMM root.
 */
#include "sandbox/snapshot.h"
#include "support.h"

#include "base/path.h"
#include "sandbox/container_impl.h"
#include "sandbox/sandbox_impl.h"

#define MEMORY ((uint64_t)256 << 20)

struct fixture {
    struct tmpdir *tmp;
    char *base; /* a tmpfs */
    sd_event *event;
    struct config config;
    json_t *spec;    /* of the bundle */
    json_t *state;   /* of the manifest's entry */
    char *mounts[2]; /* that the request names */
    size_t n_mounts;
    struct sandbox *sb;
    struct err err;
};

static char *in(const struct fixture *f, const char *name) {
    char *path = path_join(f->base, name);
    assert_non_null(path);
    return path;
}

static void need_dir(const struct fixture *f, const char *name) {
    cleanup_free char *path = in(f, name);
    assert_int_equal(path_mkdirs(path, 0755, NULL), 0);
}

static json_t *parse(const char *text) {
    json_t *j = json_loads(text, 0, NULL);
    assert_non_null(j);
    return j;
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    void *tmp = NULL;
    if (tmpdir_setup(&tmp) < 0 || sd_event_new(&f->event) < 0)
        return -1;
    f->tmp = tmp;
    f->base = tmpdir_path(f->tmp, "base");
    if (mkdir(f->base, 0755) < 0 || mount("base", f->base, "tmpfs", 0, "size=16m,mode=755") < 0)
        return -1;
    static const char *const dirs[] = {"vmm/1111/root", "guest/aaaa",    "volume",
                                       "secret",        "bundle/rootfs", "store/one/roots/0"};
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        need_dir(f, dirs[i]);
    cleanup_free char *vmm = in(f, "vmm/1111/root"), *guest = in(f, "guest/aaaa"), *volume = in(f, "volume");
    config_init(&f->config);
    f->config.accel = ACCEL_TCG;
    f->config.memory = MEMORY;
    snprintf(f->config.vmm_root, sizeof(f->config.vmm_root), "%s", vmm);
    snprintf(f->config.guest_dir, sizeof(f->config.guest_dir), "%s", guest);
    f->spec = parse("{\"ociVersion\": \"1.0.2\", \"process\": {\"args\": [\"sh\"], \"cwd\": \"/\"},"
                    " \"root\": {\"path\": \"rootfs\"}, \"mounts\": [],"
                    " \"linux\": {\"namespaces\": [{\"type\": \"mount\"}, {\"type\": \"network\"}]}}");
    json_array_append_new(json_object_get(f->spec, "mounts"),
                          json_pack("{s:s, s:s, s:s, s:[s,s]}", "destination", "/volume", "type", "bind", "source",
                                    volume, "options", "rbind", "ro"));
    f->state = parse("{\"status\": \"running\", \"created\": 1700000000000000, \"pod_sandbox\": false,"
                     " \"root\": \"/elsewhere\", \"terminal\": false,"
                     " \"mounts\": [{\"index\": 0, \"source\": \"/etc\", \"read_only\": true, \"recursive\": true}],"
                     " \"processes\": [{\"exec_id\": \"\", \"pid\": 77, \"state\": \"running\", \"terminal\": false,"
                     "   \"stdin\": false, \"stdout\": true, \"stderr\": true, \"width\": 0, \"height\": 0},"
                     "  {\"exec_id\": \"e1\", \"pid\": 78, \"state\": \"running\", \"terminal\": true,"
                     "   \"stdin\": true, \"stdout\": true, \"stderr\": false, \"width\": 80, \"height\": 24},"
                     "  {\"exec_id\": \"e2\", \"pid\": 79, \"state\": \"exited\", \"terminal\": false,"
                     "   \"stdin\": false, \"stdout\": true, \"stderr\": true, \"width\": 0, \"height\": 0,"
                     "   \"exit\": {\"status\": 3, \"time\": 1700000000000001, \"oom\": false}}]}");
    f->mounts[0] = f->mounts[1] = TAKE_PTR(volume);
    f->n_mounts = 1;
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    void *tmp = f->tmp;
    f->sb = sandbox_free(f->sb);
    int left = (int)count_mounts(f->base) - 1;
    (void)umount2(f->base, MNT_DETACH);
    json_decref(f->spec);
    json_decref(f->state);
    free(f->mounts[0]);
    sd_event_unref(f->event);
    free(f->base);
    free(f);
    return tmpdir_teardown(&tmp) < 0 || left ? -1 : 0;
}

/* The manifest is for this machine. */
static void write_snapshot(struct fixture *f) {
    cleanup_manifest struct manifest m = {.name = strdup("one"),
                                          .sandbox_id = strdup("box"),
                                          .stasis_version = strdup("1"),
                                          .containers = calloc(1, sizeof(struct manifest_container)),
                                          .n_containers = 1};
    cleanup_machine struct machine machine = {0};
    struct err err = ERR_INIT;
    assert_int_equal(machine_here(&f->config, &machine, &err), 0);
    m.machine = machine.made;
    machine.made = (struct manifest_machine){0};
    m.containers[0] = (struct manifest_container){
        .id = strdup("box"), .guest_id = strdup("g1"), .spec = json_deep_copy(f->spec), .state = json_incref(f->state)};
    assert_int_equal(memory_image_new(MEMORY, &m.memory, &err), 0);
    cleanup_free char *dir = in(f, "store/one"), *store = in(f, "store");
    cleanup_fd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    (void)unlinkat(fd, MANIFEST_FILE, 0);
    if (manifest_write(fd, &m, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(chmod(store, 0700), 0);
}

static void write_bundle(struct fixture *f) {
    cleanup_free char *path = in(f, "bundle/config.json");
    assert_int_equal(json_dump_file(f->spec, path, 0), 0);
}

static void on_done(void *userdata, const struct err *err) {
    (void)userdata;
    (void)err;
}

/* Returns what snapshot_restore() does, up to the VM, which cannot start. */
static int restore(struct fixture *f) {
    cleanup_free char *store = in(f, "store"), *bundle = in(f, "bundle"), *dir = in(f, "box");
    need_dir(f, "box");
    f->sb = sandbox_free(f->sb);
    const struct sandbox_spec spec = {.id = "new", .dir = dir, .config = &f->config, .host = HOST_NAMESPACES_NONE};
    const struct snapshot_container to = {.id = "new", .bundle = bundle, .mounts = f->mounts, .n_mounts = f->n_mounts};
    const struct snapshot_restore_spec what = {.store = store, .name = "one", .containers = &to, .n_containers = 1};
    f->err = (struct err)ERR_INIT;
    assert_int_equal(sandbox_new(f->event, &spec, &f->sb, &f->err), 0);
    return snapshot_restore(f->sb, &what, on_done, f, &f->err);
}

static void refused(struct fixture *f, const char *word) {
    write_snapshot(f);
    assert_true(restore(f) < 0);
    ASSERT_SAYS(&f->err, word);
    ASSERT_SAYS(&f->err, "one");
}

static struct container *restored(struct fixture *f) {
    write_snapshot(f);
    write_bundle(f);
    if (restore(f) < 0)
        ASSERT_SAYS(&f->err, "cannot start the VM");
    struct container *c = sandbox_find(f->sb, "new");
    assert_non_null(c);
    return c;
}

static void there_and_back(void **state) {
    struct fixture *f = *state;
    struct manifest_container out = {0};
    struct err err = ERR_INIT;
    cleanup_free char *root = NULL;
    struct container *c = restored(f);
    assert_string_equal(container_guest_id(c), "g1");
    if (snapshot_describe_container(c, &out, &root, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(out.id, "new");
    assert_string_equal(out.guest_id, "g1");
    /* What stands on our own layers is copied whole. */
    assert_int_equal(out.root.lowers.n, 0);
    assert_string_equal(root, c->rootfs);
    static const char *const same[] = {"status", "created", "pod_sandbox", "terminal"};
    for (size_t i = 0; i < ARRAY_SIZE(same); i++)
        assert_true(json_equal(json_object_get(out.state, same[i]), json_object_get(f->state, same[i])));
    /* Execs come in any order. */
    const json_t *was = json_object_get(f->state, "processes"), *is = json_object_get(out.state, "processes");
    assert_int_equal(json_array_size(is), json_array_size(was));
    for (size_t i = 0; i < json_array_size(was); i++) {
        bool found = false;
        for (size_t k = 0; k < json_array_size(is); k++)
            found |= json_equal(json_array_get(was, i), json_array_get(is, k));
        if (!found)
            fail_msg("process %zu is not as it was", i);
    }
    free(out.id);
    free(out.guest_id);
    json_decref(out.spec);
    json_decref(out.state);
}

/* The manifest may name any path of the host: what is mounted is what the request says. */
static void mounts_are_the_requests(void **state) {
    struct fixture *f = *state;
    const struct container *c = restored(f);
    assert_int_equal(c->guest.n_mounts, 1);
    assert_string_equal(c->guest.mounts[0].source, f->mounts[0]);
    assert_true(c->guest.mounts[0].read_only);
}

/* So are the hooks, which run on the host. */
static void hooks_are_the_bundles(void **state) {
    struct fixture *f = *state;
    json_object_set_new(f->spec, "hooks", parse("{\"poststop\": [{\"path\": \"/bin/evil\"}]}"));
    write_snapshot(f);
    json_object_del(f->spec, "hooks");
    write_bundle(f);
    if (restore(f) < 0)
        ASSERT_SAYS(&f->err, "cannot start the VM");
    assert_null(json_object_get(sandbox_find(f->sb, "new")->spec, "hooks"));
}

static void mounts_that_do_not_fit(void **state) {
    struct fixture *f = *state;
    json_t *mounts = json_object_get(f->state, "mounts"), *mount = json_array_get(mounts, 0);
    write_bundle(f);
    json_object_set_new(mount, "index", json_integer(-1));
    refused(f, "state.mounts[0].index");
    json_object_set_new(mount, "index", json_integer(0));
    json_array_append(mounts, mount);
    refused(f, "has 2 mounts, 1 are named");
    f->n_mounts = 0;
    refused(f, "has 2 mounts, 0 are named");
    f->n_mounts = 1;
    json_array_clear(mounts);
    refused(f, "has 0 mounts, 1 are named");
    json_array_append_new(mounts, json_integer(1));
    refused(f, "state.mounts[0]: must be an object");
}

static void states_and_processes_that_there_cannot_be(void **state) {
    struct fixture *f = *state;
    json_t *list = json_object_get(f->state, "processes"), *init = json_array_get(list, 0);
    const json_t *good = json_deep_copy(f->state);
    write_bundle(f);
    json_object_set_new(f->state, "status", json_string("flying"));
    refused(f, "\"flying\" is no state");
    json_object_set(f->state, "status", json_object_get(good, "status"));
    json_object_set_new(init, "state", json_string("dancing"));
    refused(f, "processes[0].state");
    json_object_set_new(init, "state", json_string("exited"));
    refused(f, "processes[0]: has no exit");
    json_object_set_new(init, "exit", parse("{\"status\": 256, \"time\": 1}"));
    refused(f, "status");
    json_object_del(init, "exit");
    json_object_set_new(init, "state", json_string("running"));
    json_object_set_new(init, "pid", json_integer(-1));
    refused(f, "pid");
    json_object_set_new(init, "pid", json_integer(77));
    json_object_set_new(init, "exec_id", json_string("../x"));
    refused(f, "../x");
    json_object_set_new(init, "exec_id", json_string("e1"));
    refused(f, "there are two processes \"e1\"");
    json_object_set_new(init, "exec_id", json_string(""));
    json_array_append(list, init);
    refused(f, "there are two processes \"\"");
    json_array_clear(list);
    refused(f, "has no init");
    json_decref((json_t *)(uintptr_t)good);
}

static void what_it_stands_on_is_missing(void **state) {
    struct fixture *f = *state;
    write_bundle(f);
    cleanup_free char *store = in(f, "store"), *bundle = in(f, "bundle");
    const struct snapshot_container to[] = {{.id = "a", .bundle = bundle}, {.id = "b", .bundle = bundle}};
    struct snapshot_restore_spec what = {.store = store, .name = "two", .containers = to, .n_containers = 1};
    write_snapshot(f);
    assert_true(restore(f) < 0 || f->err.code == 0);
    assert_int_equal(snapshot_restore(f->sb, &what, on_done, f, &f->err), -EBUSY); /* it is no new sandbox */
    f->sb = sandbox_free(f->sb);
    cleanup_free char *dir = in(f, "box");
    const struct sandbox_spec spec = {.id = "new", .dir = dir, .config = &f->config, .host = HOST_NAMESPACES_NONE};
    need_dir(f, "box");
    f->err = (struct err)ERR_INIT;
    assert_int_equal(sandbox_new(f->event, &spec, &f->sb, &f->err), 0);
    assert_int_equal(snapshot_restore(f->sb, &what, on_done, f, &f->err), -ENOENT);
    ASSERT_SAYS(&f->err, "two");
    f->sb = sandbox_free(f->sb);
    what.name = "one";
    what.n_containers = 2;
    f->err = (struct err)ERR_INIT;
    assert_int_equal(sandbox_new(f->event, &spec, &f->sb, &f->err), 0);
    assert_int_equal(snapshot_restore(f->sb, &what, on_done, f, &f->err), -EINVAL);
    ASSERT_SAYS(&f->err, "has 1 containers, 2 are asked for");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(there_and_back),
        TEST(mounts_are_the_requests),
        TEST(hooks_are_the_bundles),
        TEST(mounts_that_do_not_fit),
        TEST(states_and_processes_that_there_cannot_be),
        TEST(what_it_stands_on_is_missing),
    };
    if (!own_mounts())
        return EXIT_SKIPPED;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
