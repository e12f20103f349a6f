/* SPDX-License-Identifier: Apache-2.0 */
/* src/shim/task_create.c: what containerd puts into a Create or Exec. Needs root: it mounts for real. */
#include "task_calls.h"

#include <poll.h>

#include "proto/options.pb-c.h"
#include "proto/runtimeoptions.pb-c.h"

#define MIB (UINT64_C(1) << 20)

/* Writes the bundle's config.json: the default one with `change` (JSON) over it. */
static void write_changed(struct daemon *d, const char *change) {
    cleanup_json json_t *spec = oci_spec_default();
    cleanup_json json_t *over = json_loads(change, 0, NULL);
    assert_non_null(over);
    assert_int_equal(json_object_set_new(json_object_get(spec, "process"), "terminal", json_false()), 0);
    assert_int_equal(json_object_update(spec, over), 0);
    cleanup_free char *doc = json_text(spec, JSON_COMPACT);
    tmpdir_write(d->dir, "bundle/config.json", doc);
}

static void refused(struct daemon *d, const Containerd__Task__V2__CreateTaskRequest *req, int result,
                    const char *says) {
    int r = daemon_call(d, "Create", &req->base, NULL);
    if (r != result)
        fail_msg("%d, not %d: %s", r, result, d->err.msg);
    ASSERT_SAYS(&d->err, says);
    assert_int_equal(sandbox_count(d->s.sb), 0);
    assert_true(share_is_empty(d));
    assert_int_equal(fake_vm.n_started, 0);
}

/* ---- stdio ---- */

static int open_fifo(const char *path, int flags) {
    int fd = open(path, flags | O_NONBLOCK | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* What came through a FIFO, until it ends. */
static void expect_all(struct daemon *d, int fd, const char *expected) {
    char got[64] = "";
    size_t n = 0;
    uint64_t end = now_usec() + TEST_DEADLINE;
    for (;;) {
        assert_true(now_usec() < end);
        assert_true(sd_event_run(d->event, 10 * USEC_PER_MSEC) >= 0);
        ssize_t r = read(fd, got + n, sizeof(got) - 1 - n);
        if (r > 0)
            n += (size_t)r;
        else if (r == 0)
            break;
        else
            assert_int_equal(errno, EAGAIN);
    }
    assert_string_equal(got, expected);
}

/* As containerd does it: both ends of output opened by it before, FIFOs named in the request. */
static void test_fifos(void **state) {
    struct daemon *d = *state;
    static struct later w;
    cleanup_free char *in = tmpdir_path(d->dir, "in");
    cleanup_free char *out = tmpdir_path(d->dir, "out");
    cleanup_free char *err = tmpdir_path(d->dir, "err");
    cleanup_free char *err_uri = str_printf("fifo://%s", err);
    assert_int_equal(mkfifo(in, 0600) | mkfifo(out, 0600) | mkfifo(err, 0600), 0);
    int out_fd = open_fifo(out, O_RDONLY), err_fd = open_fifo(err, O_RDONLY);
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    req.stdin = in;
    req.stdout = out;
    req.stderr = err_uri;
    if (daemon_call(d, "Create", &req.base, NULL) < 0)
        fail_msg("%s", d->err.msg);
    int in_fd = open_fifo(in, O_WRONLY);

    Containerd__Task__V2__StateRequest state_req = CONTAINERD__TASK__V2__STATE_REQUEST__INIT;
    Containerd__Task__V2__StateResponse *st = NULL;
    state_req.id = text("c1");
    assert_int_equal(daemon_call(d, "State", &state_req.base, &st), 0);
    assert_string_equal(st->stdin, in);
    assert_string_equal(st->stdout, out);
    assert_string_equal(st->stderr, err_uri);
    assert_false(st->terminal);
    containerd__task__v2__state_response__free_unpacked(st, NULL);

    w = (struct later){0};
    start_wait(d, d->client, "", &w);
    must(d, "Start", "");
    assert_int_equal(write(in_fd, "hello", 5), 5);
    RUN_UNTIL(d->event, the_agent()->input_len == 5);
    assert_memory_equal(the_agent()->input, "hello", 5);
    mock_output(the_agent(), STASIS__AGENT__V1__STREAM__STDOUT, "to out", 6);
    mock_output(the_agent(), STASIS__AGENT__V1__STREAM__STDERR, "to err", 6);
    mock_output_end(the_agent(), STASIS__AGENT__V1__STREAM__STDOUT);
    mock_output_end(the_agent(), STASIS__AGENT__V1__STREAM__STDERR);
    expect_all(d, out_fd, "to out");
    expect_all(d, err_fd, "to err");
    mock_exit(the_agent(), 0, 1000, false);
    expect_exit(d, &w, 0);
    must(d, "Delete", "");
    close(in_fd);
    close(out_fd);
    close(err_fd);
}

/* Output to a file, of an exec. */
static void test_exec_file(void **state) {
    struct daemon *d = *state;
    Containerd__Task__V2__ExecProcessRequest req = CONTAINERD__TASK__V2__EXEC_PROCESS_REQUEST__INIT;
    any_t any = CONTAINERD__TASK__V2__ANY__INIT;
    cleanup_free char *path = tmpdir_path(d->dir, "logs/exec.log");
    cleanup_free char *uri = str_printf("file://%s", path);
    cleanup_free char *got = NULL;
    any.type_url = text("types.containerd.io/opencontainers/runtime-spec/1/Process");
    any.value.data = (uint8_t *)text("{\"args\":[\"sh\"],\"cwd\":\"/\"}");
    any.value.len = strlen((char *)any.value.data);
    req.id = text("c1");
    req.exec_id = text("e1");
    req.stdout = uri;
    req.spec = &any;
    create(d);
    must(d, "Start", "");
    assert_int_equal(daemon_call(d, "Exec", &req.base, NULL), 0);
    must(d, "Start", "e1");
    RUN_UNTIL(d->event, the_agent()->exec_waiter);
    mock_output(the_agent(), STASIS__AGENT__V1__STREAM__STDOUT, "line\n", 5);
    mock_output_end(the_agent(), STASIS__AGENT__V1__STREAM__STDOUT);
    mock_answer_wait(&the_agent()->exec_waiter, 0, 1000, false);
    RUN_UNTIL(d->event, status_of(d, "e1", NULL) == CONTAINERD__TASK__V2__STATUS__STOPPED);
    assert_int_equal(file_read_at(AT_FDCWD, path, 64, &got, NULL, &d->err), 0);
    assert_string_equal(got, "line\n");
}

/* ---- size and options ---- */

static void test_annotations(void **state) {
    struct daemon *d = *state;
    write_changed(d, "{\"annotations\":{\"io.stasis.vm.memory\":\"192M\",\"io.stasis.vm.cpus\":\"1\",\"x\":\"y\"}}");
    create(d);
    assert_true(fake_vm.memory == 192 * MIB);
    assert_int_equal(fake_vm.cpus, 1);
    assert_true(sandbox_config(d->s.sb)->memory == 192 * MIB);
}

static void test_bad_annotations(void **state) {
    struct daemon *d = *state;
    static const struct {
        const char *annotation, *value;
    } cases[] = {
        {"io.stasis.vm.memory", "64M"},     {"io.stasis.vm.memory", "lots"}, {"io.stasis.vm.memory", "900T"},
        {"io.stasis.vm.cpus", "0"},         {"io.stasis.vm.cpus", "100000"}, {"io.stasis.vm.kernel", "/boot/x"},
        {"io.stasis.vm.kernel_params", ""}, {"io.stasis.vmm_root", "/"},
    };
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_free char *change =
            str_printf("{\"annotations\":{\"%s\":\"%s\"}}", cases[i].annotation, cases[i].value);
        write_changed(d, change);
        refused(d, &req, -EINVAL, cases[i].annotation);
    }
    /* [vm] memory_max of the host's configuration. */
    d->config.memory_max = 256 * MIB;
    write_changed(d, "{\"annotations\":{\"io.stasis.vm.memory\":\"258M\"}}");
    refused(d, &req, -EINVAL, "memory_max");
}

static void set_options(any_t *any, Runtimeoptions__V1__Options *o, uint8_t *buf, const char *body) {
    o->config_body.data = (uint8_t *)text(body);
    o->config_body.len = strlen(body);
    any->type_url = text("runtimeoptions.v1.Options");
    any->value.data = buf;
    any->value.len = runtimeoptions__v1__options__pack(o, buf);
}

static void test_runtime_options(void **state) {
    struct daemon *d = *state;
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    any_t any = CONTAINERD__TASK__V2__ANY__INIT;
    Runtimeoptions__V1__Options o = RUNTIMEOPTIONS__V1__OPTIONS__INIT;
    uint8_t buf[256];
    req.options = &any;
    set_options(&any, &o, buf, "[vm]\nmemory = \"96M\"\n");
    refused(d, &req, -EINVAL, "memory");
    set_options(&any, &o, buf, "[vm]\nmemry = 256M\n");
    refused(d, &req, -EINVAL, "memry");
    any.type_url = text("x.Options");
    refused(d, &req, -EINVAL, "x.Options");
    set_options(&any, &o, buf, "[vm]\nmemory = \"256M\"\ncpus = 1\n");
    if (daemon_call(d, "Create", &req.base, NULL) < 0)
        fail_msg("%s", d->err.msg);
    assert_true(fake_vm.memory == 256 * MIB);
    assert_int_equal(fake_vm.cpus, 1);
    must(d, "Delete", "");
    /* The VM is there: another size of the same request changes nothing of it. */
    set_options(&any, &o, buf, "[vm]\nmemory = \"512M\"\n");
    assert_int_equal(daemon_call(d, "Create", &req.base, NULL), 0);
    assert_int_equal(fake_vm.n_started, 1);
    assert_true(sandbox_config(d->s.sb)->memory == 256 * MIB);
}

/* What a spec asks for goes over the options, and what was refused leaves nothing for the next. */
static void test_annotation_over_options(void **state) {
    struct daemon *d = *state;
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    any_t any = CONTAINERD__TASK__V2__ANY__INIT;
    Runtimeoptions__V1__Options o = RUNTIMEOPTIONS__V1__OPTIONS__INIT;
    uint8_t buf[256];
    req.options = &any;
    set_options(&any, &o, buf, "[vm]\nmemory = \"256M\"\ncpus = 1\n");
    write_changed(d, "{\"annotations\":{\"io.stasis.vm.memory\":\"odd\"}}");
    refused(d, &req, -EINVAL, "io.stasis.vm.memory");
    assert_true(sandbox_config(d->s.sb)->memory == d->config.memory);
    write_changed(d, "{\"annotations\":{\"io.stasis.vm.memory\":\"192M\"}}");
    assert_int_equal(daemon_call(d, "Create", &req.base, NULL), 0);
    assert_true(fake_vm.memory == 192 * MIB);
    assert_int_equal(fake_vm.cpus, 1);
}

/* ---- the root ---- */

static void test_rootfs(void **state) {
    struct daemon *d = *state;
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    Containerd__Task__V2__Mount m[2] = {CONTAINERD__TASK__V2__MOUNT__INIT, CONTAINERD__TASK__V2__MOUNT__INIT};
    Containerd__Task__V2__Mount *list[] = {&m[0], &m[1]};
    char *options[] = {text("rbind"), text("ro")};
    cleanup_free char *image = tmpdir_path(d->dir, "image");
    cleanup_free char *rootfs = tmpdir_path(d->dir, "bundle/rootfs");
    cleanup_free char *file = tmpdir_path(d->dir, "bundle/rootfs/file");
    cleanup_free char *shared = str_printf("%s/c1/rootfs/file", sandbox_share(d->s.sb)->dir);
    assert_int_equal(mkdirat(d->dir->fd, "image", 0755), 0);
    tmpdir_write(d->dir, "image/file", "x");
    m[0].type = text("bind");
    m[0].source = image;
    m[0].options = options;
    m[0].n_options = 2;
    req.rootfs = list;
    req.n_rootfs = 1;
    if (daemon_call(d, "Create", &req.base, NULL) < 0)
        fail_msg("%s", d->err.msg);
    assert_int_equal(access(file, R_OK), 0);
    assert_int_equal(access(shared, R_OK), 0);
    assert_non_null(strstr(mount_options(rootfs), ",ro,"));
    must(d, "Delete", "");
    assert_int_equal(count_mounts(rootfs), 0);
    assert_true(share_is_empty(d));
    /* The second fails: the first is taken back. */
    m[1].type = text("bind");
    m[1].source = text("/nonexistent");
    req.n_rootfs = 2;
    assert_int_equal(daemon_call(d, "Create", &req.base, NULL), -ENOENT);
    ASSERT_SAYS(&d->err, "rootfs[1]");
    assert_int_equal(count_mounts(rootfs), 0);
    /* The container fails after it was mounted. */
    write_changed(d, "{\"process\":{\"args\":[\"sh\"],\"cwd\":\"/\",\"terminal\":true}}");
    req.n_rootfs = 1;
    assert_int_equal(daemon_call(d, "Create", &req.base, NULL), -EINVAL);
    assert_int_equal(count_mounts(rootfs), 0);
    assert_true(share_is_empty(d));
}

/* ---- which processes ---- */

/* Engines look pids up on the host: those of the guest mean strangers there. */
static void test_pids(void **state) {
    struct daemon *d = *state;
    Containerd__Task__V2__PidsRequest req = CONTAINERD__TASK__V2__PIDS_REQUEST__INIT;
    Containerd__Task__V2__PidsResponse *out = NULL;
    create(d);
    must(d, "Start", "");
    assert_int_equal(add_exec(d, "e1"), 0);
    must(d, "Start", "e1");
    req.id = text("c1");
    assert_int_equal(daemon_call(d, "Pids", &req.base, &out), 0);
    assert_int_equal(out->n_processes, 2);
    assert_int_equal(out->processes[0]->pid, monitor_of(d, "c1"));
    assert_null(out->processes[0]->info);
    assert_int_equal(out->processes[1]->pid, process_host_pid(container_find(sandbox_find(d->s.sb, "c1"), "e1")));
    assert_int_not_equal(out->processes[1]->pid, monitor_of(d, "c1"));
    assert_string_equal(out->processes[1]->info->type_url, "containerd.runc.v1.ProcessDetails");
    Containerd__Runc__V1__ProcessDetails *details = containerd__runc__v1__process_details__unpack(
        NULL, out->processes[1]->info->value.len, out->processes[1]->info->value.data);
    assert_non_null(details);
    assert_string_equal(details->exec_id, "e1");
    containerd__runc__v1__process_details__free_unpacked(details, NULL);
    containerd__task__v2__pids_response__free_unpacked(out, NULL);
}

static void test_v3(void **state) {
    struct daemon *d = *state;
    ProtobufCServiceDescriptor v3 = containerd__task__v2__task__descriptor;
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    Containerd__Task__V2__CreateTaskResponse *created = NULL;
    Containerd__Task__V2__StateRequest state_req = CONTAINERD__TASK__V2__STATE_REQUEST__INIT;
    Containerd__Task__V2__StateResponse *st = NULL;
    v3.name = "containerd.task.v3.Task";
    assert_int_equal(daemon_call_fds(d, &v3, "Create", &req.base, NULL, 0, &created), 0);
    assert_int_equal(created->pid, monitor_of(d, "c1"));
    containerd__task__v2__create_task_response__free_unpacked(created, NULL);
    state_req.id = text("c1");
    assert_int_equal(daemon_call_fds(d, &v3, "State", &state_req.base, NULL, 0, &st), 0);
    assert_string_equal(st->bundle, d->bundle);
    containerd__task__v2__state_response__free_unpacked(st, NULL);
    state_req.id = text("ghost");
    assert_int_equal(daemon_call_fds(d, &v3, "State", &state_req.base, NULL, 0, NULL), -ENOENT);
    v3.name = "containerd.task.v4.Task";
    assert_int_equal(daemon_call_fds(d, &v3, "State", &state_req.base, NULL, 0, NULL), -ENOSYS);
    /* The same tasks under both names. */
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__CREATED);
}

static void test_nothing_waits_for_others(void **state) {
    struct daemon *d = *state;
    static struct later created, w;
    created = w = (struct later){0};
    create(d);
    start_wait(d, d->client, "", &w);
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    req.id = text("c2");
    the_agent()->hold = true;
    start_call(d, d->client, TASK, "Create", &req.base, &created);
    RUN_UNTIL(d->event, the_agent()->kept);
    for (int i = 0; i < 50; i++)
        assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__CREATED);
    assert_int_equal(created.n, 0);
    assert_int_equal(w.n, 0);
    the_agent()->hold = false;
    mock_fail(&the_agent()->kept, EIO, "no");
    RUN_UNTIL(d->event, created.n);
    must(d, "Delete", "");
    expect_exit(d, &w, 137);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, daemon_setup, daemon_teardown)

int main(void) {
    if (!own_mounts())
        return EXIT_SKIPPED;
    const struct CMUnitTest tests[] = {
        TEST(test_fifos),
        TEST(test_exec_file),
        TEST(test_annotations),
        TEST(test_bad_annotations),
        TEST(test_runtime_options),
        TEST(test_annotation_over_options),
        TEST(test_rootfs),
        TEST(test_pids),
        TEST(test_v3),
        TEST(test_nothing_waits_for_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
