/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_guest.h"

static void test_life(void **state) {
    struct guest *g = *state;
    struct outcome o = {0}, w = {0};
    struct container *c = guest_container(g, "c1");
    assert_int_equal(g->a.n_containers, 1);
    assert_true(tmpdir_has(g->f->dir, "bundles/c1/config.json"));
    assert_int_equal(guest_create(g, "c1", &o), -EEXIST);
    assert_int_equal(container_start(c, 0, on_outcome, &o, NULL), -EBUSY);
    assert_int_equal(process_wait(c->init, on_wait, &w, NULL), 0);
    assert_int_equal(process_signal(c->init, SIGTERM, NULL), 0);
    RUN_UNTIL(g->f->event, w.n);
    assert_int_equal(w.pid, 128 + SIGTERM);
    assert_int_equal(c->state, CONTAINER_STOPPED);
    assert_int_equal(guest_exec(c, "e", &o), -EBUSY);
    assert_int_equal(container_signal_all(c, SIGTERM, NULL), -ESRCH);
    guest_delete(g, c);
    assert_null(container_find(&g->a, "c1"));
    assert_int_equal(g->a.n_containers, 0);
    assert_false(tmpdir_has(g->f->dir, "bundles/c1"));
    assert_int_equal(o.n, 0);
}

static void test_ids(void **state) {
    struct guest *g = *state;
    struct outcome o = {0};
    struct err err = ERR_INIT;
    const char *const bad[] = {"", ".", "..", "a/b", "../x", "-x", "a b", "\xff"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(guest_create(g, bad[i], &o), -EINVAL);
    assert_null(container_get(&g->a, "none", &err));
    assert_int_equal(err.code, ENOENT);
    struct container *c = guest_container(g, "c");
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(guest_exec(c, bad[i], &o), -EINVAL);
    assert_ptr_equal(container_process(c, "", NULL), c->init);
    assert_null(container_process(c, "e", &err));
    assert_int_equal(o.n, 0);
}

static void test_create_fails(void **state) {
    struct guest *g = *state;
    struct outcome o = {0};
    tmpdir_write(g->f->dir, "fail-create", "{\"msg\":\"executable file `x` not found\",\"level\":\"error\"}\n");
    assert_int_equal(guest_create(g, "c1", &o), 0);
    RUN_UNTIL(g->f->event, o.n);
    assert_int_equal(o.code, ENOENT);
    assert_null(g->a.containers);
    assert_false(tmpdir_has(g->f->dir, "bundles/c1"));
    /* The id is free again. */
    tmpdir_remove(g->f->dir, "fail-create");
    guest_delete(g, guest_container(g, "c1"));
}

/* crun succeeded, but its process has no cgroup we can open: everything is taken back, and the first error told. */
static void test_create_cannot_adopt(void **state) {
    struct guest *g = *state;
    struct outcome o = {0};
    g->a.cgroup_root = "/nonexistent";
    assert_int_equal(guest_create(g, "c1", &o), 0);
    RUN_UNTIL(g->f->event, o.n);
    assert_int_equal(o.code, ENOENT);
    assert_non_null(strstr(o.msg, "/nonexistent"));
    assert_null(g->a.containers);
    cleanup_free char *calls = NULL;
    assert_int_equal(file_read_at(g->f->dir->fd, "calls", 4096, &calls, NULL, NULL), 0);
    assert_string_equal(calls, "create c1\ndelete c1\n");
    RUN_UNTIL(g->f->event, waitid(P_ALL, 0, NULL, WEXITED | WNOHANG | WNOWAIT) < 0);
}

static void test_create_hangs(void **state) {
    struct guest *g = *state;
    struct outcome o = {0};
    const struct process_streams streams = {0};
    tmpdir_write(g->f->dir, "hang-create", "");
    const struct container_request req = {
        .id = "c1", .spec = "{}", .len = 2, .streams = &streams, .timeout_usec = 50 * USEC_PER_MSEC};
    assert_int_equal(container_create(&g->a, &req, on_pid, &o, NULL), 0);
    RUN_UNTIL(g->f->event, o.n);
    assert_int_equal(o.code, ETIMEDOUT);
    assert_null(g->a.containers);
}

static void test_exits_before_it_is_known(void **state) {
    struct guest *g = *state;
    struct outcome o = {0};
    tmpdir_write(g->f->dir, "program", "exit 3");
    assert_int_equal(guest_create(g, "c1", &o), 0);
    RUN_UNTIL(g->f->event, o.n);
    /* Its /proc entry may be gone by then; either way nothing is left behind, and nothing hangs. */
    struct container *c = container_find(&g->a, "c1");
    if (c) {
        struct outcome w = {0};
        assert_int_equal(process_wait(c->init, on_wait, &w, NULL), 0);
        RUN_UNTIL(g->f->event, w.n);
        assert_int_equal(w.pid, 3);
        assert_int_equal(c->state, CONTAINER_STOPPED);
        guest_delete(g, c);
    } else {
        assert_int_not_equal(o.code, 0);
    }
}

/* Who asked for it has given up waiting: it must not run on, whether it had begun by then or not. */
static void test_abandoned_exec(void **state) {
    struct guest *g = *state;
    struct container *c = guest_container(g, "c1");
    for (int begun = 0; begun < 2; begun++) {
        struct outcome a = {0};
        assert_int_equal(guest_exec(c, "e1", &a), 0);
        if (begun)
            RUN_UNTIL(g->f->event, a.n);
        assert_int_equal(container_delete_exec(c, "e1", NULL), 0);
        RUN_UNTIL(g->f->event, a.n && container_process(c, "e1", NULL)->state == PROCESS_EXITED);
        assert_int_equal(container_process(c, "e1", NULL)->exit.code, 128 + SIGKILL);
    }
    struct outcome a = {0};
    assert_int_equal(guest_exec(c, "e1", &a), 0); /* its name is free again */
    RUN_UNTIL(g->f->event, a.n);
    assert_int_equal(c->n_execs, 1);
    guest_delete(g, c);
}

static void test_exec(void **state) {
    struct guest *g = *state;
    struct container *c = guest_container(g, "c1");
    struct outcome a = {0}, b = {0}, w = {0};
    assert_int_equal(guest_exec(c, "e1", &a), 0);
    assert_int_equal(guest_exec(c, "e1", &b), -EEXIST);
    RUN_UNTIL(g->f->event, a.n);
    assert_int_equal(a.code, 0);
    struct process *p = container_process(c, "e1", NULL);
    assert_int_equal(p->pid, a.pid);
    assert_int_equal(container_delete_exec(c, "", NULL), -EINVAL);
    assert_int_equal(container_delete_exec(c, "e2", NULL), -ENOENT);
    assert_int_equal(process_wait(p, on_wait, &w, NULL), 0);
    assert_int_equal(process_signal(p, SIGKILL, NULL), 0);
    RUN_UNTIL(g->f->event, w.n);
    assert_int_equal(w.pid, 137);
    assert_int_equal(container_delete_exec(c, "e1", NULL), 0);
    assert_int_equal(c->n_execs, 0);

    /* One that exits at once is told all the same, and one that fails leaves nothing. */
    tmpdir_write(g->f->dir, "program", "exit 5");
    a = w = (struct outcome){0};
    assert_int_equal(guest_exec(c, "e1", &a), 0);
    RUN_UNTIL(g->f->event, a.n);
    assert_int_equal(process_wait(container_process(c, "e1", NULL), on_wait, &w, NULL), 0);
    RUN_UNTIL(g->f->event, w.n);
    assert_int_equal(w.pid, 5);
    tmpdir_write(g->f->dir, "fail-exec",
                 "{\"msg\":\"the path `/x` exists but it is not executable\","
                 "\"level\":\"error\"}\n");
    assert_int_equal(guest_exec(c, "e2", &b), 0);
    RUN_UNTIL(g->f->event, b.n);
    assert_int_equal(b.code, EACCES);
    assert_null(container_process(c, "e2", NULL));
    guest_delete(g, c);
}

/* Deleting waits for what is under way, and kills what comes of it. */
static void test_delete_during_exec(void **state) {
    struct guest *g = *state;
    struct container *c = guest_container(g, "c1");
    struct outcome e = {0}, d = {0}, again = {0};
    tmpdir_write(g->f->dir, "wait-exec", "");
    assert_int_equal(guest_exec(c, "e1", &e), 0);
    assert_int_equal(container_delete(c, on_outcome, &d, NULL), 0);
    assert_int_equal(container_delete(c, on_outcome, &again, NULL), -EBUSY);
    assert_int_equal(guest_exec(c, "e2", &again), -EBUSY);
    RUN_UNTIL(g->f->event, c->init->state == PROCESS_EXITED);
    assert_int_equal(d.n, 0);
    tmpdir_remove(g->f->dir, "wait-exec");
    RUN_UNTIL(g->f->event, d.n);
    assert_int_equal(e.n, 1);
    assert_int_equal(d.code, 0);
    assert_true(guest_file_is(g, "cgroup.kill", "1"));
    assert_null(g->a.containers);
    RUN_UNTIL(g->f->event, waitid(P_ALL, 0, NULL, WEXITED | WNOHANG | WNOWAIT) < 0);
}

static void test_delete_during_create(void **state) {
    struct guest *g = *state;
    struct outcome o = {0}, d = {0};
    tmpdir_write(g->f->dir, "wait-create", "");
    assert_int_equal(guest_create(g, "c1", &o), 0);
    assert_int_equal(container_delete(container_find(&g->a, "c1"), on_outcome, &d, NULL), 0);
    tmpdir_remove(g->f->dir, "wait-create");
    /* The fake cgroup.kill kills nobody, so the test does. */
    RUN_UNTIL(g->f->event, o.n);
    assert_int_equal(o.code, ECANCELED);
    assert_true(guest_file_is(g, "cgroup.kill", "1"));
    kill(o.pid, SIGKILL);
    RUN_UNTIL(g->f->event, d.n);
    assert_int_equal(d.code, 0);
    assert_null(g->a.containers);
}

static void test_delete_fails(void **state) {
    struct guest *g = *state;
    struct container *c = guest_container(g, "c1");
    struct outcome d = {0};
    tmpdir_write(g->f->dir, "fail-delete", "{\"msg\":\"busy\",\"level\":\"error\"}\n");
    assert_int_equal(container_delete(c, on_outcome, &d, NULL), 0);
    RUN_UNTIL(g->f->event, d.n);
    assert_int_equal(d.code, EIO);
    assert_non_null(strstr(d.msg, "busy"));
    assert_ptr_equal(container_find(&g->a, "c1"), c);
    assert_int_equal(c->state, CONTAINER_STOPPED);
    tmpdir_remove(g->f->dir, "fail-delete");
    guest_delete(g, c);
}

static void test_start_and_update(void **state) {
    struct guest *g = *state;
    struct outcome o = {0}, s = {0}, u = {0};
    cleanup_free char *input = NULL;
    assert_int_equal(guest_create(g, "c1", &o), 0);
    RUN_UNTIL(g->f->event, o.n);
    struct container *c = container_find(&g->a, "c1");
    tmpdir_write(g->f->dir, "fail-start", "{\"msg\":\"no\",\"level\":\"error\"}\n");
    assert_int_equal(container_start(c, 0, on_outcome, &s, NULL), 0);
    assert_int_equal(container_update(c, "{}", 2, 0, on_outcome, &u, NULL), -EBUSY);
    RUN_UNTIL(g->f->event, s.n);
    assert_int_equal(s.code, EIO);
    assert_int_equal(c->state, CONTAINER_CREATED);
    assert_int_equal(container_update(c, "{\"a\":1}", 7, 0, on_outcome, &u, NULL), 0);
    RUN_UNTIL(g->f->event, u.n);
    assert_int_equal(u.code, 0);
    assert_int_equal(file_read_at(g->f->dir->fd, "input", 100, &input, NULL, NULL), 0);
    assert_string_equal(input, "{\"a\":1}");
    guest_delete(g, c);
}

static void test_pause(void **state) {
    struct guest *g = *state;
    struct container *c = guest_container(g, "c1");
    struct outcome p = {0}, e = {0};
    guest_write(g, "cgroup.events", "populated 1\nfrozen 0\n");
    assert_int_equal(container_resume(c, NULL), 0); /* it runs: nothing to do */
    /* An exec under way goes first. */
    tmpdir_write(g->f->dir, "wait-exec", "");
    assert_int_equal(guest_exec(c, "e1", &e), 0);
    assert_int_equal(container_pause(c, on_outcome, &p, NULL), 0);
    assert_int_equal(guest_exec(c, "e2", &e), -EBUSY);
    assert_int_equal(container_pause(c, on_outcome, &p, NULL), -EBUSY);
    assert_false(guest_file_is(g, "cgroup.freeze", "1"));
    tmpdir_remove(g->f->dir, "wait-exec");
    RUN_UNTIL(g->f->event, guest_file_is(g, "cgroup.freeze", "1"));
    assert_int_equal(e.n, 1);
    assert_int_equal(p.n, 0);
    guest_write(g, "cgroup.events", "populated 1\nfrozen 1\n");
    RUN_UNTIL(g->f->event, p.n);
    assert_int_equal(p.code, 0);
    assert_int_equal(c->state, CONTAINER_PAUSED);
    assert_int_equal(guest_exec(c, "e2", &e), -EBUSY);
    assert_int_equal(container_resume(c, NULL), 0);
    assert_true(guest_file_is(g, "cgroup.freeze", "0"));
    /* Already frozen: at once. */
    assert_int_equal(container_pause(c, on_outcome, &p, NULL), 0);
    assert_int_equal(p.n, 2);
    guest_delete(g, c);
}

static void test_pause_ends_otherwise(void **state) {
    struct guest *g = *state;
    struct container *c = guest_container(g, "c1");
    struct outcome p = {0};
    guest_write(g, "cgroup.events", "frozen 0\n");
    /* The host has given up waiting, and undoes it. */
    assert_int_equal(container_pause(c, on_outcome, &p, NULL), 0);
    assert_int_equal(container_resume(c, NULL), 0);
    assert_int_equal(p.n, 1);
    assert_int_equal(p.code, ECANCELED);
    assert_int_equal(c->state, CONTAINER_RUNNING);
    assert_true(guest_file_is(g, "cgroup.freeze", "0"));
    p = (struct outcome){0};
    assert_int_equal(container_pause(c, on_outcome, &p, NULL), 0);
    assert_int_equal(process_signal(c->init, SIGKILL, NULL), 0);
    RUN_UNTIL(g->f->event, p.n);
    assert_int_equal(p.code, ESRCH);
    assert_int_equal(c->state, CONTAINER_STOPPED);
    guest_delete(g, c);

    c = guest_container(g, "c2");
    p = (struct outcome){0};
    assert_int_equal(container_pause(c, on_outcome, &p, NULL), 0);
    guest_delete(g, c);
    assert_int_equal(p.n, 1);
    assert_int_equal(p.code, ECANCELED);
}

static void test_signal_all(void **state) {
    struct guest *g = *state;
    struct container *c = guest_container(g, "c1");
    struct outcome w = {0};
    cleanup_free char *procs = str_printf("%d\n%d\n", (int)c->init->pid, 0x7ffffff0);
    guest_write(g, "cgroup.procs", procs);
    assert_int_equal(container_signal_all(c, 0, NULL), -EINVAL);
    assert_int_equal(container_signal_all(c, 65, NULL), -EINVAL);
    assert_int_equal(process_wait(c->init, on_wait, &w, NULL), 0);
    assert_int_equal(container_signal_all(c, SIGUSR1, NULL), 0);
    RUN_UNTIL(g->f->event, w.n);
    assert_int_equal(w.pid, 128 + SIGUSR1);
    guest_delete(g, c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        GUEST_TEST(test_life),
        GUEST_TEST(test_ids),
        GUEST_TEST(test_create_fails),
        GUEST_TEST(test_create_cannot_adopt),
        GUEST_TEST(test_create_hangs),
        GUEST_TEST(test_exits_before_it_is_known),
        GUEST_TEST(test_exec),
        GUEST_TEST(test_abandoned_exec),
        GUEST_TEST(test_delete_during_exec),
        GUEST_TEST(test_delete_during_create),
        GUEST_TEST(test_delete_fails),
        GUEST_TEST(test_start_and_update),
        GUEST_TEST(test_pause),
        GUEST_TEST(test_pause_ends_otherwise),
        GUEST_TEST(test_signal_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
