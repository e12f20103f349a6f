/* SPDX-License-Identifier: Apache-2.0 */
/* src/shim/task.c when calls meet each other, the VM dies, or the daemon ends. Needs root: the share is mounted for
 * real. */
#include "task_calls.h"

/* Who waits and goes away takes the place with him: places are limited. */
static void test_wait_disconnect(void **state) {
    struct daemon *d = *state;
    create(d);
    for (int round = 0; round < 3; round++) {
        struct ttrpc_client *client = daemon_connect(d);
        static struct later l[200];
        memset(l, 0, sizeof(l));
        for (size_t i = 0; i < ARRAY_SIZE(l); i++)
            start_wait(d, client, "", &l[i]);
        run_idle(d->event);
        for (size_t i = 0; i < ARRAY_SIZE(l); i++)
            assert_int_equal(l[i].n, 0);
        ttrpc_client_free(client);
        RUN_UNTIL(d->event, ttrpc_server_connections(d->s.server) == 1);
    }
    struct later w = {0};
    start_wait(d, d->client, "", &w);
    run_idle(d->event);
    assert_int_equal(w.n, 0);
    mock_exit(the_agent(), 1, 1000, false);
    expect_exit(d, &w, 1);
}

/* The container stops before the start is over: the start ends first, then it can be deleted. */
static void test_exit_during_start(void **state) {
    struct daemon *d = *state;
    struct later started = {0};
    Containerd__Task__V2__StartRequest req = CONTAINERD__TASK__V2__START_REQUEST__INIT;
    create(d);
    the_agent()->hold = true;
    req.id = text("c1");
    start_call(d, d->client, TASK, "Start", &req.base, &started);
    RUN_UNTIL(d->event, the_agent()->kept);
    mock_exit(the_agent(), 1, 1000, false);
    RUN_UNTIL(d->event, status_of(d, "", NULL) == CONTAINERD__TASK__V2__STATUS__STOPPED);
    assert_int_equal(simple(d, "Delete", ""), -EBUSY);
    ASSERT_SAYS(&d->err, "c1");
    assert_int_equal(started.n, 0);
    the_agent()->hold = false;
    ttrpc_reply(TAKE_PTR(the_agent()->kept), NULL);
    RUN_UNTIL(d->event, started.n);
    assert_non_null(started.reply);
    protobuf_c_message_free_unpacked(started.reply, NULL);
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__STOPPED);
    must(d, "Delete", "");
}

/* Two clients at once: the table lets one through. */
static void test_concurrent(void **state) {
    struct daemon *d = *state;
    struct later l[2] = {0};
    Containerd__Task__V2__StartRequest req = CONTAINERD__TASK__V2__START_REQUEST__INIT;
    req.id = text("c1");
    create(d);
    for (size_t i = 0; i < 2; i++)
        start_call(d, d->client, TASK, "Start", &req.base, &l[i]);
    RUN_UNTIL(d->event, l[0].n && l[1].n);
    assert_int_equal((l[0].reply != NULL) + (l[1].reply != NULL), 1);
    for (size_t i = 0; i < 2; i++)
        if (l[i].reply)
            protobuf_c_message_free_unpacked(l[i].reply, NULL);
        else
            assert_int_equal(l[i].err.code, EBUSY);
}

/* The VM dies: what is under way fails with why, processes count as killed, and all can be cleaned up. */
static void test_vm_dies(void **state) {
    struct daemon *d = *state;
    struct later w = {0}, paused = {0};
    Containerd__Task__V2__PauseRequest req = CONTAINERD__TASK__V2__PAUSE_REQUEST__INIT;
    uint32_t code = 0;
    create(d);
    must(d, "Start", "");
    start_wait(d, d->client, "", &w);
    the_agent()->hold = true;
    req.id = text("c1");
    start_call(d, d->client, TASK, "Pause", &req.base, &paused);
    RUN_UNTIL(d->event, the_agent()->kept);
    vm_dies("QEMU was killed by signal 9");
    expect_exit(d, &w, 137);
    RUN_UNTIL(d->event, paused.n);
    ASSERT_SAYS(&paused.err, "QEMU was killed by signal 9");
    assert_null(fake_vm.vm);
    assert_int_equal(status_of(d, "", &code), CONTAINERD__TASK__V2__STATUS__STOPPED);
    assert_int_equal(code, 137);
    Containerd__Task__V2__CreateTaskRequest again = create_request(d);
    again.id = text("c2");
    assert_int_equal(daemon_call(d, "Create", &again.base, NULL), -EIO);
    ASSERT_SAYS(&d->err, "QEMU was killed by signal 9");
    must(d, "Delete", "");
    assert_true(share_is_empty(d));
    assert_int_equal(fake_vm.n_started, 1);
}

/* ... in the middle of a create. */
static void test_vm_dies_in_create(void **state) {
    struct daemon *d = *state;
    struct later l = {0};
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    start_call(d, d->client, TASK, "Create", &req.base, &l);
    RUN_UNTIL(d->event, fake_vm.vm);
    the_agent()->hold = true;
    RUN_UNTIL(d->event, the_agent()->kept);
    vm_dies("virtiofsd is gone");
    RUN_UNTIL(d->event, l.n);
    ASSERT_SAYS(&l.err, "virtiofsd is gone");
    assert_int_equal(sandbox_count(d->s.sb), 0);
    assert_true(share_is_empty(d));
}

/* Calls Create and goes away before the answer. True: the daemon ends. */
static bool ends_with_its_creator(struct daemon *d, const char *id) {
    struct later l = {0};
    struct ttrpc_client *client = daemon_connect(d);
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    int code;
    req.id = text(id);
    start_call(d, client, TASK, "Create", &req.base, &l);
    RUN_UNTIL(d->event, fake_vm.vm);
    the_agent()->hold = true;
    RUN_UNTIL(d->event, the_agent()->kept);
    ttrpc_client_free(client);
    uint64_t end = now_usec() + TEST_DEADLINE;
    while (sd_event_get_exit_code(d->event, &code) < 0 && ttrpc_server_connections(d->s.server) > 1) {
        assert_true(now_usec() < end);
        assert_true(sd_event_run(d->event, 10 * USEC_PER_MSEC) >= 0);
    }
    return sd_event_get_exit_code(d->event, &code) >= 0;
}

/* Without containerd, the container is there for the next `stasis`. */
static void test_creator_lost(void **state) {
    struct daemon *d = *state;
    assert_false(ends_with_its_creator(d, "c1"));
    mock_fail(&the_agent()->kept, ECANCELED, "late");
}

static void test_containerd_lost(void **state) {
    struct daemon *d = *state;
    d->s.namespace = text("ns");
    assert_true(ends_with_its_creator(d, "c1"));
    mock_fail(&the_agent()->kept, ECANCELED, "late");
}

static void test_containerd_lost_in_a_pod(void **state) {
    struct daemon *d = *state;
    create(d);
    d->s.namespace = text("ns");
    assert_false(ends_with_its_creator(d, "c2"));
    mock_fail(&the_agent()->kept, ECANCELED, "late");
}

/* The daemon ends while a create and a start are under way: both are answered. */
static void test_end_while_busy(void **state) {
    struct daemon *d = *state;
    struct later started = {0}, created = {0}, w = {0};
    Containerd__Task__V2__StartRequest start = CONTAINERD__TASK__V2__START_REQUEST__INIT;
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    create(d);
    start.id = text("c1");
    start_wait(d, d->client, "", &w);
    the_agent()->hold = true;
    start_call(d, d->client, TASK, "Start", &start.base, &started);
    RUN_UNTIL(d->event, the_agent()->kept);
    struct ttrpc_request *kept = TAKE_PTR(the_agent()->kept);
    req.id = text("c2");
    start_call(d, d->client, TASK, "Create", &req.base, &created);
    RUN_UNTIL(d->event, the_agent()->kept);
    mock_fail(&kept, ECANCELED, "late");
    d->s.sb = sandbox_free(d->s.sb);
    RUN_UNTIL(d->event, started.n && created.n && w.n);
    assert_int_equal(created.err.code, ECANCELED);
    assert_null(started.reply);
    protobuf_c_message_free_unpacked(w.reply, NULL);
}

/* ---- Shutdown ---- */

static bool ends(struct daemon *d, bool now) {
    Containerd__Task__V2__ShutdownRequest req = CONTAINERD__TASK__V2__SHUTDOWN_REQUEST__INIT;
    static struct later l;
    int code;
    l = (struct later){0};
    req.id = text("box");
    req.now = now;
    start_call(d, d->client, TASK, "Shutdown", &req.base, &l);
    uint64_t end = now_usec() + TEST_DEADLINE;
    while (sd_event_get_exit_code(d->event, &code) < 0 && !l.n) {
        assert_true(now_usec() < end);
        assert_true(sd_event_run(d->event, 10 * USEC_PER_MSEC) >= 0);
    }
    if (l.reply)
        protobuf_c_message_free_unpacked(l.reply, NULL);
    /* The answer is under way. */
    assert_int_equal(ttrpc_server_flush(d->s.server, USEC_PER_SEC), 0);
    return sd_event_get_exit_code(d->event, &code) >= 0;
}

static void test_shutdown_empty(void **state) {
    assert_true(ends(*state, false));
}

static void test_shutdown(void **state) {
    create(*state);
    assert_false(ends(*state, false));
    assert_true(ends(*state, true));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, daemon_setup, daemon_teardown)

int main(void) {
    if (!own_mounts())
        return EXIT_SKIPPED;
    const struct CMUnitTest tests[] = {
        TEST(test_wait_disconnect),   TEST(test_exit_during_start),
        TEST(test_concurrent),        TEST(test_vm_dies),
        TEST(test_vm_dies_in_create), TEST(test_creator_lost),
        TEST(test_containerd_lost),   TEST(test_containerd_lost_in_a_pod),
        TEST(test_end_while_busy),    TEST(test_shutdown_empty),
        TEST(test_shutdown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
