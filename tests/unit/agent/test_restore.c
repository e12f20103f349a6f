/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/restore.h"
#include "fake_guest.h"

#define WORK "share/c1/checkpoint/work/"
#define IMAGES "share/c1/checkpoint/images/"

static const struct process_streams streams = {.out = true};

static struct restore_request request(void) {
    return (struct restore_request){
        .container = {.id = "c1", .spec = "{}", .len = 2, .streams = &streams, .timeout_usec = TEST_DEADLINE},
        .image_dir = "images",
        .work_dir = "work",
    };
}

static void prepare(struct guest *g) {
    guest_make_share(g);
    tmpdir_write(g->f->dir, IMAGES "inventory.img", "x");
    guest_write(g, "cgroup.freeze", "0");
}

static void refused(struct guest *g, const struct restore_request *req, int code, const char *why) {
    struct outcome o = {0};
    struct err err = ERR_INIT;
    assert_int_equal(container_restore(&g->a, req, on_pid, &o, &err), -code);
    if (!strstr(err.msg, why))
        fail_msg("no \"%s\" in: %s", why, err.msg);
    assert_int_equal(o.n, 0);
    assert_null(g->a.criu.head);
}

static void test_runs(void **state) {
    struct guest *g = *state;
    struct restore_request req = request();
    struct outcome o = {0};
    prepare(g);
    req.options.tcp_close = true;
    req.options.tcp_established = true;
    assert_int_equal(container_restore(&g->a, &req, on_pid, &o, NULL), 0);
    struct container *c = container_find(&g->a, "c1");
    assert_int_equal(c->state, CONTAINER_RESTORING);
    assert_int_equal(container_start(c, 0, on_outcome, &o, NULL), -EBUSY);
    assert_int_equal(container_restore(&g->a, &req, on_pid, &o, NULL), -EEXIST);
    RUN_UNTIL(g->f->event, o.n);
    if (o.code)
        fail_msg("%s", o.msg);
    assert_int_equal(c->state, CONTAINER_RUNNING);
    assert_int_equal(c->init->pid, o.pid);
    assert_int_equal(c->ops, 0);
    assert_true(guest_file_has(g, "args", "--detach\n"));
    assert_true(guest_file_has(g, "args", "--tcp-established\n"));
    assert_true(guest_file_has(g, "args", "/bundles/c1\n"));
    assert_true(guest_file_has(g, "args", "--tcp-close\n"));
    assert_true(guest_file_has(g, "conf-seen", "external mnt"));
    assert_false(tmpdir_has(g->f->dir, "criu/default.conf"));
    assert_true(guest_file_has(g, WORK "criu-diagnostic.log", "result: done"));
    assert_null(g->a.criu.head);
    /* It is a container like others. */
    struct outcome w = {0};
    assert_int_equal(process_wait(c->init, on_wait, &w, NULL), 0);
    assert_int_equal(process_signal(c->init, SIGTERM, NULL), 0);
    RUN_UNTIL(g->f->event, w.n);
    assert_int_equal(w.pid, 128 + SIGTERM);
    guest_delete(g, c);
}

static void test_fails(void **state) {
    struct guest *g = *state;
    struct restore_request req = request();
    struct outcome o = {0};
    prepare(g);
    tmpdir_write(g->f->dir, "fail-restore", "{\"msg\":\"CRIU restoring failed -52\",\"level\":\"error\"}\n");
    tmpdir_write(
        g->f->dir, "log-restore",
        "(1) Error (criu/x.c:9): bad image\n(2) Error (criu/cr-restore.c:1): Can't fork for 160: File exists\n");
    close(path_mkdirs_beneath(g->f->dir->fd, "cgroup/stasis/c1/sub/sub", 0755, NULL));
    assert_int_equal(container_restore(&g->a, &req, on_pid, &o, NULL), 0);
    RUN_UNTIL(g->f->event, o.n);
    assert_int_equal(o.code, EIO);
    assert_false(tmpdir_has(g->f->dir, "cgroup/stasis/c1"));
    assert_non_null(strstr(o.msg, "cannot restore container c1"));
    assert_non_null(strstr(o.msg, "bad image"));
    assert_non_null(strstr(o.msg, "pid 160 is taken"));
    assert_null(g->a.containers);
    assert_null(g->a.criu.head);
    assert_false(tmpdir_has(g->f->dir, "bundles/c1"));
    /* crun leaves its own remains. */
    assert_true(guest_file_has(g, "calls", "delete c1"));
    assert_true(guest_file_has(g, WORK "criu-diagnostic.log", "bad image"));
    /* The id is free again. */
    tmpdir_remove(g->f->dir, "fail-restore");
    o = (struct outcome){0};
    assert_int_equal(container_restore(&g->a, &req, on_pid, &o, NULL), 0);
    RUN_UNTIL(g->f->event, o.n);
    assert_int_equal(o.code, 0);
    guest_delete(g, container_find(&g->a, "c1"));
}

static void test_hangs(void **state) {
    struct guest *g = *state;
    struct restore_request req = request();
    struct outcome o = {0};
    prepare(g);
    tmpdir_write(g->f->dir, "hang-restore", "");
    req.container.timeout_usec = 50 * USEC_PER_MSEC;
    assert_int_equal(container_restore(&g->a, &req, on_pid, &o, NULL), 0);
    RUN_UNTIL(g->f->event, o.n);
    assert_int_equal(o.code, ETIMEDOUT);
    assert_null(g->a.containers);
}

static void test_deleted_meanwhile(void **state) {
    struct guest *g = *state;
    struct restore_request req = request();
    struct outcome o = {0}, d = {0};
    prepare(g);
    /* Before its turn, and after. */
    struct criu_turn other = {0};
    criu_enter(&g->a.criu, &other, (void (*)(void *))oom_void, &g->a);
    assert_int_equal(container_restore(&g->a, &req, on_pid, &o, NULL), 0);
    assert_int_equal(container_delete(container_find(&g->a, "c1"), on_outcome, &d, NULL), 0);
    criu_leave(&g->a.criu, &other);
    RUN_UNTIL(g->f->event, o.n && d.n);
    assert_int_equal(o.code, ECANCELED);
    assert_int_equal(d.code, 0);
    assert_false(guest_file_has(g, "calls", "restore"));

    o = d = (struct outcome){0};
    tmpdir_write(g->f->dir, "wait-restore", "");
    assert_int_equal(container_restore(&g->a, &req, on_pid, &o, NULL), 0);
    assert_int_equal(container_delete(container_find(&g->a, "c1"), on_outcome, &d, NULL), 0);
    tmpdir_remove(g->f->dir, "wait-restore");
    RUN_UNTIL(g->f->event, o.n);
    assert_int_equal(o.code, ECANCELED);
    assert_true(guest_file_is(g, "cgroup.kill", "1"));
    kill(o.pid, SIGKILL); /* which the fake cgroup.kill did not */
    RUN_UNTIL(g->f->event, d.n);
    assert_int_equal(d.code, 0);
    assert_null(g->a.containers);
}

static void test_refused(void **state) {
    struct guest *g = *state;
    struct restore_request req = request();
    refused(g, &req, ENOENT, g->share);
    guest_make_share(g);
    refused(g, &req, ENOENT, "holds no checkpoint");
    prepare(g);
    req.image_dir = "../images";
    refused(g, &req, EINVAL, "image directory");
    req = request();
    req.container.id = "../c1";
    refused(g, &req, EINVAL, "container id");
    req = request();
    req.options.lazy_pages = true;
    refused(g, &req, EOPNOTSUPP, "lazy-pages");
    assert_true(guest_file_has(g, WORK "criu-diagnostic.log", "lazy-pages"));
    assert_null(g->a.containers);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        GUEST_TEST(test_runs),    GUEST_TEST(test_fails), GUEST_TEST(test_hangs), GUEST_TEST(test_deleted_meanwhile),
        GUEST_TEST(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
