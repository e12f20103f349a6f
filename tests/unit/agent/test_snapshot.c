/* SPDX-License-Identifier: Apache-2.0 */
/* The child's part (sync, drop_caches) is the kernel's of this machine and is not run here: what is tested is the way
 * to it and back. */
#include "agent/deleted.h"
#include "agent/snapshot.h"
#include "fake_guest.h"
#include "ttrpc/server.h"

struct snap {
    struct guest *g;
    int parent; /* of all containers' cgroups */
};

static int snap_setup(void **state) {
    void *guest = NULL;
    if (guest_setup(&guest) < 0)
        return -1;
    struct snap *s = calloc(1, sizeof(*s));
    s->g = guest;
    if (ttrpc_server_new(s->g->f->event, &s->g->a.server, NULL) < 0)
        return -1;
    s->parent = path_mkdirs_beneath(s->g->f->dir->fd, "cgroup/" CGROUP_PARENT, 0755, NULL);
    tmpdir_write(s->g->f->dir, "cgroup/" CGROUP_PARENT "/cgroup.freeze", "0");
    tmpdir_write(s->g->f->dir, "cgroup/" CGROUP_PARENT "/cgroup.events", "populated 1\nfrozen 0\n");
    *state = s;
    return s->parent < 0 ? -1 : 0;
}

static int snap_teardown(void **state) {
    struct snap *s = *state;
    void *guest = s->g;
    close(s->parent);
    guest_clear(s->g);
    ttrpc_server_free(s->g->a.server);
    free(s);
    return guest_teardown(&guest);
}

#define SNAP_TEST(fn) cmocka_unit_test_setup_teardown(fn, snap_setup, snap_teardown)

static void on_frozen(void *userdata, const struct deleted_list *deleted, const struct err *err) {
    (void)deleted;
    on_outcome(userdata, err);
}

static int freeze(struct snap *s, bool for_template, uint64_t timeout, struct outcome *o, struct err *err) {
    const struct snapshot_freeze_request req = {.for_template = for_template, .timeout_usec = timeout};
    return snapshot_freeze(&s->g->a, &req, on_frozen, o, err);
}

static bool ordered(struct snap *s, const char *want) {
    cleanup_free char *text = guest_read(s->g, "cgroup/" CGROUP_PARENT "/cgroup.freeze");
    return text[0] == want[0];
}

static void test_busy(void **state) {
    struct snap *s = *state;
    struct outcome created = {0}, o = {0};
    struct err err = ERR_INIT;
    tmpdir_write(s->g->f->dir, "wait-create", "");
    assert_int_equal(guest_create(s->g, "c1", &created), 0);
    assert_int_equal(freeze(s, false, USEC_PER_SEC, &o, &err), -EBUSY);
    assert_non_null(strstr(err.msg, "container c1 is being created"));
    tmpdir_remove(s->g->f->dir, "wait-create");
    RUN_UNTIL(s->g->f->event, created.n);
    assert_int_equal(freeze(s, true, USEC_PER_SEC, &o, &err), -EBUSY);
    assert_non_null(strstr(err.msg, "a template has no container, and there is c1"));
    s->g->a.checking = true;
    assert_int_equal(freeze(s, false, USEC_PER_SEC, &o, &err), -EBUSY);
    s->g->a.checking = false;
    assert_true(ordered(s, "0"));
    assert_int_equal(o.n, 0);
    assert_int_equal(s->g->a.snapshot.state, SNAPSHOT_NONE);
}

static void on_thawed(void *userdata) {
    (*(int *)userdata)++;
}

/* A process that cannot be frozen: everything is taken back. */
static void test_timeout(void **state) {
    struct snap *s = *state;
    struct outcome o = {0};
    struct container *c = guest_container(s->g, "c1");
    guest_write(s->g, "cgroup.events", "frozen 0\n");
    assert_int_equal(freeze(s, false, 50 * USEC_PER_MSEC, &o, NULL), 0);
    assert_true(ordered(s, "1"));
    assert_true(c->init->held && s->g->a.oom.held);
    RUN_UNTIL(s->g->f->event, o.n);
    assert_int_equal(o.code, ETIMEDOUT);
    assert_non_null(strstr(o.msg, "in container: c1"));
    assert_true(ordered(s, "0"));
    assert_false(c->init->held || s->g->a.oom.held);
}

/* A thaw, or a new session, ends a freeze that is under way. */
static void test_abandoned(void **state) {
    struct snap *s = *state;
    struct outcome o = {0};
    int thawed = 0;
    struct err err = ERR_INIT;
    struct snapshot_thaw_request req = {0};
    assert_int_equal(freeze(s, false, 60 * USEC_PER_SEC, &o, NULL), 0);
    assert_int_equal(freeze(s, false, 60 * USEC_PER_SEC, &o, &err), -EBUSY);
    assert_int_equal(snapshot_thaw(&s->g->a, &req, on_thawed, &thawed, NULL), 0);
    assert_int_equal(o.code, ECANCELED);
    assert_int_equal(thawed, 1);
    assert_true(ordered(s, "0"));
    req.new_identity = true;
    assert_int_equal(snapshot_thaw(&s->g->a, &req, on_thawed, &thawed, NULL), -EINVAL);
    assert_int_equal(freeze(s, false, 60 * USEC_PER_SEC, &o, NULL), 0);
    snapshot_void(&s->g->a);
    assert_int_equal(o.n, 2);
    assert_int_equal(s->g->a.snapshot.state, SNAPSHOT_NONE);
}

/* A template's copies have a network for their first container. */
static void test_made_ahead(void **state) {
    struct snap *s = *state;
    struct outcome o = {0};
    struct stat own, ahead;
    assert_int_equal(freeze(s, false, 60 * USEC_PER_SEC, &o, NULL), 0);
    snapshot_void(&s->g->a);
    assert_int_equal(s->g->a.spare_network, -1);
    for (int i = 0; i < 2; i++) { /* and one is enough */
        assert_int_equal(freeze(s, true, 60 * USEC_PER_SEC, &o, NULL), 0);
        snapshot_void(&s->g->a);
    }
    assert_int_equal(stat("/proc/self/ns/net", &own), 0);
    assert_int_equal(fstat(s->g->a.spare_network, &ahead), 0);
    assert_int_not_equal(own.st_ino, ahead.st_ino);
    fd_close(s->g->a.spare_network);
}

/* In the frozen state output stays in its pipe, and an end is told to nobody; both come with the thaw. */
static void test_held(void **state) {
    struct snap *s = *state;
    struct outcome o = {0}, waited = {0};
    int thawed = 0;
    struct container *c = guest_container(s->g, "c1");
    const struct snapshot_thaw_request req = {0};
    assert_int_equal(process_wait(c->init, on_wait, &waited, NULL), 0);
    assert_int_equal(freeze(s, false, 60 * USEC_PER_SEC, &o, NULL), 0);
    s->g->a.snapshot.state = SNAPSHOT_FROZEN; /* as if the child had done its part */
    snapshot_void(&s->g->a);
    assert_int_equal(s->g->a.snapshot.state, SNAPSHOT_FROZEN);
    assert_int_equal(process_signal(c->init, SIGKILL, NULL), 0);
    RUN_UNTIL(s->g->f->event, c->init->state == PROCESS_EXITED);
    assert_int_equal(waited.n, 0);
    s->g->a.snapshot.frozen = NULL;
    assert_int_equal(snapshot_thaw(&s->g->a, &req, on_thawed, &thawed, NULL), 0);
    assert_int_equal(thawed, 1);
    assert_int_equal(waited.n, 1);
    assert_int_equal(waited.pid, 128 + SIGKILL);
    assert_true(ordered(s, "0"));
}

/* A copy that gets no proper entropy stays frozen. */
static void test_no_entropy(void **state) {
    struct snap *s = *state;
    struct outcome o = {0};
    int thawed = 0;
    struct err err = ERR_INIT;
    const struct snapshot_thaw_request bad = {.entropy = "x", .entropy_len = 1}, good = {0};
    s->g->a.random_path = "/nonexistent";
    assert_int_equal(freeze(s, false, 60 * USEC_PER_SEC, &o, NULL), 0);
    s->g->a.snapshot.state = SNAPSHOT_FROZEN;
    s->g->a.snapshot.frozen = NULL;
    assert_int_equal(snapshot_thaw(&s->g->a, &bad, on_thawed, &thawed, &err), -EINVAL);
    assert_int_equal(thawed, 0);
    assert_int_equal(s->g->a.snapshot.state, SNAPSHOT_FROZEN);
    assert_true(ordered(s, "1"));
    assert_int_equal(snapshot_thaw(&s->g->a, &good, on_thawed, &thawed, NULL), 0);
    assert_int_equal(thawed, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SNAP_TEST(test_busy),       SNAP_TEST(test_timeout), SNAP_TEST(test_abandoned),
        SNAP_TEST(test_made_ahead), SNAP_TEST(test_held),    SNAP_TEST(test_no_entropy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
