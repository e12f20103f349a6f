/* SPDX-License-Identifier: Apache-2.0 */
#include "mock_events.h"

#include "shim/event_queue.h"
#include "shim/events.h"

/* Sends exits of the processes with the pids from..to. */
static void send_exits(struct mock_events *m, uint32_t from, uint32_t to) {
    for (uint32_t pid = from; pid <= to; pid++)
        events_task_exit(m->p, "c1", "c1", pid, 0, 0);
}

static uint32_t pid_of(struct mock_events *m, size_t i) {
    Containerd__Events__TaskExit *e =
        received(m, i, "/tasks/exit", "containerd.events.TaskExit", &containerd__events__task_exit__descriptor);
    uint32_t pid = e->pid;
    containerd__events__task_exit__free_unpacked(e, NULL);
    return pid;
}

/* What came are the exits of the processes with these pids, ending with 0. */
static void expect_exits(struct mock_events *m, const uint32_t *pids) {
    size_t n = 0;
    for (; pids[n] != 0; n++)
        if (n < m->n)
            assert_int_equal(pid_of(m, n), pids[n]);
    assert_int_equal(m->n, n);
}
#define EXPECT_EXITS(m, ...) expect_exits(m, (const uint32_t[]){__VA_ARGS__, 0})

static void deliver(struct mock_events *m) {
    RUN_UNTIL(m->event, publisher_is_idle(m->p));
}

/* ---- the socket ---- */

static void one_after_the_other(void **state) {
    struct mock_events *m = *state;
    mock_events_start(m);
    mock_events_connect(m, NULL);
    assert_true(publisher_is_idle(m->p));
    m->hold = true;
    send_exits(m, 1, 50);
    assert_false(publisher_is_idle(m->p));
    assert_int_equal(m->n, 0); /* nothing happens within the call */
    RUN_UNTIL(m->event, m->kept);
    run_idle(m->event);
    assert_int_equal(m->n, 1);
    m->hold = false;
    ttrpc_reply(TAKE_PTR(m->kept), NULL);
    deliver(m);
    assert_int_equal(m->n, 50);
    for (size_t i = 0; i < m->n; i++)
        assert_int_equal(pid_of(m, i), i + 1);
    assert_int_equal(ttrpc_server_connections(m->server), 1);
    assert_int_equal(logged(m, "level=warning"), 0);
}

static void away_at_first(void **state) {
    struct mock_events *m = *state;
    mock_events_connect(m, NULL);
    uint64_t before = now_wall_usec();
    send_exits(m, 1, 2);
    uint64_t after = now_wall_usec();
    RUN_UNTIL(m->event, logged(m, "containerd takes no events") == 5);
    uint64_t start = now_usec();
    mock_events_start(m);
    send_exits(m, 3, 3);
    run_idle(m->event);
    if (now_usec() - start < USEC_PER_SEC)
        assert_int_equal(m->n, 0); /* the pause goes on: 100 ms, doubled four times */
    (void)publisher_flush(m->p, 0);
    deliver(m);
    assert_true(now_usec() - start < 1500 * USEC_PER_MSEC); /* a flush ends it */
    EXPECT_EXITS(m, 1, 2, 3);
    assert_int_equal(logged(m, "level=warning"), 1);
    assert_int_equal(logged(m, "they wait: cannot connect to "), 1);
    assert_int_equal(logged(m, "takes events again: 3 had to wait"), 1);
    /* The time is that of the event. */
    const Containerd__Task__V2__Timestamp *ts = m->received[1]->envelope->timestamp;
    uint64_t usec = (uint64_t)ts->seconds * USEC_PER_SEC + (uint64_t)ts->nanos / 1000;
    assert_true(usec >= before && usec <= after);
}

static void dies_with_one_on_its_way(void **state) {
    struct mock_events *m = *state;
    mock_events_start(m);
    mock_events_connect(m, NULL);
    send_exits(m, 1, 2);
    deliver(m);
    m->hold = true;
    send_exits(m, 3, 5);
    RUN_UNTIL(m->event, m->kept);
    mock_events_stop(m);
    RUN_UNTIL(m->event, logged(m, "containerd takes no events"));
    mock_events_start(m);
    deliver(m);
    EXPECT_EXITS(m, 1, 2, 3, 3, 4, 5);
    assert_int_equal(logged(m, "level=warning"), 1);
    /* The next time is worth a line of its own. */
    m->hold = true;
    send_exits(m, 6, 6);
    RUN_UNTIL(m->event, m->kept);
    mock_events_stop(m);
    mock_events_start(m);
    deliver(m);
    EXPECT_EXITS(m, 1, 2, 3, 3, 4, 5, 6, 6);
    assert_int_equal(logged(m, "level=warning"), 2);
    assert_int_equal(logged(m, "takes events again"), 2);
}

/* Nothing was on its way: nothing is doubled, and nobody need know. */
static void restarts_in_between(void **state) {
    struct mock_events *m = *state;
    mock_events_start(m);
    mock_events_connect(m, NULL);
    for (uint32_t i = 1; i <= 3; i++) {
        send_exits(m, i, i);
        deliver(m);
        mock_events_stop(m);
        mock_events_start(m);
        RUN_UNTIL(m->event, logged(m, "closed by containerd") == i);
    }
    EXPECT_EXITS(m, 1, 2, 3);
    assert_int_equal(logged(m, "level=warning"), 0);
}

/* A socket that nobody accepts from must not block the daemon. */
static void full_backlog(void **state) {
    struct mock_events *m = *state;
    int others[8];
    size_t n = 0;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", m->path);
    int listener = mock_events_bind(m, 0);
    for (bool full = false; !full; n++) {
        assert_true(n < ARRAY_SIZE(others));
        others[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        full = connect(others[n], (struct sockaddr *)&addr, sizeof(addr)) < 0;
    }
    mock_events_connect(m, NULL);
    send_exits(m, 1, 2);
    RUN_UNTIL(m->event, logged(m, "Resource temporarily unavailable"));
    mock_events_serve(m, listener);
    deliver(m);
    EXPECT_EXITS(m, 1, 2);
    while (n > 0)
        fd_close(others[--n]);
}

static void no_answer_in_time(void **state) {
    struct mock_events *m = *state;
    mock_events_start(m);
    mock_events_connect(m, NULL);
    m->hold = true;
    uint64_t start = now_usec();
    send_exits(m, 1, 2);
    RUN_UNTIL(m->event, m->kept);
    m->hold = false;
    deliver(m);
    assert_true(now_usec() - start >= PUBLISH_TIMEOUT_USEC);
    RUN_UNTIL(m->event, m->n_disconnects == 1); /* a new connection: on the old one the late would come after the new */
    EXPECT_EXITS(m, 1, 1, 2);
    assert_int_equal(logged(m, "they wait: "), 1);
    assert_int_equal(logged(m, "Events/Forward: no answer within"), 1);
}

/* ---- refusals ---- */

static void permanent_refusal(void **state) {
    struct mock_events *m = *state;
    mock_events_start(m);
    mock_events_connect(m, NULL);
    m->fail = EINVAL;
    m->fail_at = 2;
    send_exits(m, 1, 3);
    deliver(m);
    EXPECT_EXITS(m, 1, 2, 3);
    assert_int_equal(logged(m, "level=error"), 1);
    assert_int_equal(logged(m, "event /tasks/exit is dropped: refused by the test"), 1);
    assert_int_equal(logged(m, "level=warning"), 0);
}

static void passing_refusal(void **state) {
    struct mock_events *m = *state;
    mock_events_start(m);
    mock_events_connect(m, NULL);
    m->fail = EIO;
    m->fail_at = 2;
    send_exits(m, 1, 3);
    deliver(m);
    EXPECT_EXITS(m, 1, 2, 2, 3);
    assert_int_equal(ttrpc_server_connections(m->server), 1);
}

/* An event that is refused for ever does not hold up the others for ever. */
static void refused_again_and_again(void **state) {
    struct mock_events *m = *state;
    mock_events_start(m);
    mock_events_connect(m, NULL);
    m->fail = EIO;
    m->fail_first = PUBLISH_REFUSALS_MAX + 1; /* the next one once */
    send_exits(m, 1, 2);
    /* A flush does without the pauses. */
    RUN_UNTIL(m->event, publisher_flush(m->p, 0) == 0);
    assert_int_equal(m->n, PUBLISH_REFUSALS_MAX + 2);
    assert_int_equal(pid_of(m, PUBLISH_REFUSALS_MAX - 1), 1);
    assert_int_equal(pid_of(m, PUBLISH_REFUSALS_MAX), 2);
    assert_int_equal(pid_of(m, PUBLISH_REFUSALS_MAX + 1), 2);
    assert_int_equal(logged(m, "is dropped"), 1);
}

/* Neither limit of the queue keeps out what only just does not fit into a ttrpc message. */
static void too_large_for_ttrpc(void **state) {
    struct mock_events *m = *state;
    mock_events_start(m);
    mock_events_connect(m, NULL);
    const size_t len = EVENT_QUEUE_BYTES_MAX - sizeof(struct event) - 16;
    cleanup_free char *big = malloc(len + 1);
    assert_non_null(big);
    memset(big, 'x', len);
    big[len] = '\0';
    events_task_oom(m->p, big);
    deliver(m);
    send_exits(m, 1, 1);
    deliver(m);
    EXPECT_EXITS(m, 1);
    assert_int_equal(logged(m, "event /tasks/oom is dropped: "), 1);
}

static void nothing_behind_the_socket(void **state) {
    struct mock_events *m = *state;
    m->unimplemented = true;
    mock_events_start(m);
    mock_events_connect(m, NULL);
    send_exits(m, 1, 2);
    deliver(m);
    assert_int_equal(logged(m, "event /tasks/exit is dropped: "), 2);
}

/* ---- the program ---- */

/* A program that keeps its arguments and, one file for each run, its input; while there is a file `away` it fails. */
static char *write_program(struct mock_events *m) {
    cleanup_free char *text = str_printf("#!/bin/sh\ncd %s\n"
                                         "if [ -e away ]; then echo 'connection refused' >&2; exit 1; fi\n"
                                         "echo \"$@\" >>args\ncat >in.$(wc -l <args)\n",
                                         m->dir->path);
    tmpdir_write(m->dir, "program", text);
    char *path = tmpdir_path(m->dir, "program");
    assert_int_equal(chmod(path, 0700), 0);
    return path;
}

#define PROGRAM_LINE "--address /run/grpc.sock publish --namespace ns --topic "

static void expect_program_exit(struct mock_events *m, const char *name, uint32_t pid) {
    cleanup_free char *path = tmpdir_path(m->dir, name), *text = NULL;
    size_t len = 0;
    assert_int_equal(file_read_at(AT_FDCWD, path, 4096, &text, &len, NULL), 0);
    Containerd__Task__V2__Any *any = containerd__task__v2__any__unpack(NULL, len, (uint8_t *)text);
    assert_non_null(any);
    assert_string_equal(any->type_url, "containerd.events.TaskExit");
    Containerd__Events__TaskExit *e = containerd__events__task_exit__unpack(NULL, any->value.len, any->value.data);
    assert_non_null(e);
    assert_int_equal(e->pid, pid);
    containerd__events__task_exit__free_unpacked(e, NULL);
    containerd__task__v2__any__free_unpacked(any, NULL);
}

static void expect_program(struct mock_events *m) {
    assert_string_equal(text_of(m, "args"),
                        PROGRAM_LINE "/tasks/exit\n" PROGRAM_LINE "/tasks/oom\n" PROGRAM_LINE "/tasks/exit\n");
    expect_program_exit(m, "in.1", 1);
    expect_program_exit(m, "in.3", 2);
}

static void no_socket(void **state) {
    struct mock_events *m = *state;
    struct err err = ERR_INIT;
    cleanup_free char *program = write_program(m);
    struct publisher_spec spec = {.grpc_address = "/run/grpc.sock", .namespace = "ns", .publish_binary = program};
    assert_int_equal(publisher_new(m->event, &spec, &m->p, &err), 0);
    tmpdir_write(m->dir, "away", "");
    send_exits(m, 1, 1);
    events_task_oom(m->p, "c1");
    send_exits(m, 2, 2);
    RUN_UNTIL(m->event, logged(m, "containerd takes no events") >= 2);
    assert_int_equal(unlinkat(m->dir->fd, "away", 0), 0);
    deliver(m);
    expect_program(m);
    assert_int_equal(logged(m, "they wait: "), 1);
    assert_int_equal(logged(m, "program publish: failed with exit code 1: connection refused"),
                     logged(m, "containerd takes no events"));
    assert_int_equal(logged(m, "takes events again: 3 had to wait"), 1);
}

static void program_after_the_socket(void **state) {
    struct mock_events *m = *state;
    cleanup_free char *program = write_program(m);
    m->unimplemented = true;
    mock_events_start(m);
    mock_events_connect(m, program);
    send_exits(m, 1, 1);
    events_task_oom(m->p, "c1");
    deliver(m);
    send_exits(m, 2, 2);
    deliver(m);
    expect_program(m);
    assert_int_equal(logged(m, "is run for each"), 1);
    RUN_UNTIL(m->event, ttrpc_server_connections(m->server) == 0);
}

static void no_such_program(void **state) {
    struct mock_events *m = *state;
    struct err err = ERR_INIT;
    struct publisher_spec spec = {.ttrpc_address = "", .publish_binary = "/nonexistent/containerd"};
    assert_int_equal(publisher_new(m->event, &spec, &m->p, &err), 0);
    send_exits(m, 1, 1);
    RUN_UNTIL(m->event, logged(m, "cannot run /nonexistent/containerd") >= 2);
    assert_false(publisher_is_idle(m->p));
}

/* ---- the end ---- */

static void flush_while_away(void **state) {
    struct mock_events *m = *state;
    mock_events_connect(m, NULL);
    assert_int_equal(publisher_flush(m->p, 0), 0);
    assert_int_equal(publisher_flush(NULL, TEST_DEADLINE), 0);
    send_exits(m, 1, 3);
    uint64_t start = now_usec();
    assert_int_equal(publisher_flush(m->p, 300 * USEC_PER_MSEC), -ETIMEDOUT);
    uint64_t took = now_usec() - start;
    assert_true(took >= 300 * USEC_PER_MSEC);
    assert_true(took < 3 * USEC_PER_SEC);
    m->p = publisher_free(m->p);
    assert_int_equal(logged(m, "3 events did not reach containerd"), 1);
}

static int on_exit_now(sd_event_source *source, void *userdata) {
    (void)userdata;
    return sd_event_exit(sd_event_source_get_event(source), 0);
}

/* In a process of its own, as containerd is: writes the pid of each exit it is sent. */
static pid_t fork_server(struct mock_events *m, int listener, int out) {
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    sd_event *event = NULL;
    if (sd_event_new(&event) < 0)
        _exit(1);
    m->event = event;
    mock_events_serve(m, listener);
    for (size_t done = 0; sd_event_run(event, UINT64_MAX) >= 0;)
        for (; done < m->n; done++) {
            uint32_t exited = pid_of(m, done);
            if (write(out, &exited, sizeof(exited)) != sizeof(exited))
                _exit(1);
        }
    _exit(1);
}

/* The daemon's loop is over, with one event on its way. */
static void flush_after_the_loop(void **state) {
    struct mock_events *m = *state;
    int fds[2];
    int listener = mock_events_bind(m, 16);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    mock_events_connect(m, NULL);
    send_exits(m, 1, 1);
    run_idle(m->event); /* connected and sent; nobody answers yet */
    assert_false(publisher_is_idle(m->p));
    assert_true(sd_event_add_defer(m->event, NULL, on_exit_now, NULL) >= 0);
    assert_int_equal(sd_event_loop(m->event), 0);
    send_exits(m, 2, 3);
    pid_t server = fork_server(m, listener, fds[1]);
    assert_true(server > 0);
    close(fds[1]);
    int r = publisher_flush(m->p, TEST_DEADLINE);
    uint32_t pids[4] = {0};
    ssize_t n = r == 0 ? read(fds[0], pids, sizeof(pids)) : 0; /* it writes them one by one, after the answers */
    kill(server, SIGKILL);
    assert_int_equal(waitpid(server, NULL, 0), server);
    fd_close(listener);
    assert_int_equal(r, 0);
    assert_true(n >= (ssize_t)sizeof(pids[0]));
    for (size_t i = 0; i < (size_t)n / sizeof(pids[0]); i++)
        assert_int_equal(pids[i], i + 1);
    close(fds[0]);
    assert_int_equal(logged(m, "level=warning"), 0);
}

static void freed_with_one_on_its_way(void **state) {
    struct mock_events *m = *state;
    mock_events_start(m);
    mock_events_connect(m, NULL);
    m->hold = true;
    send_exits(m, 1, 2);
    RUN_UNTIL(m->event, m->kept);
    m->p = publisher_free(m->p);
    assert_null(m->p);
    assert_int_equal(logged(m, "they wait"), 0);
    assert_int_equal(logged(m, "2 events did not reach containerd"), 1);
    RUN_UNTIL(m->event, ttrpc_server_connections(m->server) == 0);
    assert_null(publisher_free(NULL));
}

static void freed_while_the_program_runs(void **state) {
    struct mock_events *m = *state;
    struct err err = ERR_INIT;
    cleanup_free char *text = str_printf("#!/bin/sh\necho $$ >%s/new; mv %s/new %s/pid\nexec sleep 1000\n",
                                         m->dir->path, m->dir->path, m->dir->path);
    cleanup_free char *program = tmpdir_path(m->dir, "program");
    tmpdir_write(m->dir, "program", text);
    assert_int_equal(chmod(program, 0700), 0);
    struct publisher_spec spec = {.publish_binary = program};
    assert_int_equal(publisher_new(m->event, &spec, &m->p, &err), 0);
    send_exits(m, 1, 1);
    RUN_UNTIL(m->event, text_of(m, "pid"));
    pid_t pid = (pid_t)atoi(text_of(m, "pid"));
    send_exits(m, 2, 2); /* starts no second one */
    run_idle(m->event);
    m->p = publisher_free(m->p);
    assert_int_equal(kill(pid, 0), -1);
}

/* ---- bounds ---- */

static void queue_bound(void **state) {
    struct mock_events *m = *state;
    mock_events_connect(m, NULL);
    send_exits(m, 1, 1);
    for (size_t i = 1; i < EVENT_QUEUE_MAX; i++)
        events_task_exec_added(m->p, "c1", "e1");
    assert_int_equal(logged(m, "level=warning"), 0);
    events_task_paused(m->p, "c1");         /* is lost */
    send_exits(m, 2, EVENT_QUEUE_MAX + 10); /* for all but the last ten there is room to be made */
    assert_int_equal(logged(m, "event /tasks/paused: too many wait for containerd already; events are lost"), 1);
    RUN_UNTIL(m->event, logged(m, "they wait: "));
    assert_int_equal(logged(m, "level=warning"), 2);
    mock_events_start(m);
    deliver(m);
    assert_int_equal(m->n, EVENT_QUEUE_MAX);
    for (size_t i = 0; i < m->n; i++)
        assert_int_equal(pid_of(m, i), i + 1);
    assert_int_equal(logged(m, "events for containerd were lost"), 1);
    cleanup_free char *lost = str_printf("%d events for containerd were lost", 1 + EVENT_QUEUE_MAX - 1 + 10);
    assert_int_equal(logged(m, lost), 1);
}

static void bad_specs(void **state) {
    struct mock_events *m = *state;
    struct err err = ERR_INIT;
    char longest[128];
    memset(longest, 'x', sizeof(longest));
    longest[0] = '/';
    struct publisher_spec spec = {.namespace = "ns"};
    assert_int_equal(publisher_new(m->event, &spec, &m->p, &err), -EINVAL);
    ASSERT_SAYS(&err, "neither");
    spec.ttrpc_address = "unix://relative";
    assert_int_equal(publisher_new(m->event, &spec, &m->p, &err), -EINVAL);
    ASSERT_SAYS(&err, "\"unix://relative\" must be");
    spec.ttrpc_address = "tcp://1.2.3.4:5";
    assert_int_equal(publisher_new(m->event, &spec, &m->p, &err), -EINVAL);
    longest[108] = '\0';
    spec.ttrpc_address = longest;
    assert_int_equal(publisher_new(m->event, &spec, &m->p, &err), -EINVAL);
    ASSERT_SAYS(&err, "longer than");
    assert_null(m->p);
    longest[107] = '\0';
    assert_int_equal(publisher_new(m->event, &spec, &m->p, &err), 0);
}

/* The CLI's daemon has no containerd. */
static void nobody_to_tell(void **state) {
    (void)state;
    Containerd__Events__TaskOOM e = CONTAINERD__EVENTS__TASK_OOM__INIT;
    publisher_send(NULL, "/tasks/oom", "containerd.events.TaskOOM", &e.base);
    assert_true(publisher_is_idle(NULL));
    assert_int_equal(publisher_flush(NULL, 0), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, mock_events_setup, mock_events_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(one_after_the_other),
        TEST(away_at_first),
        TEST(dies_with_one_on_its_way),
        TEST(restarts_in_between),
        TEST(full_backlog),
        TEST(no_answer_in_time),
        TEST(permanent_refusal),
        TEST(passing_refusal),
        TEST(refused_again_and_again),
        TEST(too_large_for_ttrpc),
        TEST(nothing_behind_the_socket),
        TEST(no_socket),
        TEST(program_after_the_socket),
        TEST(no_such_program),
        TEST(flush_while_away),
        TEST(flush_after_the_loop),
        TEST(freed_with_one_on_its_way),
        TEST(freed_while_the_program_runs),
        TEST(queue_bound),
        TEST(bad_specs),
        cmocka_unit_test(nobody_to_tell),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
