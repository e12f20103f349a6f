/* SPDX-License-Identifier: Apache-2.0 */
#include "mock_events.h"

#include "shim/events.h"

#define EXITED UINT64_C(1700000000123456)

/* The only event that came, decoded: `Type *msg`, to be freed with done(). */
#define EVENT(m, topic, Type, type)                                                                                    \
    Containerd__Events__##Type *msg =                                                                                  \
        receive(m, topic, "containerd.events." #Type, &containerd__events__##type##__descriptor)

static void *receive(struct mock_events *m, const char *topic, const char *type_url,
                     const ProtobufCMessageDescriptor *desc) {
    RUN_UNTIL(m->event, publisher_is_idle(m->p));
    assert_int_equal(m->n, 1);
    return received(m, 0, topic, type_url, desc);
}

static void done(struct mock_events *m, ProtobufCMessage *msg) {
    assert_int_equal(msg->n_unknown_fields, 0);
    protobuf_c_message_free_unpacked(msg, NULL);
    protobuf_c_message_free_unpacked(&m->received[0]->base, NULL);
    m->n = 0;
}

static int setup(void **state) {
    int r = mock_events_setup(state);
    if (r < 0)
        return r;
    mock_events_start(*state);
    mock_events_connect(*state, NULL);
    return 0;
}

static void create(void **state) {
    struct mock_events *m = *state;
    char a[] = "rw", b[] = "lowerdir=/a:/b";
    char *options[] = {a, b};
    struct events_mount mounts[] = {
        {.type = "overlay", .source = "overlay", .options = options, .n_options = 2},
        {.type = "bind", .source = "/src", .target = "/dst"},
    };
    struct events_create c = {.container_id = "c1",
                              .bundle = "/run/b",
                              .stdin = "/in",
                              .stdout = "/out",
                              .stderr = "/err",
                              .terminal = true,
                              .checkpoint = "/cp",
                              .pid = 42,
                              .rootfs = mounts,
                              .n_rootfs = 2};
    events_task_create(m->p, &c);
    EVENT(m, "/tasks/create", TaskCreate, task_create);
    assert_string_equal(msg->container_id, "c1");
    assert_string_equal(msg->bundle, "/run/b");
    assert_string_equal(msg->io->stdin, "/in");
    assert_string_equal(msg->io->stdout, "/out");
    assert_string_equal(msg->io->stderr, "/err");
    assert_true(msg->io->terminal);
    assert_string_equal(msg->checkpoint, "/cp");
    assert_int_equal(msg->pid, 42);
    assert_int_equal(msg->n_rootfs, 2);
    assert_string_equal(msg->rootfs[0]->type, "overlay");
    assert_string_equal(msg->rootfs[0]->target, "");
    assert_int_equal(msg->rootfs[0]->n_options, 2);
    assert_string_equal(msg->rootfs[0]->options[1], b);
    assert_string_equal(msg->rootfs[1]->source, "/src");
    assert_string_equal(msg->rootfs[1]->target, "/dst");
    done(m, &msg->base);
}

static void create_with_little(void **state) {
    struct mock_events *m = *state;
    struct events_create c = {.container_id = "c1", .bundle = "/b", .stdin = "", .pid = 1};
    events_task_create(m->p, &c);
    EVENT(m, "/tasks/create", TaskCreate, task_create);
    assert_non_null(msg->io);
    assert_string_equal(msg->io->stdout, "");
    assert_string_equal(msg->checkpoint, "");
    assert_int_equal(msg->n_rootfs, 0);
    done(m, &msg->base);
}

static void start(void **state) {
    struct mock_events *m = *state;
    events_task_start(m->p, "c1", 7);
    EVENT(m, "/tasks/start", TaskStart, task_start);
    assert_string_equal(msg->container_id, "c1");
    assert_int_equal(msg->pid, 7);
    done(m, &msg->base);
}

static void exits(void **state) {
    struct mock_events *m = *state;
    events_task_exit(m->p, "c1", "e1", 7, 137, EXITED);
    EVENT(m, "/tasks/exit", TaskExit, task_exit);
    assert_string_equal(msg->container_id, "c1");
    assert_string_equal(msg->id, "e1");
    assert_int_equal(msg->pid, 7);
    assert_int_equal(msg->exit_status, 137);
    assert_int_equal(msg->exited_at->seconds, 1700000000);
    assert_int_equal(msg->exited_at->nanos, 123456000);
    done(m, &msg->base);
}

static void deletes(void **state) {
    struct mock_events *m = *state;
    events_task_delete(m->p, "c1", "", 7, 1, EXITED);
    EVENT(m, "/tasks/delete", TaskDelete, task_delete);
    assert_string_equal(msg->container_id, "c1");
    assert_string_equal(msg->id, "");
    assert_int_equal(msg->pid, 7);
    assert_int_equal(msg->exit_status, 1);
    assert_int_equal(msg->exited_at->seconds, 1700000000);
    assert_int_equal(msg->exited_at->nanos, 123456000);
    done(m, &msg->base);
}

static void exec_added(void **state) {
    struct mock_events *m = *state;
    events_task_exec_added(m->p, "c1", "e1");
    EVENT(m, "/tasks/exec-added", TaskExecAdded, task_exec_added);
    assert_string_equal(msg->container_id, "c1");
    assert_string_equal(msg->exec_id, "e1");
    done(m, &msg->base);
}

static void exec_started(void **state) {
    struct mock_events *m = *state;
    events_task_exec_started(m->p, "c1", "e1", 9);
    EVENT(m, "/tasks/exec-started", TaskExecStarted, task_exec_started);
    assert_string_equal(msg->container_id, "c1");
    assert_string_equal(msg->exec_id, "e1");
    assert_int_equal(msg->pid, 9);
    done(m, &msg->base);
}

static void checkpointed(void **state) {
    struct mock_events *m = *state;
    events_task_checkpointed(m->p, "c1", "/cp");
    EVENT(m, "/tasks/checkpointed", TaskCheckpointed, task_checkpointed);
    assert_string_equal(msg->container_id, "c1");
    assert_string_equal(msg->checkpoint, "/cp");
    done(m, &msg->base);
}

static void with_the_container_alone(void **state) {
    struct mock_events *m = *state;
    {
        events_task_oom(m->p, "c1");
        EVENT(m, "/tasks/oom", TaskOOM, task_oom);
        assert_string_equal(msg->container_id, "c1");
        done(m, &msg->base);
    }
    {
        events_task_paused(m->p, "c2");
        EVENT(m, "/tasks/paused", TaskPaused, task_paused);
        assert_string_equal(msg->container_id, "c2");
        done(m, &msg->base);
    }
    {
        events_task_resumed(m->p, "c3");
        EVENT(m, "/tasks/resumed", TaskResumed, task_resumed);
        assert_string_equal(msg->container_id, "c3");
        done(m, &msg->base);
    }
}

/* Numbers and types on the wire as containerd's task.proto has them, which our own decoder cannot tell. */
static void on_the_wire(void **state) {
    struct mock_events *m = *state;
    static const uint8_t want[] = {0x0a, 1, 'c', 0x12, 1, 'e', 0x18, 7, 0x20, 9, 0x2a, 2, 0x08, 2};
    events_task_exit(m->p, "c", "e", 7, 9, 2 * USEC_PER_SEC);
    RUN_UNTIL(m->event, publisher_is_idle(m->p));
    const Containerd__Services__Events__Ttrpc__V1__Envelope *e = m->received[0]->envelope;
    assert_int_equal(e->event->value.len, sizeof(want));
    assert_memory_equal(e->event->value.data, want, sizeof(want));
}

static void nobody_to_tell(void **state) {
    (void)state;
    struct events_create c = {.container_id = "c1"};
    events_task_create(NULL, &c);
    events_task_start(NULL, "c", 1);
    events_task_exit(NULL, "c", "c", 1, 0, 0);
    events_task_delete(NULL, "c", "", 1, 0, 0);
    events_task_exec_added(NULL, "c", "e");
    events_task_exec_started(NULL, "c", "e", 1);
    events_task_oom(NULL, "c");
    events_task_paused(NULL, "c");
    events_task_resumed(NULL, "c");
    events_task_checkpointed(NULL, "c", "/cp");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, mock_events_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(create),
        TEST(create_with_little),
        TEST(start),
        TEST(exits),
        TEST(deletes),
        TEST(exec_added),
        TEST(exec_started),
        TEST(checkpointed),
        TEST(with_the_container_alone),
        TEST(on_the_wire),
        cmocka_unit_test(nobody_to_tell),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
