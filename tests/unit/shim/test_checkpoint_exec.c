/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint that waits for the processes exec'd into the container. Needs root: the share is mounted for real. */
#include "checkpoints.h"

static enum container_state state_of(const struct daemon *d) {
    return container_get_state(sandbox_find(d->s.sb, "c1"));
}

static CheckpointRequest waiting_request(const struct daemon *d) {
    OurOptions o = STASIS__SANDBOX__V1__CHECKPOINT_OPTIONS__INIT;
    o.wait_execs = true;
    o.leave_running = true;
    return checkpoint_with(d, TYPE_OURS, &o);
}

static void test_wait_execs(void **state) {
    struct daemon *d = *state;
    struct later l = {0};
    create_dumpable(d);
    assert_int_equal(add_exec(d, "one"), 0);
    must(d, "Start", "one");
    CheckpointRequest req = waiting_request(d);
    start_call(d, d->client, TASK, "Checkpoint", &req.base, &l);
    RUN_UNTIL(d->event, state_of(d) == CONTAINER_CHECKPOINTING);
    run_idle(d->event);
    assert_int_equal(l.n, 0);
    assert_null(the_agent()->checkpoint);
    mock_answer_wait(&the_agent()->exec_waiter, 0, 5, false);
    RUN_UNTIL(d->event, l.n);
    if (!l.reply)
        fail_msg("%s", l.err.msg);
    mock_forget(l.reply);
    assert_true(is_there(d, "ck/inventory.img"));
    /* None is left: it does not wait. */
    if (daemon_call(d, "Checkpoint", &req.base, NULL) < 0)
        fail_msg("%s", d->err.msg);
}

/* The container ends while it is waited for, or the daemon does. */
static void test_wait_execs_in_vain(void **state) {
    struct daemon *d = *state;
    struct later l = {0};
    create_dumpable(d);
    assert_int_equal(add_exec(d, "one"), 0);
    must(d, "Start", "one");
    CheckpointRequest req = waiting_request(d);
    start_call(d, d->client, TASK, "Checkpoint", &req.base, &l);
    RUN_UNTIL(d->event, state_of(d) == CONTAINER_CHECKPOINTING);
    mock_exit(the_agent(), 0, 5, false);
    RUN_UNTIL(d->event, state_of(d) == CONTAINER_STOPPED);
    mock_answer_wait(&the_agent()->exec_waiter, 137, 5, false);
    RUN_UNTIL(d->event, l.n);
    ASSERT_SAYS(&l.err, "cannot checkpoint container c1: it has stopped");
    assert_null(the_agent()->checkpoint);
    assert_clean(d);
}

static void test_end_while_waiting(void **state) {
    struct daemon *d = *state;
    struct later l = {0};
    create_dumpable(d);
    assert_int_equal(add_exec(d, "one"), 0);
    must(d, "Start", "one");
    CheckpointRequest req = waiting_request(d);
    start_call(d, d->client, TASK, "Checkpoint", &req.base, &l);
    RUN_UNTIL(d->event, state_of(d) == CONTAINER_CHECKPOINTING);
    d->s.sb = sandbox_free(d->s.sb);
    RUN_UNTIL(d->event, l.n);
    ASSERT_SAYS(&l.err, "container c1 was removed");
}

/* A paused container's exec never ends: said at once. */
static void test_wait_execs_paused(void **state) {
    struct daemon *d = *state;
    create_dumpable(d);
    assert_int_equal(add_exec(d, "one"), 0);
    must(d, "Start", "one");
    must(d, "Pause", "");
    *the_agent()->trace = '\0';
    CheckpointRequest req = waiting_request(d);
    assert_int_equal(daemon_call(d, "Checkpoint", &req.base, NULL), -EBUSY);
    ASSERT_SAYS(&d->err, "exec one of the paused container does not end");
    assert_int_equal(state_of(d), CONTAINER_PAUSED);
    assert_string_equal(the_agent()->trace, "");
    assert_clean(d);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, daemon_setup, daemon_teardown)

int main(void) {
    if (!own_mounts())
        return EXIT_SKIPPED;
    const struct CMUnitTest tests[] = {
        TEST(test_wait_execs),
        TEST(test_wait_execs_in_vain),
        TEST(test_end_while_waiting),
        TEST(test_wait_execs_paused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
