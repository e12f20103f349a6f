/* SPDX-License-Identifier: Apache-2.0 */
/* Which events come of which calls, and in which order. Needs root: the share is mounted for real. */
#include "checkpoints.h"
#include "mock_events.h"

#include "shim/notify.h"

struct fixture {
    struct daemon *d;
    struct mock_events *m;
    uint32_t monitor;
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    void *d = NULL;
    if (!f || daemon_setup(&d) < 0)
        return -1;
    f->d = d;
    f->m = calloc(1, sizeof(*f->m));
    f->m->dir = f->d->dir;
    f->m->event = f->d->event;
    f->m->path = tmpdir_path(f->m->dir, "events.sock");
    mock_events_start(f->m);
    mock_events_connect(f->m, NULL);
    f->d->s.publisher = f->m->p;
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    struct mock_events *m = f->m;
    void *d = f->d;
    f->d->s.sb = sandbox_free(f->d->s.sb);
    notify_clear(&f->d->s);
    publisher_free(m->p);
    mock_events_stop(m);
    for (size_t i = 0; i < m->n; i++)
        protobuf_c_message_free_unpacked(&m->received[i]->base, NULL);
    free(m->path);
    free(m->log);
    free(m);
    free(f);
    return daemon_teardown(&d);
}

/* Exactly these have come, in this order; forgets them. */
static void expect(struct fixture *f, const char *topics) {
    struct mock_events *m = f->m;
    char got[1024] = "";
    RUN_UNTIL(f->d->event, publisher_is_idle(m->p));
    for (size_t i = 0; i < m->n; i++)
        snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s", i ? " " : "",
                 m->received[i]->envelope->topic + strlen("/tasks/"));
    assert_string_equal(got, topics);
}

static void forget(struct fixture *f) {
    for (; f->m->n > 0; f->m->n--)
        protobuf_c_message_free_unpacked(&f->m->received[f->m->n - 1]->base, NULL);
}

/* ---- a container's life ---- */

static void check_create(struct fixture *f) {
    Containerd__Events__TaskCreate *e = received(f->m, 0, "/tasks/create", "containerd.events.TaskCreate",
                                                 &containerd__events__task_create__descriptor);
    assert_string_equal(e->container_id, "c1");
    assert_string_equal(e->bundle, f->d->bundle);
    assert_int_equal(e->pid, f->monitor);
    assert_string_equal(e->checkpoint, "");
    assert_int_equal(e->n_rootfs, 1);
    assert_string_equal(e->rootfs[0]->type, "bind");
    assert_string_equal(e->rootfs[0]->source, f->d->bundle);
    assert_int_equal(e->rootfs[0]->n_options, 1);
    assert_string_equal(e->rootfs[0]->options[0], "ro");
    assert_false(e->io->terminal);
    assert_string_equal(e->io->stdout, "");
    containerd__events__task_create__free_unpacked(e, NULL);
}

static void check_end(struct fixture *f) {
    Containerd__Events__TaskExit *e =
        received(f->m, 2, "/tasks/exit", "containerd.events.TaskExit", &containerd__events__task_exit__descriptor);
    assert_string_equal(e->container_id, "c1");
    assert_string_equal(e->id, "c1");
    assert_int_equal(e->pid, f->monitor);
    assert_int_equal(e->exit_status, 7);
    /* The agent said 5: not before it was made. */
    assert_in_range(e->exited_at->seconds, time(NULL) - 60, time(NULL));
    containerd__events__task_exit__free_unpacked(e, NULL);
    Containerd__Events__TaskDelete *del = received(f->m, 3, "/tasks/delete", "containerd.events.TaskDelete",
                                                   &containerd__events__task_delete__descriptor);
    assert_string_equal(del->container_id, "c1");
    assert_string_equal(del->id, "");
    assert_int_equal(del->exit_status, 7);
    assert_in_range(del->exited_at->seconds, time(NULL) - 60, time(NULL));
    containerd__events__task_delete__free_unpacked(del, NULL);
}

static void test_life(void **state) {
    struct fixture *f = *state;
    struct daemon *d = f->d;
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    Containerd__Task__V2__Mount m = CONTAINERD__TASK__V2__MOUNT__INIT, *list[] = {&m};
    char *options[] = {text("ro")};
    m.type = text("bind");
    m.source = d->bundle;
    m.options = options;
    m.n_options = 1;
    req.rootfs = list;
    req.n_rootfs = 1;
    if (daemon_call(d, "Create", &req.base, NULL) < 0)
        fail_msg("%s", d->err.msg);
    expect(f, "create");
    f->monitor = monitor_of(d, "c1");
    must(d, "Start", "");
    expect(f, "create start");
    mock_exit(the_agent(), 7, 5000000, false);
    RUN_UNTIL(d->event, status_of(d, "", NULL) == CONTAINERD__TASK__V2__STATUS__STOPPED);
    expect(f, "create start exit");
    must(d, "Delete", "");
    expect(f, "create start exit delete");
    check_create(f);
    check_end(f);
    assert_null(d->s.watched);
}

/* Told when the checkpoint is there, with its path. A frozen one is no pause of the client's. */
static void test_checkpointed(void **state) {
    struct fixture *f = *state;
    struct daemon *d = f->d;
    create_dumpable(d);
    expect(f, "create start");
    CheckpointRequest req = checkpoint_request(d);
    if (daemon_call(d, "Checkpoint", &req.base, NULL) < 0)
        fail_msg("%s", d->err.msg);
    expect(f, "create start checkpointed");
    Containerd__Events__TaskCheckpointed *e =
        received(f->m, 2, "/tasks/checkpointed", "containerd.events.TaskCheckpointed",
                 &containerd__events__task_checkpointed__descriptor);
    assert_string_equal(e->container_id, "c1");
    assert_string_equal(e->checkpoint, req.path);
    containerd__events__task_checkpointed__free_unpacked(e, NULL);
    forget(f);
    the_agent()->fail_criu = "CRIU says no";
    assert_true(daemon_call(d, "Checkpoint", &req.base, NULL) < 0);
    expect(f, "");
    the_agent()->fail_criu = NULL;
    struct later l = {0};
    RuncOptions o = CONTAINERD__RUNC__V1__CHECKPOINT_OPTIONS__INIT;
    o.exit = true;
    req = checkpoint_with(d, TYPE_RUNC, &o);
    start_call(d, d->client, TASK, "Checkpoint", &req.base, &l);
    RUN_UNTIL(d->event, the_agent()->n_signals || l.n);
    mock_exit(the_agent(), 137, 5000000, false);
    RUN_UNTIL(d->event, l.n);
    if (!l.reply)
        fail_msg("%s", l.err.msg);
    mock_forget(l.reply);
    RUN_UNTIL(d->event, f->m->n == 2);
    const char *first = f->m->received[0]->envelope->topic; /* which of them is first is not promised */
    expect(f, strcmp(first, "/tasks/exit") == 0 ? "exit checkpointed" : "checkpointed exit");
}

/* What was refused was never there. */
static void test_create_fails(void **state) {
    struct fixture *f = *state;
    struct daemon *d = f->d;
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    req.bundle = text("/nonexistent");
    assert_int_equal(daemon_call(d, "Create", &req.base, NULL), -ENOENT);
    fake_vm.fail = true;
    req = create_request(d);
    assert_int_equal(daemon_call(d, "Create", &req.base, NULL), -EIO);
    expect(f, "");
}

/* Deleted before it was started: it is killed. */
static void test_never_started(void **state) {
    struct fixture *f = *state;
    create(f->d);
    must(f->d, "Delete", "");
    expect(f, "create exit delete");
}

/* A program that ends at once: its exit waits for the answer of Start. */
static void test_exit_before_start(void **state) {
    struct fixture *f = *state;
    struct daemon *d = f->d;
    struct later l = {0};
    Containerd__Task__V2__StartRequest req = CONTAINERD__TASK__V2__START_REQUEST__INIT;
    create(d);
    req.id = text("c1");
    the_agent()->hold = true;
    start_call(d, d->client, TASK, "Start", &req.base, &l);
    RUN_UNTIL(d->event, the_agent()->kept);
    mock_exit(the_agent(), 1, 1000, false);
    RUN_UNTIL(d->event, status_of(d, "", NULL) == CONTAINERD__TASK__V2__STATUS__STOPPED);
    /* A second Start, which is refused, changes nothing. */
    assert_int_equal(simple(d, "Start", ""), -EBUSY);
    run_idle(d->event);
    expect(f, "create");
    ttrpc_reply(TAKE_PTR(the_agent()->kept), NULL);
    RUN_UNTIL(d->event, l.n);
    assert_non_null(l.reply);
    protobuf_c_message_free_unpacked(l.reply, NULL);
    expect(f, "create start exit");
}

static void test_start_fails(void **state) {
    struct fixture *f = *state;
    struct daemon *d = f->d;
    create(d);
    the_agent()->fail = ENOENT;
    assert_int_equal(simple(d, "Start", ""), -ENOENT);
    the_agent()->fail = 0;
    expect(f, "create");
    f->monitor = monitor_of(d, "c1");
    must(d, "Start", "");
    expect(f, "create start");
    mock_exit(the_agent(), 1, 1000, false);
    RUN_UNTIL(d->event, status_of(d, "", NULL) == CONTAINERD__TASK__V2__STATUS__STOPPED);
    expect(f, "create start exit");
}

/* It ended, and then the start failed: no start, but an end. */
static void test_start_fails_for_a_dead_one(void **state) {
    struct fixture *f = *state;
    struct daemon *d = f->d;
    struct later l = {0};
    Containerd__Task__V2__StartRequest req = CONTAINERD__TASK__V2__START_REQUEST__INIT;
    create(d);
    req.id = text("c1");
    the_agent()->hold = true;
    start_call(d, d->client, TASK, "Start", &req.base, &l);
    RUN_UNTIL(d->event, the_agent()->kept);
    mock_exit(the_agent(), 1, 1000, false);
    RUN_UNTIL(d->event, status_of(d, "", NULL) == CONTAINERD__TASK__V2__STATUS__STOPPED);
    mock_fail(&the_agent()->kept, EIO, "no such program");
    RUN_UNTIL(d->event, l.n);
    ASSERT_SAYS(&l.err, "no such program");
    expect(f, "create exit");
}

static void test_paused(void **state) {
    struct fixture *f = *state;
    struct daemon *d = f->d;
    create(d);
    must(d, "Start", "");
    the_agent()->fail = EIO;
    assert_int_equal(simple(d, "Pause", ""), -EIO);
    the_agent()->fail = 0;
    must(d, "Pause", "");
    assert_int_equal(simple(d, "Pause", ""), -EBUSY);
    must(d, "Resume", "");
    expect(f, "create start paused resumed");
}

static void test_vm_dies(void **state) {
    struct fixture *f = *state;
    struct daemon *d = f->d;
    create(d);
    must(d, "Start", "");
    vm_dies("QEMU was killed by signal 9");
    RUN_UNTIL(d->event, status_of(d, "", NULL) == CONTAINERD__TASK__V2__STATUS__STOPPED);
    must(d, "Delete", "");
    expect(f, "create start exit delete");
}

/* The daemon ends with a container in it: its end is still told. */
static void test_daemon_ends(void **state) {
    struct fixture *f = *state;
    struct daemon *d = f->d;
    create(d);
    must(d, "Start", "");
    expect(f, "create start");
    d->s.sb = sandbox_free(d->s.sb);
    notify_clear(&d->s);
    assert_null(d->s.watched);
    expect(f, "create start exit");
}

/* ---- execs ---- */

static void test_exec(void **state) {
    struct fixture *f = *state;
    struct daemon *d = f->d;
    create(d);
    f->monitor = monitor_of(d, "c1");
    must(d, "Start", "");
    expect(f, "create start");
    forget(f);
    assert_int_equal(add_exec(d, "e1"), 0);
    assert_int_equal(add_exec(d, "e1"), -EEXIST);
    must(d, "Start", "e1");
    RUN_UNTIL(d->event, the_agent()->exec_waiter);
    mock_answer_wait(&the_agent()->exec_waiter, 3, 1000, false);
    RUN_UNTIL(d->event, status_of(d, "e1", NULL) == CONTAINERD__TASK__V2__STATUS__STOPPED);
    /* Its deletion is told nobody: as containerd's own shims. */
    must(d, "Delete", "e1");
    expect(f, "exec-added exec-started exit");
    Containerd__Events__TaskExecStarted *s =
        received(f->m, 1, "/tasks/exec-started", "containerd.events.TaskExecStarted",
                 &containerd__events__task_exec_started__descriptor);
    assert_string_equal(s->container_id, "c1");
    assert_string_equal(s->exec_id, "e1");
    assert_true(s->pid > 1 && s->pid != f->monitor);
    containerd__events__task_exec_started__free_unpacked(s, NULL);
    Containerd__Events__TaskExit *e =
        received(f->m, 2, "/tasks/exit", "containerd.events.TaskExit", &containerd__events__task_exit__descriptor);
    assert_string_equal(e->container_id, "c1");
    assert_string_equal(e->id, "e1");
    assert_int_equal(e->exit_status, 3);
    containerd__events__task_exit__free_unpacked(e, NULL);
}

/* What never ran does not exit. */
static void test_exec_never_ran(void **state) {
    struct fixture *f = *state;
    struct daemon *d = f->d;
    create(d);
    must(d, "Start", "");
    expect(f, "create start");
    forget(f);
    assert_int_equal(add_exec(d, "e1"), 0);
    must(d, "Delete", "e1");
    expect(f, "exec-added");
    forget(f);
    assert_int_equal(add_exec(d, "e2"), 0);
    the_agent()->fail = ENOENT;
    assert_int_equal(simple(d, "Start", "e2"), -ENOENT);
    the_agent()->fail = 0;
    RUN_UNTIL(d->event, status_of(d, "e2", NULL) == CONTAINERD__TASK__V2__STATUS__STOPPED);
    must(d, "Delete", "e2");
    expect(f, "exec-added");
}

/* ---- OOM kills ---- */

static void test_oom(void **state) {
    struct fixture *f = *state;
    struct daemon *d = f->d;
    create(d);
    RUN_UNTIL(d->event, the_agent()->events);
    expect(f, "create");
    mock_oom(the_agent(), "c2"); /* the guest's word */
    RUN_UNTIL(d->event, the_agent()->events);
    mock_oom(the_agent(), "");
    RUN_UNTIL(d->event, the_agent()->events);
    expect(f, "create");
    mock_oom(the_agent(), "c1");
    RUN_UNTIL(d->event, the_agent()->events);
    expect(f, "create oom");
    Containerd__Events__TaskOOM *e =
        received(f->m, 1, "/tasks/oom", "containerd.events.TaskOOM", &containerd__events__task_oom__descriptor);
    assert_string_equal(e->container_id, "c1");
    containerd__events__task_oom__free_unpacked(e, NULL);
    /* An agent that cannot is not asked again and again. */
    mock_fail(&the_agent()->events, ENOSYS, "what?");
    RUN_UNTIL(d->event, !d->s.oom_call);
    run_idle(d->event);
    assert_null(the_agent()->events);
}

/* An agent that answers at once, over and over: what it says in a burst is told, then it is asked once in a while. */
static void test_oom_flood(void **state) {
    struct fixture *f = *state;
    struct daemon *d = f->d;
    create(d);
    expect(f, "create");
    forget(f);
    RUN_UNTIL(d->event, the_agent()->events);
    uint64_t begin = now_usec();
    size_t n = 0;
    for (; the_agent()->events; n++) {
        mock_oom(the_agent(), "c1");
        RUN_UNTIL(d->event, f->m->n);
        expect(f, "oom");
        forget(f);
        run_idle(d->event);
        if (n > 4 * NOTIFY_OOM_BURST + (now_usec() - begin) / NOTIFY_OOM_USEC)
            fail_msg("it is asked without end");
    }
    assert_true(n >= NOTIFY_OOM_BURST);
    assert_true(n <= NOTIFY_OOM_BURST + 1 + (now_usec() - begin) / NOTIFY_OOM_USEC);
    /* Another container that is made meanwhile does not shorten it. */
    notify_watch_oom(&d->s);
    run_idle(d->event);
    assert_null(the_agent()->events);
    RUN_UNTIL(d->event, the_agent()->events);
    assert_true(now_usec() - begin >= NOTIFY_OOM_USEC);
    mock_oom(the_agent(), "c1");
    RUN_UNTIL(d->event, f->m->n);
    expect(f, "oom");
}

/* ---- the CLI's daemon ---- */

static void test_no_publisher(void **state) {
    struct fixture *f = *state;
    struct daemon *d = f->d;
    d->s.publisher = NULL;
    create(d);
    must(d, "Start", "");
    assert_int_equal(add_exec(d, "e1"), 0);
    must(d, "Start", "e1");
    must(d, "Pause", "");
    must(d, "Resume", "");
    assert_null(d->s.watched);
    assert_null(the_agent()->events);
    RUN_UNTIL(d->event, the_agent()->waiter);
    mock_exit(the_agent(), 1, 1000, false);
    RUN_UNTIL(d->event, status_of(d, "", NULL) == CONTAINERD__TASK__V2__STATUS__STOPPED);
    must(d, "Delete", "");
    expect(f, "");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    if (!own_mounts())
        return EXIT_SKIPPED;
    const struct CMUnitTest tests[] = {
        TEST(test_life),
        TEST(test_checkpointed),
        TEST(test_create_fails),
        TEST(test_never_started),
        TEST(test_exit_before_start),
        TEST(test_start_fails),
        TEST(test_start_fails_for_a_dead_one),
        TEST(test_paused),
        TEST(test_vm_dies),
        TEST(test_daemon_ends),
        TEST(test_exec),
        TEST(test_exec_never_ran),
        TEST(test_oom),
        TEST(test_oom_flood),
        TEST(test_no_publisher),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
