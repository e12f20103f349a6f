/* SPDX-License-Identifier: Apache-2.0 */
/* Callers that give up in the middle: their connection ends, their deadline passes, or they cancel. The container goes
 * on, and nothing stays. Needs root: the share is mounted for real. */
#include "checkpoints.h"

#include "sandbox/checkpoint.h"

#define SANDBOX (&stasis__sandbox__v1__sandbox__descriptor)
#define SOON (200 * USEC_PER_MSEC)

static bool runs(struct daemon *d) {
    return status_of(d, "", NULL) == CONTAINERD__TASK__V2__STATUS__RUNNING;
}

static void assert_nothing_made(const struct daemon *d) {
    cleanup_dir DIR *top = opendir(d->dir->path);
    for (const struct dirent *e; (e = readdir(top));)
        if (strncmp(e->d_name, "ck", 2) == 0 || strncmp(e->d_name, ".ck", 3) == 0)
            fail_msg("%s is there", e->d_name);
    assert_clean(d);
}

/* Starts a checkpoint on the connection, and runs until the agent keeps its part of it. */
static void dump_held(struct daemon *d, struct ttrpc_client *client, const CheckpointRequest *req, uint64_t timeout,
                      struct later *l) {
    the_agent()->hold_criu = true;
    assert_int_equal(ttrpc_client_call(client, TASK, "Checkpoint", &req->base, timeout, on_later, l, NULL, &d->err), 0);
    RUN_UNTIL(d->event, the_agent()->kept_criu);
}

static CheckpointRequest leave_running(const struct daemon *d) {
    return checkpoint_request(d);
}

static CheckpointRequest exit_after(const struct daemon *d) {
    OurOptions o = STASIS__SANDBOX__V1__CHECKPOINT_OPTIONS__INIT;
    return checkpoint_with(d, TYPE_OURS, &o);
}

static CheckpointRequest (*const variants[])(const struct daemon *d) = {leave_running, exit_after};

static void caller_goes(void **state) {
    struct daemon *d = *state;
    create_dumpable(d);
    for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
        struct later l = {0};
        CheckpointRequest req = variants[i](d);
        struct ttrpc_client *other = daemon_connect(d);
        dump_held(d, other, &req, TEST_DEADLINE, &l);
        ttrpc_client_free(other);
        RUN_UNTIL(d->event, ttrpc_server_connections(d->s.server) == 1);
        mock_answer_checkpoint(TAKE_PTR(the_agent()->kept_criu));
        RUN_UNTIL(d->event, runs(d));
        assert_nothing_made(d);
    }
}

static void deadline_passes(void **state) {
    struct daemon *d = *state;
    create_dumpable(d);
    for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
        struct later l = {0};
        CheckpointRequest req = variants[i](d);
        dump_held(d, d->client, &req, SOON, &l);
        RUN_UNTIL(d->event, l.n);
        assert_int_equal(l.err.code, ETIMEDOUT);
        RUN_UNTIL(d->event, container_checkpoint_waits(sandbox_find(d->s.sb, "c1")));
        mock_answer_checkpoint(TAKE_PTR(the_agent()->kept_criu));
        RUN_UNTIL(d->event, runs(d));
        assert_nothing_made(d);
    }
}

/* Says that CRIU goes on, and the call is answered when it does not any more. */
static void cancelled_in_the_dump(void **state) {
    struct daemon *d = *state;
    Stasis__Sandbox__V1__Empty none = STASIS__SANDBOX__V1__EMPTY__INIT;
    create_dumpable(d);
    for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
        struct later l = {0};
        Stasis__Sandbox__V1__CancelResponse *out = NULL;
        CheckpointRequest req = variants[i](d);
        dump_held(d, d->client, &req, TEST_DEADLINE, &l);
        assert_int_equal(daemon_call_fds(d, SANDBOX, "Cancel", &none.base, NULL, 0, &out), 0);
        assert_non_null(strstr(out->note, "CRIU cannot be stopped"));
        protobuf_c_message_free_unpacked(&out->base, NULL);
        assert_int_equal(l.n, 0);
        mock_answer_checkpoint(TAKE_PTR(the_agent()->kept_criu));
        RUN_UNTIL(d->event, l.n);
        ASSERT_SAYS(&l.err, "cannot checkpoint container c1: cancelled");
        assert_true(runs(d));
        assert_nothing_made(d);
    }
    the_agent()->hold_criu = false;
    CheckpointRequest again = leave_running(d);
    assert_int_equal(daemon_call(d, "Checkpoint", &again.base, NULL), 0);
    assert_true(is_there(d, "ck/inventory.img"));
}

/* Only what the connection itself has asked for. */
static void cancels_nothing_of_others(void **state) {
    struct daemon *d = *state;
    struct later l = {0}, c = {0};
    Stasis__Sandbox__V1__Empty none = STASIS__SANDBOX__V1__EMPTY__INIT;
    create_dumpable(d);
    CheckpointRequest req = leave_running(d);
    struct ttrpc_client *other = daemon_connect(d);
    dump_held(d, d->client, &req, TEST_DEADLINE, &l);
    start_call(d, other, SANDBOX, "Cancel", &none.base, &c);
    RUN_UNTIL(d->event, c.n);
    assert_string_equal(((const Stasis__Sandbox__V1__CancelResponse *)(const void *)c.reply)->note, "");
    mock_forget(TAKE_PTR(c.reply));
    mock_answer_checkpoint(TAKE_PTR(the_agent()->kept_criu));
    RUN_UNTIL(d->event, l.n);
    assert_non_null(l.reply);
    mock_forget(TAKE_PTR(l.reply));
    assert_true(is_there(d, "ck/inventory.img"));
    ttrpc_client_free(other);
}

/* Frozen to be dumped, and given up before the agent has said so. */
static void cancelled_in_the_pause(void **state) {
    struct daemon *d = *state;
    struct later l = {0};
    create_dumpable(d);
    CheckpointRequest req = exit_after(d);
    struct ttrpc_client *other = daemon_connect(d);
    the_agent()->hold = true;
    start_call(d, other, TASK, "Checkpoint", &req.base, &l);
    RUN_UNTIL(d->event, the_agent()->kept);
    ttrpc_client_free(other);
    RUN_UNTIL(d->event, ttrpc_server_connections(d->s.server) == 1);
    the_agent()->hold = false;
    ttrpc_reply(TAKE_PTR(the_agent()->kept), NULL);
    RUN_UNTIL(d->event, runs(d));
    assert_null(strstr(the_agent()->trace, "Checkpoint"));
    assert_nothing_made(d);
}

static void hold(struct daemon *d, struct ttrpc_client *client, const char *id, const char *scratch, struct later *l) {
    Stasis__Sandbox__V1__HoldRequest req = STASIS__SANDBOX__V1__HOLD_REQUEST__INIT;
    req.id = text(id);
    req.scratch = text(scratch);
    start_call(d, client, SANDBOX, "Hold", &req.base, l);
}

/* A client that has paused it for longer, and has files. */
static void holder_goes(void **state) {
    struct daemon *d = *state;
    struct later l = {0}, p = {0};
    Containerd__Task__V2__PauseRequest pause = CONTAINERD__TASK__V2__PAUSE_REQUEST__INIT;
    pause.id = text("c1");
    create_dumpable(d);
    assert_int_equal(mkdirat(d->dir->fd, ".scratch", 0700), 0);
    tmpdir_write(d->dir, ".scratch/pages-1.img", "half");
    struct ttrpc_client *other = daemon_connect(d);
    hold(d, other, "c1", in_dir(d, ".scratch"), &l);
    start_call(d, other, TASK, "Pause", &pause.base, &p);
    RUN_UNTIL(d->event, p.n);
    mock_forget(TAKE_PTR(p.reply));
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__PAUSED);
    assert_int_equal(l.n, 0);
    ttrpc_client_free(other);
    RUN_UNTIL(d->event, runs(d));
    assert_false(is_there(d, ".scratch"));
}

static void holds_no_strange_paths(void **state) {
    struct daemon *d = *state;
    create_dumpable(d);
    const char *const bad[] = {"relative/.x", "/a/../.x", "/etc", "/"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct later l = {0};
        hold(d, d->client, "c1", bad[i], &l);
        RUN_UNTIL(d->event, l.n);
        ASSERT_SAYS(&l.err, "hidden directory");
    }
}

/* containerd's deadline in a restore: the container is what it was before, and can be started again. */
static void restore_late(void **state) {
    struct daemon *d = *state;
    struct later l = {0};
    Containerd__Task__V2__CreateTaskRequest create_it = create_request(d);
    Containerd__Task__V2__StartRequest start = CONTAINERD__TASK__V2__START_REQUEST__INIT;
    start.id = text("c1");
    assert_int_equal(mkdirat(d->dir->fd, "image", 0700), 0);
    tmpdir_write(d->dir, "image/inventory.img", "inventory");
    create_it.checkpoint = in_dir(d, "image");
    d->s.namespace = "ns";
    assert_int_equal(daemon_call(d, "Create", &create_it.base, NULL), 0);
    the_agent()->hold_criu = true;
    assert_int_equal(ttrpc_client_call(d->client, TASK, "Start", &start.base, SOON, on_later, &l, NULL, &d->err), 0);
    RUN_UNTIL(d->event, the_agent()->kept_criu);
    *the_agent()->last = '\0';
    uint64_t got = now_usec(); /* the server's deadline is before this and SOON */
    RUN_UNTIL(d->event, l.n);
    assert_int_equal(l.err.code, ETIMEDOUT);
    while (now_usec() <= got + SOON)
        (void)sd_event_run(d->event, USEC_PER_MSEC);
    run_idle(d->event);
    mock_answer_restore(TAKE_PTR(the_agent()->kept_criu));
    struct container *c = sandbox_find(d->s.sb, "c1");
    RUN_UNTIL(d->event, !container_is_busy(c));
    assert_int_equal(container_get_state(c), CONTAINER_CREATED);
    RUN_UNTIL(d->event, strcmp(the_agent()->last, "c1") == 0); /* DeleteContainer */
    d->s.namespace = NULL;
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, daemon_setup, daemon_teardown)

int main(void) {
    if (!own_mounts())
        return EXIT_SKIPPED;
    const struct CMUnitTest tests[] = {
        TEST(caller_goes),
        TEST(deadline_passes),
        TEST(cancelled_in_the_dump),
        TEST(cancels_nothing_of_others),
        TEST(cancelled_in_the_pause),
        TEST(holder_goes),
        TEST(holds_no_strange_paths),
        TEST(restore_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
