/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/wait.h>

#include "base/proc.h"
#include "oci/state.h"
#include "support.h"

/* A sandbox of two containers whose daemon is this process. */
static struct oci_sandbox_state make_state(void) {
    struct oci_sandbox_state s = {
        .id = strdup("box1"), .daemon_pid = getpid(), .qemu_pid = 11, .virtiofsd_pid = 12, .n_containers = 2};
    assert_int_equal(proc_start_time(getpid(), &s.daemon_start), 0);
    s.containers = calloc(2, sizeof(*s.containers));
    s.containers[0] = (struct oci_container_state){.id = strdup("box1"),
                                                   .bundle = strdup("/b/\u20ac \"x\""),
                                                   .rootfs = strdup("/b/rootfs"),
                                                   .status = "running",
                                                   .pid = 77,
                                                   .created_wall_usec = UINT64_C(1767323045123456),
                                                   .owner = 0,
                                                   .annotations = json_pack("{s:s}", "a.b", "c"),
                                                   .cgroups_path = strdup("/stasis-test/box1"),
                                                   .scratch = strdup("/ck/.1.abcdef")};
    s.containers[1] = (struct oci_container_state){.id = strdup("ctr2"),
                                                   .bundle = strdup("/b2"),
                                                   .rootfs = strdup("/r2"),
                                                   .status = "stopped",
                                                   .exit_status = 3,
                                                   .owner = 4294967294U};
    return s;
}

static void write_state(const struct tmpdir *t, const struct oci_sandbox_state *s) {
    struct err e = ERR_INIT;
    if (oci_sandbox_state_save(t->path, s, &e) < 0)
        fail_msg("%s", e.msg);
}

static void round_trip(void **state) {
    struct tmpdir *t = *state;
    cleanup_sandbox_state struct oci_sandbox_state a = make_state(), b = {0};
    struct err e = ERR_INIT;
    write_state(t, &a);
    struct stat st;
    assert_int_equal(fstatat(t->fd, "state.json", &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    if (oci_sandbox_state_load(t->path, &b, &e) < 0)
        fail_msg("%s", e.msg);
    assert_true(oci_sandbox_daemon_alive(&b));
    assert_string_equal(b.id, a.id);
    assert_int_equal(b.daemon_pid, a.daemon_pid);
    assert_true(b.daemon_start == a.daemon_start);
    assert_int_equal(b.qemu_pid, 11);
    assert_int_equal(b.virtiofsd_pid, 12);
    assert_int_equal(b.n_containers, 2);
    for (size_t i = 0; i < 2; i++) {
        const struct oci_container_state *x = &a.containers[i], *y = &b.containers[i];
        assert_string_equal(x->id, y->id);
        assert_string_equal(x->bundle, y->bundle);
        assert_string_equal(x->rootfs, y->rootfs);
        assert_string_equal(x->status, y->status);
        assert_int_equal(x->pid, y->pid);
        assert_true(x->created_wall_usec == y->created_wall_usec);
        assert_int_equal(x->exit_status, y->exit_status);
        assert_true(x->owner == y->owner);
        assert_string_equal(x->cgroups_path ? x->cgroups_path : "", y->cgroups_path ? y->cgroups_path : "");
        assert_string_equal(x->scratch ? x->scratch : "", y->scratch ? y->scratch : "");
        assert_true(!x->annotations ? !y->annotations : json_equal(x->annotations, y->annotations));
    }
}

/* A pid alone would one day name another process. */
static void a_dead_daemon_means_stopped(void **state) {
    struct tmpdir *t = *state;
    static const char *const dead[] = {"pid reused", "pid gone", "no pid"};
    for (size_t i = 0; i < ARRAY_SIZE(dead); i++) {
        cleanup_sandbox_state struct oci_sandbox_state a = make_state(), b = {0};
        if (i == 0)
            a.daemon_start++;
        else
            a.daemon_pid = i == 1 ? 0x7ffffff0 : 0;
        write_state(t, &a);
        assert_int_equal(oci_sandbox_state_load(t->path, &b, NULL), 0);
        assert_false(oci_sandbox_daemon_alive(&b));
        assert_int_equal(b.qemu_pid, 11); /* they may still be dying */
        assert_int_equal(b.virtiofsd_pid, 12);
        assert_string_equal(b.containers[0].status, "stopped");
        assert_int_equal(b.containers[0].pid, 0);
        assert_int_equal(b.containers[0].exit_status, 137);
        assert_int_equal(b.containers[1].exit_status, 3);
    }
}

static void every_status_survives(void **state) {
    struct tmpdir *t = *state;
    static const char *const statuses[] = {"creating", "created", "running", "paused", "stopped"};
    for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
        cleanup_sandbox_state struct oci_sandbox_state a = make_state(), b = {0};
        a.containers[0].status = statuses[i];
        write_state(t, &a);
        assert_int_equal(oci_sandbox_state_load(t->path, &b, NULL), 0);
        assert_string_equal(b.containers[0].status, statuses[i]);
    }
}

/* One change to a good file, as change_spec() takes it. */
static void damage(void **state) {
    struct tmpdir *t = *state;
    static const struct {
        const char *at, *json, *message;
    } cases[] = {
        {"id", NULL, " id: is missing"},
        {"id", "5", "id: must be a string"},
        {"id", "\"../x\"", "invalid sandbox id"},
        {"stasis", NULL, "stasis.daemonPid: is missing"},
        {"stasis", "[]", "stasis: must be an object"},
        {"stasis.daemonPid", "-1", "stasis.daemonPid: must be a whole number from 0 to 2147483647"},
        {"stasis.daemonPid", "4294967296", "stasis.daemonPid: must be"},
        {"stasis.daemonStart", "\"x\"", "stasis.daemonStart: must be"},
        {"stasis.qemuPid", "1.5", "stasis.qemuPid: must be"},
        {"stasis.virtiofsdPid", NULL, "stasis.virtiofsdPid: is missing"},
        {"containers", "{}", "containers: must be an array"},
        {"containers.0", "1", "containers[0]: must be an object"},
        {"containers.1.id", "\"a/b\"", "invalid container id"},
        {"containers.1.id", NULL, "containers[1].id: is missing"},
        {"containers.1.bundle", NULL, "containers[1].bundle: is missing"},
        {"containers.1.rootfs", "1", "containers[1].rootfs: must be a string"},
        {"containers.1.status", "\"dancing\"", "containers[1].status: unknown status \"dancing\""},
        {"containers.1.status", "\"aaaaaaaaaaaaaaaaaaaaaaa\"", "containers[1].status: is too long"},
        {"containers.1.pid", "-5", "containers[1].pid: must be"},
        {"containers.1.stasis", NULL, "containers[1].stasis.created: is missing"},
        {"containers.1.stasis.created", "-1", "containers[1].stasis.created: must be"},
        {"containers.1.stasis.exitStatus", "4294967296", "containers[1].stasis.exitStatus: must be"},
        {"containers.1.stasis.owner", "4294967296", "containers[1].stasis.owner: must be"},
        {"containers.0.stasis.scratch", "7", "containers[0].stasis.scratch: must be a string"},
        {"containers.0.stasis.scratch", "\"/\"", "containers[0].stasis.scratch: is not the path"},
        {"containers.0.stasis.scratch", "\"/home\"", "containers[0].stasis.scratch: is not the path"},
        {"containers.0.stasis.scratch", "\"/x/../.y\"", "containers[0].stasis.scratch: is not the path"},
        {"containers.0.stasis.cgroupsPath", "[]", "containers[0].stasis.cgroupsPath: must be a string"},
        {"containers.0.annotations", "[]", "containers[0].annotations: must be an object"},
        {"containers.0.annotations", "{\"k\":1}", "containers[0].annotations[\"k\"]: must be a string"},
    };
    cleanup_sandbox_state struct oci_sandbox_state a = make_state();
    write_state(t, &a);
    cleanup_free char *path = tmpdir_path(t, "state.json");
    cleanup_json json_t *good = NULL;
    assert_int_equal(json_parse_file(path, &good, NULL), 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_json json_t *bad = json_deep_copy(good);
        change_spec(bad, &(struct change){cases[i].at, cases[i].json}, "");
        cleanup_free char *text = json_text(bad, 0);
        tmpdir_write(t, "state.json", text);
        struct oci_sandbox_state b = {0};
        struct err e = ERR_INIT;
        assert_int_equal(oci_sandbox_state_load(t->path, &b, &e), -EINVAL);
        assert_memory_equal(e.msg, path, strlen(path));
        if (!strstr(e.msg, cases[i].message))
            fail_msg("\"%s\" lacks \"%s\"", e.msg, cases[i].message);
        assert_null(b.id);
    }
}

/* Any file cut short is refused, never half believed. */
static void truncation(void **state) {
    struct tmpdir *t = *state;
    cleanup_sandbox_state struct oci_sandbox_state a = make_state();
    write_state(t, &a);
    cleanup_free char *path = tmpdir_path(t, "state.json"), *text = NULL;
    size_t len;
    assert_int_equal(file_read_at(AT_FDCWD, path, 1 << 20, &text, &len, NULL), 0);
    for (size_t n = 0; n < len; n++) {
        struct oci_sandbox_state b = {0};
        assert_int_equal(file_write_atomic(path, text, n, 0600, false, NULL), 0);
        assert_int_equal(oci_sandbox_state_load(t->path, &b, NULL), -EINVAL);
    }
}

static void what_lies_there_instead(void **state) {
    struct tmpdir *t = *state;
    struct oci_sandbox_state b = {0};
    struct err e = ERR_INIT;
    assert_int_equal(oci_sandbox_state_load(t->path, &b, &e), -ENOENT);
    assert_int_equal(mknodat(t->fd, "state.json", S_IFIFO | 0600, 0), 0);
    assert_int_equal(oci_sandbox_state_load(t->path, &b, &e), -EINVAL);
    assert_int_equal(unlinkat(t->fd, "state.json", 0), 0);
    assert_int_equal(symlinkat("/etc/passwd", t->fd, "state.json"), 0);
    assert_int_equal(oci_sandbox_state_load(t->path, &b, &e), -ELOOP);
    assert_int_equal(unlinkat(t->fd, "state.json", 0), 0);
    assert_int_equal(mkdirat(t->fd, "state.json", 0700), 0);
    assert_int_equal(oci_sandbox_state_load(t->path, &b, &e), -EINVAL);
}

static void bounds(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_sandbox_state struct oci_sandbox_state a = make_state(), b = {0};
    size_t n = STATE_CONTAINERS_MAX + 1;
    a.containers = realloc(a.containers, n * sizeof(*a.containers));
    for (; a.n_containers < n; a.n_containers++)
        a.containers[a.n_containers] = (struct oci_container_state){
            .id = strdup("c"), .bundle = strdup("/"), .rootfs = strdup("/"), .status = "created"};
    assert_int_equal(oci_sandbox_state_save(t->path, &a, &e), -EINVAL);
    oci_container_state_clear(&a.containers[--a.n_containers]);
    write_state(t, &a);
    assert_int_equal(oci_sandbox_state_load(t->path, &b, &e), 0);
    assert_int_equal(b.n_containers, STATE_CONTAINERS_MAX);

    /* one more, written by someone else */
    cleanup_free char *path = tmpdir_path(t, "state.json");
    cleanup_json json_t *v = NULL;
    assert_int_equal(json_parse_file(path, &v, NULL), 0);
    json_t *list = json_object_get(v, "containers");
    json_array_append(list, json_array_get(list, 0));
    cleanup_free char *text = json_text(v, 0);
    tmpdir_write(t, "state.json", text);
    struct oci_sandbox_state c = {0};
    assert_int_equal(oci_sandbox_state_load(t->path, &c, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "containers: more than 256"));
}

static void as_runc_prints_it(void **state) {
    (void)state;
    cleanup_sandbox_state struct oci_sandbox_state s = make_state();
    cleanup_json json_t *v = oci_container_state_json(&s.containers[0]);
    cleanup_free char *text = json_text(v, JSON_COMPACT);
    assert_string_equal(text, "{\"ociVersion\":\"1.1.0\",\"id\":\"box1\",\"pid\":77,\"status\":\"running\",\"bundle\":"
                              "\"/b/\u20ac \\\"x\\\"\",\"rootfs\":\"/b/rootfs\",\"created\":\"2026-01-02T03:04:05."
                              "123456000Z\",\"annotations\":{\"a.b\":\"c\"},\"owner\":\"root\"}");
    cleanup_json json_t *w = oci_container_state_json(&s.containers[1]);
    assert_null(json_object_get(w, "annotations"));
    assert_string_equal(json_string_value(json_object_get(w, "owner")), "4294967294");
}

static void owners(void **state) {
    (void)state;
    char buf[64];
    assert_string_equal(oci_owner_name(0, buf), "root");
    assert_string_equal(oci_owner_name(3999999999U, buf), "3999999999");
}

#define T(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, tmpdir_teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(round_trip),
        T(a_dead_daemon_means_stopped),
        T(every_status_survives),
        T(damage),
        T(truncation),
        T(what_lies_there_instead),
        T(bounds),
        cmocka_unit_test(as_runc_prints_it),
        cmocka_unit_test(owners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
