/* SPDX-License-Identifier: Apache-2.0 */
/* The Sandbox service's Remove, in every state of a container. Needs root: the share is mounted for real. */
#include "task_calls.h"

static uint32_t monitor; /* of the container that was last removed */

static void start_remove(struct daemon *d, const char *id, struct later *l) {
    Stasis__Sandbox__V1__RemoveRequest req = STASIS__SANDBOX__V1__REMOVE_REQUEST__INIT;
    *l = (struct later){0};
    req.id = text(id);
    if (sandbox_find(d->s.sb, id))
        monitor = monitor_of(d, id);
    start_call(d, d->client, SANDBOX, "Remove", &req.base, l);
}

/* It was answered so. */
static void expect_removed(struct daemon *d, struct later *l, uint32_t pid, uint32_t status) {
    RUN_UNTIL(d->event, l->n);
    if (!l->reply)
        fail_msg("%s", l->err.msg);
    const Stasis__Sandbox__V1__RemoveResponse *r = (const void *)l->reply;
    assert_int_equal(r->pid, pid);
    assert_int_equal(r->exit_status, status);
    assert_true(r->exited_wall_usec > 0 && r->exited_wall_usec <= now_wall_usec());
    protobuf_c_message_free_unpacked(TAKE_PTR(l->reply), NULL);
    assert_null(sandbox_find(d->s.sb, "c1"));
}

static bool loop_ended(struct daemon *d) {
    int code;
    return sd_event_get_exit_code(d->event, &code) >= 0;
}

static void test_running(void **state) {
    struct daemon *d = *state;
    static struct later l, w;
    w = (struct later){0};
    create_c2(d);
    create(d);
    must(d, "Start", "");
    start_wait(d, d->client, "", &w);
    start_remove(d, "c1", &l);
    RUN_UNTIL(d->event, the_agent()->n_signals == 1);
    assert_int_equal(the_agent()->signal, 9);
    assert_true(the_agent()->signal_all);
    assert_string_equal(the_agent()->last, "c1/");
    run_idle(d->event);
    assert_int_equal(l.n, 0); /* not before it has ended */
    mock_exit(the_agent(), 137, 5000000, false);
    expect_removed(d, &l, monitor, 137);
    expect_exit(d, &w, 137);
    assert_string_equal(the_agent()->last, "c1"); /* DeleteContainer */
    assert_int_equal(sandbox_count(d->s.sb), 1);
    assert_false(loop_ended(d));
}

static void test_paused(void **state) {
    struct daemon *d = *state;
    static struct later l;
    create_c2(d);
    create(d);
    must(d, "Start", "");
    must(d, "Pause", "");
    start_remove(d, "c1", &l);
    RUN_UNTIL(d->event, the_agent()->n_signals == 1);
    mock_exit(the_agent(), 137, 5000000, false);
    expect_removed(d, &l, monitor, 137);
}

static void test_created(void **state) {
    struct daemon *d = *state;
    static struct later l;
    create_c2(d);
    create(d);
    start_remove(d, "c1", &l);
    expect_removed(d, &l, monitor, 137);
    assert_int_equal(the_agent()->n_signals, 0);
    assert_false(loop_ended(d));
}

static void test_stopped(void **state) {
    struct daemon *d = *state;
    static struct later l;
    create_c2(d);
    create(d);
    must(d, "Start", "");
    mock_exit(the_agent(), 3, 5000000, false);
    RUN_UNTIL(d->event, status_of(d, "", NULL) == CONTAINERD__TASK__V2__STATUS__STOPPED);
    start_remove(d, "c1", &l);
    expect_removed(d, &l, monitor, 3);
    assert_int_equal(the_agent()->n_signals, 0);
}

static void test_unknown(void **state) {
    struct daemon *d = *state;
    static struct later l;
    create(d);
    start_remove(d, "ghost", &l);
    RUN_UNTIL(d->event, l.n);
    assert_non_null(l.reply);
    assert_int_equal(((Stasis__Sandbox__V1__RemoveResponse *)l.reply)->pid, 0);
    assert_int_equal(((Stasis__Sandbox__V1__RemoveResponse *)l.reply)->exit_status, 137);
    protobuf_c_message_free_unpacked(TAKE_PTR(l.reply), NULL);
    assert_int_equal(sandbox_count(d->s.sb), 1);
    assert_false(loop_ended(d));
}

/* With the last one the daemon ends, once it has answered. */
static void test_last(void **state) {
    struct daemon *d = *state;
    static struct later l;
    create(d);
    start_remove(d, "c1", &l);
    uint64_t end = now_usec() + TEST_DEADLINE;
    while (!loop_ended(d)) {
        assert_true(now_usec() < end);
        assert_true(sd_event_run(d->event, 10 * USEC_PER_MSEC) >= 0);
    }
    assert_int_equal(ttrpc_server_flush(d->s.server, USEC_PER_SEC), 0);
    assert_int_equal(sandbox_count(d->s.sb), 0);
    assert_true(share_is_empty(d));
    if (l.reply)
        protobuf_c_message_free_unpacked(TAKE_PTR(l.reply), NULL);
}

/* ---- while something else is under way ---- */

/* Hold the agent's answer to what `method` asks about c1. */
static void start_held(struct daemon *d, const char *method, const ProtobufCMessage *req, struct later *l) {
    *l = (struct later){0};
    the_agent()->hold = true;
    start_call(d, d->client, TASK, method, req, l);
    RUN_UNTIL(d->event, the_agent()->kept);
    the_agent()->hold = false;
}

static void test_being_created(void **state) {
    struct daemon *d = *state;
    static struct later l, created;
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    create_c2(d);
    start_held(d, "Create", &req.base, &created);
    start_remove(d, "c1", &l);
    run_idle(d->event);
    assert_int_equal(l.n, 0);
    ttrpc_reply(TAKE_PTR(the_agent()->kept), NULL);
    RUN_UNTIL(d->event, created.n);
    expect_removed(d, &l, monitor, 137);
    if (created.reply)
        protobuf_c_message_free_unpacked(TAKE_PTR(created.reply), NULL);
    assert_int_equal(sandbox_count(d->s.sb), 1);
}

/* ... and that fails. */
static void test_create_fails(void **state) {
    struct daemon *d = *state;
    static struct later l, created;
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    create_c2(d);
    start_held(d, "Create", &req.base, &created);
    start_remove(d, "c1", &l);
    run_idle(d->event);
    mock_fail(&the_agent()->kept, EIO, "no");
    RUN_UNTIL(d->event, created.n);
    ASSERT_SAYS(&created.err, "no");
    expect_removed(d, &l, monitor, 137);
}

static void test_being_started(void **state) {
    struct daemon *d = *state;
    static struct later l, started;
    Containerd__Task__V2__StartRequest req = CONTAINERD__TASK__V2__START_REQUEST__INIT;
    create_c2(d);
    create(d);
    req.id = text("c1");
    start_held(d, "Start", &req.base, &started);
    start_remove(d, "c1", &l);
    RUN_UNTIL(d->event, the_agent()->n_signals == 1);
    /* It dies of that before the start is over. */
    mock_exit(the_agent(), 137, 1000, false);
    run_idle(d->event);
    assert_int_equal(l.n, 0);
    ttrpc_reply(TAKE_PTR(the_agent()->kept), NULL);
    RUN_UNTIL(d->event, started.n);
    expect_removed(d, &l, monitor, 137);
    if (started.reply)
        protobuf_c_message_free_unpacked(TAKE_PTR(started.reply), NULL);
}

static void test_being_deleted(void **state) {
    struct daemon *d = *state;
    static struct later l, deleted;
    Containerd__Task__V2__DeleteRequest req = CONTAINERD__TASK__V2__DELETE_REQUEST__INIT;
    create_c2(d);
    create(d);
    req.id = text("c1");
    start_held(d, "Delete", &req.base, &deleted);
    start_remove(d, "c1", &l);
    run_idle(d->event);
    assert_int_equal(l.n, 0);
    ttrpc_reply(TAKE_PTR(the_agent()->kept), NULL);
    RUN_UNTIL(d->event, deleted.n);
    expect_removed(d, &l, monitor, 137);
    protobuf_c_message_free_unpacked(TAKE_PTR(deleted.reply), NULL);
}

/* Task.Delete, twice: the second finds it gone, or takes over where the first failed. */
static void test_two_deletes(void **state) {
    struct daemon *d = *state;
    static struct later deleted[2];
    Containerd__Task__V2__DeleteRequest req = CONTAINERD__TASK__V2__DELETE_REQUEST__INIT;
    req.id = text("c1");
    create_c2(d);
    for (int first_fails = 0; first_fails < 2; first_fails++) {
        memset(deleted, 0, sizeof(deleted));
        create(d);
        start_held(d, "Delete", &req.base, &deleted[0]);
        start_call(d, d->client, TASK, "Delete", &req.base, &deleted[1]);
        /* What was never started ends by being deleted. */
        mock_exit(the_agent(), 137, 1000, false);
        run_idle(d->event);
        assert_int_equal(deleted[0].n + deleted[1].n, 0);
        struct err no = {.code = EIO, .msg = "no"};
        if (first_fails)
            ttrpc_fail(TAKE_PTR(the_agent()->kept), &no);
        else
            ttrpc_reply(TAKE_PTR(the_agent()->kept), NULL);
        RUN_UNTIL(d->event, deleted[0].n && deleted[1].n);
        ASSERT_SAYS(&deleted[!first_fails].err, first_fails ? "no" : "container c1 does not exist");
        assert_null(sandbox_find(d->s.sb, "c1"));
        protobuf_c_message_free_unpacked(TAKE_PTR(deleted[first_fails].reply), NULL);
    }
}

static void test_two_at_once(void **state) {
    struct daemon *d = *state;
    static struct later l[2];
    create_c2(d);
    create(d);
    must(d, "Start", "");
    start_remove(d, "c1", &l[0]);
    start_remove(d, "c1", &l[1]);
    RUN_UNTIL(d->event, the_agent()->n_signals == 2);
    mock_exit(the_agent(), 137, 5000000, false);
    expect_removed(d, &l[0], monitor, 137);
    expect_removed(d, &l[1], monitor, 137);
}

static void test_agent_fails(void **state) {
    struct daemon *d = *state;
    static struct later l;
    create_c2(d);
    create(d);
    the_agent()->fail = EIO;
    start_remove(d, "c1", &l);
    RUN_UNTIL(d->event, l.n);
    ASSERT_SAYS(&l.err, "the agent says no");
    the_agent()->fail = 0;
    start_remove(d, "c1", &l);
    expect_removed(d, &l, monitor, 137);
}

static void test_vm_dies(void **state) {
    struct daemon *d = *state;
    static struct later l;
    create_c2(d);
    create(d);
    must(d, "Start", "");
    start_remove(d, "c1", &l);
    RUN_UNTIL(d->event, the_agent()->n_signals == 1);
    vm_dies("QEMU was killed by signal 9");
    expect_removed(d, &l, monitor, 137);
}

static void test_daemon_ends(void **state) {
    struct daemon *d = *state;
    static struct later l;
    create(d);
    must(d, "Start", "");
    start_remove(d, "c1", &l);
    RUN_UNTIL(d->event, the_agent()->n_signals == 1);
    d->s.sb = sandbox_free(d->s.sb);
    assert_int_equal(ttrpc_server_flush(d->s.server, USEC_PER_SEC), 0);
    if (l.reply)
        protobuf_c_message_free_unpacked(TAKE_PTR(l.reply), NULL);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, daemon_setup, daemon_teardown)

int main(void) {
    if (!own_mounts())
        return EXIT_SKIPPED;
    const struct CMUnitTest tests[] = {
        TEST(test_running),       TEST(test_paused),        TEST(test_created),       TEST(test_stopped),
        TEST(test_unknown),       TEST(test_last),          TEST(test_being_created), TEST(test_create_fails),
        TEST(test_being_started), TEST(test_being_deleted), TEST(test_two_deletes),   TEST(test_two_at_once),
        TEST(test_agent_fails),   TEST(test_vm_dies),       TEST(test_daemon_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
