/* SPDX-License-Identifier: Apache-2.0 */
/* Needs root: the share is mounted for real. */
#include "task_calls.h"

#include <poll.h>

/* ---- without any container ---- */

static void test_unknown(void **state) {
    struct daemon *d = *state;
    Containerd__Task__V2__StateRequest state_req = CONTAINERD__TASK__V2__STATE_REQUEST__INIT;
    Containerd__Task__V2__StartRequest start = CONTAINERD__TASK__V2__START_REQUEST__INIT;
    Containerd__Task__V2__DeleteRequest del = CONTAINERD__TASK__V2__DELETE_REQUEST__INIT;
    Containerd__Task__V2__PidsRequest pids = CONTAINERD__TASK__V2__PIDS_REQUEST__INIT;
    Containerd__Task__V2__PauseRequest pause_req = CONTAINERD__TASK__V2__PAUSE_REQUEST__INIT;
    Containerd__Task__V2__ResumeRequest resume = CONTAINERD__TASK__V2__RESUME_REQUEST__INIT;
    Containerd__Task__V2__KillRequest kill_req = CONTAINERD__TASK__V2__KILL_REQUEST__INIT;
    Containerd__Task__V2__ExecProcessRequest exec = CONTAINERD__TASK__V2__EXEC_PROCESS_REQUEST__INIT;
    Containerd__Task__V2__WaitRequest wait_req = CONTAINERD__TASK__V2__WAIT_REQUEST__INIT;
    Containerd__Task__V2__ResizePtyRequest resize = CONTAINERD__TASK__V2__RESIZE_PTY_REQUEST__INIT;
    Containerd__Task__V2__CloseIORequest close_io = CONTAINERD__TASK__V2__CLOSE_IOREQUEST__INIT;
    Containerd__Task__V2__UpdateTaskRequest update = CONTAINERD__TASK__V2__UPDATE_TASK_REQUEST__INIT;
    Containerd__Task__V2__StatsRequest stats = CONTAINERD__TASK__V2__STATS_REQUEST__INIT;
    Containerd__Task__V2__CheckpointTaskRequest checkpoint = CONTAINERD__TASK__V2__CHECKPOINT_TASK_REQUEST__INIT;
    Containerd__Task__V2__ConnectRequest connect_req = CONTAINERD__TASK__V2__CONNECT_REQUEST__INIT;
    checkpoint.path = text("/nonexistent");
    checkpoint.id = state_req.id = start.id = del.id = pids.id = pause_req.id = resume.id = kill_req.id = exec.id =
        wait_req.id = resize.id = close_io.id = update.id = stats.id = text("ghost");
    connect_req.id = text("ghost");
    kill_req.signal = 9;
    const struct {
        const char *method;
        const ProtobufCMessage *req;
    } calls[] = {
        {"State", &state_req.base},     {"Start", &start.base},
        {"Delete", &del.base},          {"Pids", &pids.base},
        {"Pause", &pause_req.base},     {"Resume", &resume.base},
        {"Kill", &kill_req.base},       {"Exec", &exec.base},
        {"Wait", &wait_req.base},       {"ResizePty", &resize.base},
        {"Update", &update.base},       {"Stats", &stats.base},
        {"CloseIO", &close_io.base},    {"Checkpoint", &checkpoint.base},
        {"Connect", &connect_req.base},
    };
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        if (daemon_call(d, calls[i].method, calls[i].req, NULL) != -ENOENT)
            fail_msg("%s: %s", calls[i].method, d->err.msg);
        ASSERT_SAYS(&d->err, "ghost");
    }
    assert_int_equal(fake_vm.n_started, 0);
}

static void test_connect(void **state) {
    struct daemon *d = *state;
    Containerd__Task__V2__ConnectRequest req = CONTAINERD__TASK__V2__CONNECT_REQUEST__INIT;
    Containerd__Task__V2__ConnectResponse *out = NULL;
    const char *ids[] = {"", "c1"};
    create(d);
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        req.id = text(ids[i]);
        assert_int_equal(daemon_call(d, "Connect", &req.base, &out), 0);
        assert_int_equal(out->shim_pid, getpid());
        assert_int_equal(out->task_pid, *ids[i] ? monitor_of(d, "c1") : 0);
        assert_string_equal(out->version, STASIS_VERSION);
        containerd__task__v2__connect_response__free_unpacked(out, NULL);
    }
}

/* ---- Create ---- */

/* threats.md 20: each is refused, nothing is left, no VM is started for it. */
static void refused(struct daemon *d, Containerd__Task__V2__CreateTaskRequest *req, int result, const char *says) {
    int r = daemon_call(d, "Create", &req->base, NULL);
    if (r != result)
        fail_msg("%d, not %d: %s", r, result, d->err.msg);
    ASSERT_SAYS(&d->err, says);
    assert_int_equal(sandbox_count(d->s.sb), 0);
    assert_true(share_is_empty(d));
    assert_int_equal(fake_vm.n_started, 0);
}

static void test_create_refused(void **state) {
    struct daemon *d = *state;
    char long_id[200];
    memset(long_id, 'x', sizeof(long_id) - 1);
    long_id[sizeof(long_id) - 1] = '\0';
    const char *const ids[] = {"", ".", "..", "../x", "a/b", "-x", "a b", "a,b", "\xc3\xa4", long_id};
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        Containerd__Task__V2__CreateTaskRequest req = create_request(d);
        req.id = text(ids[i]);
        refused(d, &req, -EINVAL, "container id");
    }
    cleanup_free char *empty = tmpdir_path(d->dir, "box");
    const struct {
        const char *bundle;
        int result;
    } bundles[] = {
        {"", -EINVAL}, {"bundle", -EINVAL}, {"/tmp/../tmp", -EINVAL}, {"/nonexistent", -ENOENT}, {empty, -ENOENT}};
    for (size_t i = 0; i < ARRAY_SIZE(bundles); i++) {
        Containerd__Task__V2__CreateTaskRequest req = create_request(d);
        req.bundle = text(bundles[i].bundle);
        refused(d, &req, bundles[i].result, bundles[i].bundle);
    }
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    Containerd__Task__V2__Mount m = CONTAINERD__TASK__V2__MOUNT__INIT, *list[] = {&m};
    req.rootfs = list;
    req.n_rootfs = 1;
    m.type = text("nofs");
    refused(d, &req, -EIO, "rootfs[0] (nofs");
    req = create_request(d);
    req.checkpoint = text("/nonexistent");
    refused(d, &req, -ENOENT, "/nonexistent");
    req = create_request(d);
    any_t any = CONTAINERD__TASK__V2__ANY__INIT;
    any.type_url = text("stasis.sandbox.v1.CreateOptions");
    any.value.data = (uint8_t *)text("\xff\xff\xff");
    any.value.len = 3;
    req.options = &any;
    refused(d, &req, -EINVAL, "damaged options");
    req = create_request(d);
    req.terminal = true;
    refused(d, &req, -EINVAL, "process.terminal");
    assert_int_equal(unlinkat(d->dir->fd, "bundle/rootfs", AT_REMOVEDIR), 0);
    req = create_request(d);
    refused(d, &req, -ENOENT, "root.path");
    tmpdir_write(d->dir, "bundle/config.json", "{\"ociVersion\":");
    refused(d, &req, -EINVAL, "config.json");
}

static void test_stdio_refused(void **state) {
    struct daemon *d = *state;
    static const char *const names[] = {"stdin", "stdout", "stderr"};
    static const struct {
        const char *uri, *says; /* says "": the URI */
        unsigned streams;       /* bit set of those that refuse it */
        int result;
    } cases[] = {
        {"/dev/null", "not a FIFO", 7, -EINVAL},
        {"file:///tmp/x", "", 1, -ENOSYS},
        {"binary:///bin/true", "", 1, -ENOSYS},
        {"fd://3", "", 7, -ENOSYS},
        {"fd:/", "", 7, -ENOSYS},
        {"pipe:///x", "", 7, -ENOSYS},
        {"fifo://x", "not absolute", 7, -EINVAL},
        {"/nonexistent/x", "", 7, -ENOENT},
        {"file:///dev/null", "regular", 6, -EINVAL},
        {"binary://%zz", "encoding", 6, -EINVAL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        for (unsigned which = 0; which < 3; which++) {
            Containerd__Task__V2__CreateTaskRequest req = create_request(d);
            char **at[] = {&req.stdin, &req.stdout, &req.stderr};
            if (!(cases[i].streams & 1U << which))
                continue;
            *at[which] = text(cases[i].uri);
            refused(d, &req, cases[i].result, names[which]);
            ASSERT_SAYS(&d->err, *cases[i].says ? cases[i].says : cases[i].uri);
        }
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    req.stdout = text("fd://");
    refused(d, &req, -EINVAL, "no file descriptor");
}

/* The VM cannot be started: the caller gets the cause and its fds are closed; the next call tries again. */
static void test_boot_fails(void **state) {
    struct daemon *d = *state;
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    int fds[2];
    uint8_t b;
    fake_vm.fail = true;
    req.stdout = text("fd://");
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(daemon_call_fds(d, TASK, "Create", &req.base, &fds[1], 1, NULL), -EIO);
    ASSERT_SAYS(&d->err, "QEMU would not start");
    ASSERT_SAYS(&d->err, "box");
    assert_int_equal(sandbox_count(d->s.sb), 0);
    assert_true(share_is_empty(d));
    close(fds[1]);
    assert_int_equal(read(fds[0], &b, 1), 0);
    close(fds[0]);
    fake_vm.fail = false;
    create(d);
    assert_int_equal(fake_vm.n_started, 2);
}

static void test_agent_refuses(void **state) {
    struct daemon *d = *state;
    create(d);
    must(d, "Delete", "");
    the_agent()->fail = EINVAL;
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    assert_int_equal(daemon_call(d, "Create", &req.base, NULL), -EINVAL);
    ASSERT_SAYS(&d->err, "the agent says no");
    assert_int_equal(sandbox_count(d->s.sb), 0);
    assert_true(share_is_empty(d));
    the_agent()->fail = 0;
    create(d);
    assert_int_equal(daemon_call(d, "Create", &req.base, NULL), -EEXIST);
    assert_int_equal(sandbox_count(d->s.sb), 1);
}

/* ---- a container's life ---- */

static void test_life(void **state) {
    struct daemon *d = *state;
    struct later w = {0};
    uint32_t code = 0;
    create(d);
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__CREATED);
    assert_int_equal(count_mounts(sandbox_share(d->s.sb)->dir), 2);
    start_wait(d, d->client, "", &w);
    must(d, "Start", "");
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__RUNNING);
    assert_int_equal(simple(d, "Start", ""), -EBUSY);
    ASSERT_SAYS(&d->err, "container c1 is running");
    assert_int_equal(simple(d, "Delete", ""), -EBUSY);
    assert_int_equal(simple(d, "Resume", ""), -EBUSY);
    must(d, "Pause", "");
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__PAUSED);
    assert_int_equal(simple(d, "Pause", ""), -EBUSY);
    the_agent()->fail = EIO;
    assert_int_equal(simple(d, "Resume", ""), -EIO);
    the_agent()->fail = 0;
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__PAUSED);
    must(d, "Resume", "");

    assert_int_equal(kill_it(d, "", 0, false), -EINVAL);
    assert_int_equal(kill_it(d, "", 65, false), -EINVAL);
    assert_int_equal(kill_it(d, "", 15, true), 0);
    assert_int_equal(the_agent()->signal, 15);
    assert_true(the_agent()->signal_all);
    assert_string_equal(the_agent()->last, "c1/");
    assert_int_equal(w.n, 0);
    mock_exit(the_agent(), 143, 5000000, false);
    expect_exit(d, &w, 143);
    assert_int_equal(status_of(d, "", &code), CONTAINERD__TASK__V2__STATUS__STOPPED);
    assert_int_equal(code, 143);
    assert_int_equal(kill_it(d, "", 15, false), -ENOENT);
    ASSERT_SAYS(&d->err, "already finished");
    assert_int_equal(simple(d, "Start", ""), -EBUSY);

    Containerd__Task__V2__DeleteRequest del = CONTAINERD__TASK__V2__DELETE_REQUEST__INIT;
    Containerd__Task__V2__DeleteResponse *out = NULL;
    del.id = text("c1");
    assert_int_equal(daemon_call(d, "Delete", &del.base, &out), 0);
    assert_int_equal(out->exit_status, 143);
    assert_in_range(out->exited_at->seconds, time(NULL) - 60, time(NULL)); /* not before it was made */
    containerd__task__v2__delete_response__free_unpacked(out, NULL);
    assert_string_equal(the_agent()->last, "c1/"); /* the guest was not asked: it ends with its last container */
    assert_int_equal(sandbox_count(d->s.sb), 0);
    assert_true(share_is_empty(d));
    assert_int_equal(daemon_call(d, "Delete", &del.base, NULL), -ENOENT);
}

/* The last container, but something of it may still run: in the guest too it is deleted. */
static void run_and_delete(struct daemon *d) {
    struct later w = {0};
    create(d);
    start_wait(d, d->client, "", &w);
    must(d, "Start", "");
    mock_exit(the_agent(), 0, 5000000, false);
    expect_exit(d, &w, 0);
    must(d, "Delete", "");
    assert_int_equal(sandbox_count(d->s.sb), 0);
}

static void test_deleted_in_guest(void **state) {
    struct daemon *d = *state;
    cleanup_json json_t *spec = oci_spec_default();
    json_t *namespaces = json_object_get(json_object_get(spec, "linux"), "namespaces"), *v;
    size_t i;
    json_array_foreach(namespaces, i, v) {
        if (strcmp(json_string_value(json_object_get(v, "type")), "pid") == 0) {
            assert_int_equal(json_array_remove(namespaces, i), 0);
            break;
        }
    }
    assert_int_equal(json_object_set_new(json_object_get(spec, "process"), "terminal", json_false()), 0);
    cleanup_free char *doc = json_text(spec, JSON_COMPACT);
    tmpdir_write(d->dir, "bundle/config.json", doc);
    run_and_delete(d);
    assert_string_equal(the_agent()->last, "c1"); /* DeleteContainer */
}

/* Each fd goes where the order of the request says. */
static void test_stdio(void **state) {
    struct daemon *d = *state;
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    int in[2], out[2], err[2];
    char buf[8];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    req.stdin = req.stdout = req.stderr = text("fd://");
    int fds[] = {in[0], out[1], err[1]};
    assert_int_equal(daemon_call_fds(d, TASK, "Create", &req.base, fds, 3, NULL), 0);
    close(in[0]);
    close(out[1]);
    close(err[1]);
    must(d, "Start", "");
    mock_output(the_agent(), STASIS__AGENT__V1__STREAM__STDOUT, "out", 3);
    mock_output(the_agent(), STASIS__AGENT__V1__STREAM__STDERR, "err", 3);
    assert_int_equal(write(in[1], "in", 2), 2);
    RUN_UNTIL(d->event, the_agent()->input_len == 2);
    RUN_UNTIL(d->event, fd_wait(out[0], POLLIN, 0) && fd_wait(err[0], POLLIN, 0));
    assert_int_equal(read(out[0], buf, sizeof(buf)), 3);
    assert_memory_equal(buf, "out", 3);
    assert_int_equal(read(err[0], buf, sizeof(buf)), 3);
    assert_memory_equal(buf, "err", 3);
    Containerd__Task__V2__CloseIORequest close_io = CONTAINERD__TASK__V2__CLOSE_IOREQUEST__INIT;
    close_io.id = text("c1");
    assert_int_equal(daemon_call(d, "CloseIO", &close_io.base, NULL), 0);
    assert_int_equal(the_agent()->n_close_stdin, 0);
    close_io.stdin = true;
    assert_int_equal(daemon_call(d, "CloseIO", &close_io.base, NULL), 0);
    RUN_UNTIL(d->event, the_agent()->n_close_stdin == 1);
    close(in[1]);
    close(out[0]);
    close(err[0]);
}

static const char exec_json[] = "{\"args\":[\"sh\"],\"cwd\":\"/\"}";

static int exec_it(struct daemon *d, const char *exec_id, const char *json) {
    Containerd__Task__V2__ExecProcessRequest req = CONTAINERD__TASK__V2__EXEC_PROCESS_REQUEST__INIT;
    any_t any = CONTAINERD__TASK__V2__ANY__INIT;
    any.type_url = text("types.containerd.io/opencontainers/runtime-spec/1/Process");
    any.value.data = (uint8_t *)text(json);
    any.value.len = strlen(json);
    req.id = text("c1");
    req.exec_id = text(exec_id);
    req.spec = &any;
    return daemon_call(d, "Exec", &req.base, NULL);
}

static void test_exec(void **state) {
    struct daemon *d = *state;
    struct later w = {0};
    uint32_t code = 0;
    create(d);
    must(d, "Start", "");
    assert_int_equal(exec_it(d, "", exec_json), -EINVAL);
    assert_int_equal(exec_it(d, "../x", exec_json), -EINVAL);
    assert_int_equal(exec_it(d, "e1", "{"), -EINVAL);
    assert_int_equal(exec_it(d, "e1", "{}"), -EINVAL);
    assert_int_equal(simple(d, "Start", "e1"), -ENOENT);
    ASSERT_SAYS(&d->err, "exec e1 of container c1");
    assert_int_equal(exec_it(d, "e1", exec_json), 0);
    assert_int_equal(exec_it(d, "e1", exec_json), -EEXIST);
    assert_int_equal(status_of(d, "e1", NULL), CONTAINERD__TASK__V2__STATUS__CREATED);
    assert_int_equal(kill_it(d, "e1", 9, false), -EBUSY);
    must(d, "Start", "e1");
    assert_int_equal(status_of(d, "e1", NULL), CONTAINERD__TASK__V2__STATUS__RUNNING);
    assert_int_equal(simple(d, "Start", "e1"), -EBUSY);
    assert_int_equal(simple(d, "Delete", "e1"), -EBUSY);
    start_wait(d, d->client, "e1", &w);
    assert_int_equal(kill_it(d, "e1", 9, false), 0);
    assert_string_equal(the_agent()->last, "c1/e1");
    RUN_UNTIL(d->event, the_agent()->exec_waiter);
    mock_answer_wait(&the_agent()->exec_waiter, 137, 1000, false);
    expect_exit(d, &w, 137);
    assert_int_equal(status_of(d, "e1", &code), CONTAINERD__TASK__V2__STATUS__STOPPED);
    assert_int_equal(code, 137);
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__RUNNING);
    must(d, "Delete", "e1");
    assert_int_equal(simple(d, "Delete", "e1"), -ENOENT);
    /* One never started goes without a word to the agent. */
    size_t before = the_agent()->n_others;
    assert_int_equal(exec_it(d, "e2", exec_json), 0);
    must(d, "Delete", "e2");
    assert_int_equal(the_agent()->n_others, before);
    /* The agent cannot start it. */
    assert_int_equal(exec_it(d, "e3", exec_json), 0);
    the_agent()->fail = ENOENT;
    assert_int_equal(simple(d, "Start", "e3"), -ENOENT);
    the_agent()->fail = 0;
    RUN_UNTIL(d->event, status_of(d, "e3", NULL) == CONTAINERD__TASK__V2__STATUS__STOPPED);
    must(d, "Delete", "e3");
    /* Not in a paused one. */
    assert_int_equal(exec_it(d, "e4", exec_json), 0);
    must(d, "Pause", "");
    assert_int_equal(simple(d, "Start", "e4"), -EBUSY);
    ASSERT_SAYS(&d->err, "paused");
    RUN_UNTIL(d->event, status_of(d, "e4", NULL) == CONTAINERD__TASK__V2__STATUS__STOPPED);
    must(d, "Delete", "e4");
}

/* A client waits for the end of the output of a process that could not be started. */
static void test_exec_refused_output(void **state) {
    struct daemon *d = *state;
    Containerd__Task__V2__ExecProcessRequest req = CONTAINERD__TASK__V2__EXEC_PROCESS_REQUEST__INIT;
    any_t any = CONTAINERD__TASK__V2__ANY__INIT;
    int fds[2];
    uint8_t b;
    create(d);
    must(d, "Start", "");
    must(d, "Pause", "");
    any.type_url = text("types.containerd.io/opencontainers/runtime-spec/1/Process");
    any.value.data = (uint8_t *)text(exec_json);
    any.value.len = strlen(exec_json);
    req.id = text("c1");
    req.exec_id = text("e1");
    req.spec = &any;
    req.stdout = text("fd://");
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(daemon_call_fds(d, TASK, "Exec", &req.base, &fds[1], 1, NULL), 0);
    close(fds[1]);
    assert_int_equal(fd_set_nonblock(fds[0], true), 0);
    assert_int_equal(read(fds[0], &b, 1), -1);
    assert_int_equal(simple(d, "Start", "e1"), -EBUSY);
    assert_int_equal(read(fds[0], &b, 1), 0);
    close(fds[0]);
}

/* Refused, its fds do not stay behind for the next request of the connection. */
static void test_exec_refused_fds(void **state) {
    struct daemon *d = *state;
    Containerd__Task__V2__ExecProcessRequest req = CONTAINERD__TASK__V2__EXEC_PROCESS_REQUEST__INIT;
    int fds[2];
    uint8_t b;
    req.id = text("ghost");
    req.exec_id = text("e1");
    req.stdout = text("fd://");
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(daemon_call_fds(d, TASK, "Exec", &req.base, &fds[1], 1, NULL), -ENOENT);
    close(fds[1]);
    assert_int_equal(fd_set_nonblock(fds[0], true), 0);
    assert_int_equal(read(fds[0], &b, 1), 0);
    close(fds[0]);
}

/* Asks for statistics, which the agent answers with these bytes. */
static int stats_of(struct daemon *d, uint8_t *bytes, size_t len) {
    Containerd__Task__V2__StatsRequest req = CONTAINERD__TASK__V2__STATS_REQUEST__INIT;
    Stasis__Agent__V1__StatsResponse answer = STASIS__AGENT__V1__STATS_RESPONSE__INIT;
    struct later l = {0};
    req.id = text("c1");
    the_agent()->hold = true;
    start_call(d, d->client, TASK, "Stats", &req.base, &l);
    RUN_UNTIL(d->event, the_agent()->kept);
    the_agent()->hold = false;
    answer.metrics.data = bytes;
    answer.metrics.len = len;
    ttrpc_reply(TAKE_PTR(the_agent()->kept), &answer.base);
    RUN_UNTIL(d->event, l.n);
    d->err = l.err;
    if (!l.reply)
        return -l.err.code;
    const ProtobufCBinaryData *got =
        &((const Containerd__Task__V2__StatsResponse *)(const void *)l.reply)->stats->value;
    assert_int_equal(got->len, len);
    assert_memory_equal(got->data, bytes, len);
    mock_forget(l.reply);
    return 0;
}

/* What the guest says is passed on only if it is small and what it claims to be. */
static void test_stats_of_a_liar(void **state) {
    struct daemon *d = *state;
    enum { BOMB = 3 << 20 };
    create(d);
    uint8_t good[] = {1 << 3 | 2, 2, 1 << 3, 3}, cut[] = {1 << 3 | 2, 9, 1 << 3, 3}; /* pids.current */
    assert_int_equal(stats_of(d, good, sizeof(good)), 0);
    assert_int_equal(stats_of(d, cut, sizeof(cut)), -EIO);
    ASSERT_SAYS(&d->err, "statistics cannot be used");
    cleanup_free uint8_t *bomb = malloc(BOMB);
    assert_non_null(bomb);
    for (size_t i = 0; i < BOMB; i += 2) {
        bomb[i] = 15 << 3 | 2; /* any field that is a message, or not known */
        bomb[i + 1] = 0;
    }
    assert_int_equal(stats_of(d, bomb, BOMB), -EIO);
    ASSERT_SAYS(&d->err, "statistics are 3145728 bytes long");
}

static void test_update_stats_resize(void **state) {
    struct daemon *d = *state;
    Containerd__Task__V2__UpdateTaskRequest update = CONTAINERD__TASK__V2__UPDATE_TASK_REQUEST__INIT;
    any_t any = CONTAINERD__TASK__V2__ANY__INIT;
    create(d);
    update.id = text("c1");
    assert_int_equal(daemon_call(d, "Update", &update.base, NULL), -EINVAL);
    update.resources = &any;
    any.type_url = text("x");
    assert_int_equal(daemon_call(d, "Update", &update.base, NULL), -EINVAL);
    any.type_url = text("types.containerd.io/opencontainers/runtime-spec/1/LinuxResources");
    any.value.data = (uint8_t *)text("{}");
    any.value.len = 2;
    assert_int_equal(daemon_call(d, "Update", &update.base, NULL), 0);
    Containerd__Task__V2__ResizePtyRequest resize = CONTAINERD__TASK__V2__RESIZE_PTY_REQUEST__INIT;
    resize.id = text("c1");
    assert_int_equal(daemon_call(d, "ResizePty", &resize.base, NULL), -EINVAL);
    ASSERT_SAYS(&d->err, "no terminal");
    Containerd__Task__V2__StatsRequest stats = CONTAINERD__TASK__V2__STATS_REQUEST__INIT;
    Containerd__Task__V2__StatsResponse *out = NULL;
    stats.id = text("c1");
    assert_int_equal(daemon_call(d, "Stats", &stats.base, &out), 0);
    assert_string_equal(out->stats->type_url, "io.containerd.cgroups.v2.Metrics");
    containerd__task__v2__stats_response__free_unpacked(out, NULL);
    Containerd__Task__V2__PidsRequest pids = CONTAINERD__TASK__V2__PIDS_REQUEST__INIT;
    pids.id = text("c1");
    assert_int_equal(daemon_call(d, "Pids", &pids.base, NULL), 0);
    mock_exit(the_agent(), 0, 1, false);
    RUN_UNTIL(d->event, status_of(d, "", NULL) == CONTAINERD__TASK__V2__STATUS__STOPPED);
    assert_int_equal(daemon_call(d, "Update", &update.base, NULL), -EBUSY);
    assert_int_equal(daemon_call(d, "Stats", &stats.base, NULL), -EBUSY);
    /* It still has the pid it was known by. */
    Containerd__Task__V2__PidsResponse *listed = NULL;
    assert_int_equal(daemon_call(d, "Pids", &pids.base, &listed), 0);
    assert_int_equal(listed->n_processes, 1);
    assert_int_equal(listed->processes[0]->pid, monitor_of(d, "c1"));
    assert_null(listed->processes[0]->info);
    containerd__task__v2__pids_response__free_unpacked(listed, NULL);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, daemon_setup, daemon_teardown)

int main(void) {
    if (!own_mounts())
        return EXIT_SKIPPED;
    const struct CMUnitTest tests[] = {
        TEST(test_unknown),
        TEST(test_connect),
        TEST(test_create_refused),
        TEST(test_stdio_refused),
        TEST(test_boot_fails),
        TEST(test_agent_refuses),
        TEST(test_life),
        TEST(test_deleted_in_guest),
        TEST(test_stdio),
        TEST(test_exec),
        TEST(test_exec_refused_fds),
        TEST(test_exec_refused_output),
        TEST(test_stats_of_a_liar),
        TEST(test_update_stats_resize),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
