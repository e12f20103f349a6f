/* SPDX-License-Identifier: Apache-2.0 */
/* Create with a checkpoint, and the Start that makes the container of it. Needs root: the share is mounted for real. */
#include "checkpoints.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

typedef Containerd__Task__V2__CreateTaskRequest CreateRequest;

static bool guest_can_write(const char *dir) {
    cleanup_free char *path = str_printf("%s/c1/checkpoint/%s/new", guest.share, dir);
    cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0 || errno == EROFS);
    return fd >= 0;
}

/* Writes T/NAME as a checkpoint is. */
static void write_checkpoint(const struct daemon *d, const char *name, const char *parent) {
    cleanup_free char *inventory = str_printf("%s/inventory.img", name);
    cleanup_free char *link = str_printf("%s/parent", name);
    assert_int_equal(mkdirat(d->dir->fd, name, 0700), 0);
    tmpdir_write(d->dir, inventory, "inventory");
    if (parent)
        assert_int_equal(symlinkat(parent, d->dir->fd, link), 0);
}

static CreateRequest restore_request(struct daemon *d) {
    CreateRequest req = create_request(d);
    req.checkpoint = in_dir(d, "ck");
    memset(&guest, 0, sizeof(guest));
    guest.share = sandbox_share(d->s.sb)->dir;
    return req;
}

static void must_create(struct daemon *d, const CreateRequest *req, bool has_pid) {
    Containerd__Task__V2__CreateTaskResponse *out = NULL;
    if (daemon_call(d, "Create", &req->base, &out) < 0)
        fail_msg("%s", d->err.msg);
    assert_int_equal(out->pid, has_pid ? monitor_of(d, "c1") : 0);
    containerd__task__v2__create_task_response__free_unpacked(out, NULL);
    assert_string_equal(the_agent()->trace, "");
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__CREATED);
    assert_clean(d);
}

/* Of one that is to be restored nothing runs before Start, and containerd must not be told a pid. */
static void test_restore(void **state) {
    struct daemon *d = *state;
    struct later w = {0};
    d->s.namespace = "ns";
    write_checkpoint(d, "pre", NULL);
    write_checkpoint(d, "ck", "../pre");
    CreateRequest req = restore_request(d);
    must_create(d, &req, false);
    start_wait(d, d->client, "", &w);
    the_agent()->hold_criu = true;
    struct later l = {0};
    Containerd__Task__V2__StartRequest start = CONTAINERD__TASK__V2__START_REQUEST__INIT;
    start.id = text("c1");
    start_call(d, d->client, TASK, "Start", &start.base, &l);
    RUN_UNTIL(d->event, the_agent()->kept_criu || l.n);
    assert_string_equal(the_agent()->trace, " Restore"); /* neither CreateContainer nor StartContainer */
    const Stasis__Agent__V1__RestoreRequest *got = the_agent()->restore;
    assert_string_equal(got->create->id, "c1");
    assert_true(got->create->spec.len > 2);
    assert_null(got->options);
    /* What the guest sees: the images read-only, its parents, and where to write its logs. */
    assert_false(guest_can_write(got->image_dir));
    assert_false(guest_can_write("pre"));
    assert_true(guest_can_write(got->work_dir));
    guest_writes(got->work_dir, "restore.log", "(00.1) Error (criu/x.c:1): no\n");
    mock_answer_restore(TAKE_PTR(the_agent()->kept_criu));
    RUN_UNTIL(d->event, l.n);
    if (!l.reply)
        fail_msg("%s", l.err.msg);
    assert_int_equal(((Containerd__Task__V2__StartResponse *)l.reply)->pid, monitor_of(d, "c1"));
    mock_forget(l.reply);
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__RUNNING);
    assert_true(is_there(d, "box/criu.work/c1/restore.log"));
    assert_true(is_there(d, "ck/inventory.img"));
    assert_clean(d);
    /* From here on it is a container as any. */
    mock_exit(the_agent(), 3, 5000000, false);
    expect_exit(d, &w, 3);
    must(d, "Delete", "");
    assert_true(share_is_empty(d));
}

/* The CLI's: options, a work directory, and a pid that stands for it from the beginning. */
static void test_cli_options(void **state) {
    struct daemon *d = *state;
    uint8_t buf[512];
    any_t any = CONTAINERD__TASK__V2__ANY__INIT;
    Stasis__Sandbox__V1__CreateOptions o = STASIS__SANDBOX__V1__CREATE_OPTIONS__INIT;
    Stasis__Agent__V1__CriuOptions criu = STASIS__AGENT__V1__CRIU_OPTIONS__INIT;
    write_checkpoint(d, "ck", NULL);
    criu.tcp_close = true;
    criu.manage_cgroups_mode = text("ignore");
    criu.log_level = 1;
    o.criu = &criu;
    o.work_path = in_dir(d, "wk");
    any.type_url = text("stasis.sandbox.v1.CreateOptions");
    any.value.data = buf;
    any.value.len = stasis__sandbox__v1__create_options__pack(&o, buf);
    CreateRequest req = restore_request(d);
    req.options = &any;
    must_create(d, &req, true);
    must(d, "Start", "");
    assert_true(the_agent()->restore->options->tcp_close);
    assert_string_equal(the_agent()->restore->options->manage_cgroups_mode, "ignore");
    assert_int_equal(the_agent()->restore->options->log_level, 0);
    assert_true(is_there(d, "wk"));
    assert_false(is_there(d, "box/criu.work"));
}

static void refused(struct daemon *d, const CreateRequest *req, int result, const char *says) {
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
    CreateRequest req = restore_request(d);
    refused(d, &req, -ENOENT, req.checkpoint);
    assert_int_equal(mkdirat(d->dir->fd, "ck", 0700), 0);
    refused(d, &req, -ENOENT, "has no inventory.img");
    tmpdir_write(d->dir, "ck/inventory.img", "inventory");
    assert_int_equal(mkfifoat(d->dir->fd, "ck/core-1.img", 0600), 0);
    refused(d, &req, -EINVAL, "core-1.img: is not a regular file");
    assert_int_equal(unlinkat(d->dir->fd, "ck/core-1.img", 0), 0);
    req.parent_checkpoint = text("/tmp");
    refused(d, &req, -ENOSYS, "a parent checkpoint is not taken here");
    req.parent_checkpoint = text("");
    static const char *const bad[] = {"ck", "/tmp/../tmp/ck", "/tmp/ck/"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        req.checkpoint = text(bad[i]);
        refused(d, &req, -EINVAL, "must be an absolute, normal path");
    }
}

/* It stays created, with nothing of it in the guest: it can be tried again and deleted, and is never started fresh. */
static void start_fails(struct daemon *d, const char *says, const char *trace) {
    assert_true(simple(d, "Start", "") < 0);
    const struct err failure = d->err; /* the caller may want to see more of it */
    ASSERT_SAYS(&failure, says);
    assert_string_equal(the_agent()->trace, trace);
    *the_agent()->trace = '\0';
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__CREATED);
    assert_clean(d);
    d->err = failure;
}

static void test_agent_fails(void **state) {
    struct daemon *d = *state;
    write_checkpoint(d, "ck", NULL);
    CreateRequest req = restore_request(d);
    must_create(d, &req, true);
    the_agent()->fail_criu = "CRIU says no";
    for (int i = 0; i < 2; i++) {
        start_fails(d, "CRIU says no", " Restore");
        ASSERT_SAYS(&d->err, in_dir(d, "box/criu.work/c1"));
        ASSERT_SAYS(&d->err, req.checkpoint);
    }
    must(d, "Delete", "");
    assert_true(share_is_empty(d));
    assert_string_equal(the_agent()->trace, "");
}

static void test_second_try(void **state) {
    struct daemon *d = *state;
    write_checkpoint(d, "ck", NULL);
    CreateRequest req = restore_request(d);
    must_create(d, &req, true);
    the_agent()->fail_criu = "CRIU says no";
    start_fails(d, "CRIU says no", " Restore");
    the_agent()->fail_criu = NULL;
    must(d, "Start", "");
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__RUNNING);
    assert_int_equal(simple(d, "Start", ""), -EBUSY);
    assert_string_equal(the_agent()->trace, " Restore");
}

/* Much may happen between Create and Start. */
static void test_checkpoint_goes(void **state) {
    struct daemon *d = *state;
    write_checkpoint(d, "ck", NULL);
    CreateRequest req = restore_request(d);
    must_create(d, &req, true);
    assert_int_equal(mkfifoat(d->dir->fd, "ck/core-1.img", 0600), 0);
    start_fails(d, "core-1.img: is not a regular file", "");
    assert_int_equal(unlinkat(d->dir->fd, "ck/core-1.img", 0), 0);
    assert_int_equal(symlinkat("../../etc", d->dir->fd, "ck/parent"), 0);
    start_fails(d, "its parent \"../../etc\" is not a directory beside it", "");
    assert_int_equal(unlinkat(d->dir->fd, "ck/parent", 0), 0);
    assert_int_equal(symlinkat("../ck", d->dir->fd, "ck/parent"), 0);
    start_fails(d, "more than 64 parents", "");
    assert_int_equal(path_remove_tree(d->dir->fd, "ck", NULL), 0);
    start_fails(d, "cannot restore container c1 from ", "");
    must(d, "Delete", "");
}

static void test_disabled(void **state) {
    struct daemon *d = *state;
    d->config.checkpoint_enable = false;
    write_checkpoint(d, "ck", NULL);
    CreateRequest req = restore_request(d);
    must_create(d, &req, true);
    start_fails(d, "restoring is off: set enable = true under [checkpoint] in the configuration", "");
}

static void start_held(struct daemon *d, struct later *l) {
    Containerd__Task__V2__StartRequest start = CONTAINERD__TASK__V2__START_REQUEST__INIT;
    start.id = text("c1");
    *l = (struct later){0};
    the_agent()->hold_criu = true;
    start_call(d, d->client, TASK, "Start", &start.base, l);
    RUN_UNTIL(d->event, the_agent()->kept_criu || l->n);
    assert_int_equal(l->n, 0);
}

static void test_vm_dies(void **state) {
    struct daemon *d = *state;
    struct later l;
    write_checkpoint(d, "ck", NULL);
    CreateRequest req = restore_request(d);
    must_create(d, &req, true);
    start_held(d, &l);
    vm_dies("QEMU was killed by signal 9");
    RUN_UNTIL(d->event, l.n);
    ASSERT_SAYS(&l.err, "QEMU was killed by signal 9");
    RUN_UNTIL(d->event, status_of(d, "", NULL) == CONTAINERD__TASK__V2__STATUS__STOPPED);
    assert_clean(d);
    must(d, "Delete", "");
    assert_true(share_is_empty(d));
}

static void test_races(void **state) {
    struct daemon *d = *state;
    struct later l;
    write_checkpoint(d, "ck", NULL);
    CreateRequest req = restore_request(d);
    must_create(d, &req, true);
    start_held(d, &l);
    static const char *const methods[] = {"Start", "Delete", "Pause", "Resume"};
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
        assert_int_equal(simple(d, methods[i], ""), -EBUSY);
    CheckpointRequest again = checkpoint_request(d);
    again.path = in_dir(d, "other");
    assert_int_equal(daemon_call(d, "Checkpoint", &again.base, NULL), -EBUSY);
    mock_answer_restore(TAKE_PTR(the_agent()->kept_criu));
    RUN_UNTIL(d->event, l.n);
    assert_non_null(l.reply);
    mock_forget(l.reply);
    assert_string_equal(the_agent()->trace, " Restore");
}

static void test_end_while_busy(void **state) {
    struct daemon *d = *state;
    struct later l;
    write_checkpoint(d, "ck", NULL);
    CreateRequest req = restore_request(d);
    must_create(d, &req, true);
    start_held(d, &l);
    d->s.sb = sandbox_free(d->s.sb);
    RUN_UNTIL(d->event, l.n);
    assert_int_equal(l.err.code, ECANCELED);
    assert_true(is_there(d, "ck/inventory.img"));
}

static pid_t create_for(struct daemon *d) {
    uint8_t buf[64];
    any_t any = CONTAINERD__TASK__V2__ANY__INIT;
    Stasis__Sandbox__V1__CreateOptions o = STASIS__SANDBOX__V1__CREATE_OPTIONS__INIT;
    CreateRequest req = restore_request(d);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    assert_true(pid > 0);
    o.init_pid = (uint32_t)pid;
    any.type_url = text("stasis.sandbox.v1.CreateOptions");
    any.value.data = buf;
    any.value.len = stasis__sandbox__v1__create_options__pack(&o, buf);
    req.options = &any;
    if (daemon_call(d, "Create", &req.base, NULL) < 0)
        fail_msg("%s", d->err.msg);
    return pid;
}

static void end(pid_t pid) {
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static enum container_state state_of(const struct daemon *d) {
    return container_get_state(sandbox_find(d->s.sb, "c1"));
}

/* Who stands for it on the host is killed: before its Start, and while it is restored. It counts as killed with it. */
static void test_nobody_stands_for_it(void **state) {
    struct daemon *d = *state;
    struct later w = {0};
    write_checkpoint(d, "ck", NULL);
    pid_t pid = create_for(d);
    start_wait(d, d->client, "", &w);
    end(pid);
    expect_exit(d, &w, 137);
    assert_int_equal(state_of(d), CONTAINER_STOPPED);
    assert_int_equal(simple(d, "Start", ""), -EBUSY);
    assert_string_equal(the_agent()->trace, "");
    must(d, "Delete", "");
}

static void test_nobody_waits_for_it(void **state) {
    struct daemon *d = *state;
    struct later l, w = {0};
    write_checkpoint(d, "ck", NULL);
    pid_t pid = create_for(d);
    start_wait(d, d->client, "", &w);
    start_held(d, &l);
    end(pid);
    RUN_UNTIL(d->event, the_agent()->n_signals == 1); /* which finds nothing there yet */
    mock_answer_restore(TAKE_PTR(the_agent()->kept_criu));
    RUN_UNTIL(d->event, l.n);
    ASSERT_SAYS(&l.err, "its monitor process (pid ");
    expect_exit(d, &w, 137);
    assert_int_equal(state_of(d), CONTAINER_STOPPED);
    assert_string_equal(the_agent()->last, "c1"); /* DeleteContainer */
    assert_clean(d);
    must(d, "Delete", "");
}

/* What was restored can be dumped again. */
static void test_next_generation(void **state) {
    struct daemon *d = *state;
    write_checkpoint(d, "ck", NULL);
    CreateRequest req = restore_request(d);
    must_create(d, &req, true);
    must(d, "Start", "");
    the_agent()->on_dump = guest_dumps;
    CheckpointRequest again = checkpoint_request(d);
    if (daemon_call(d, "Checkpoint", &again.base, NULL) < 0)
        fail_msg("%s", d->err.msg);
    assert_file(d, "ck/pages-1.img", "pages");
    assert_clean(d);
}

static void kill_init(struct daemon *d) {
    Containerd__Task__V2__KillRequest req = CONTAINERD__TASK__V2__KILL_REQUEST__INIT;
    req.id = text("c1");
    req.signal = 9;
    req.all = true;
    if (daemon_call(d, "Kill", &req.base, NULL) < 0)
        fail_msg("%s", d->err.msg);
}

/* containerd's clients delete what is not stopped only after they have killed it and have seen it end. */
static void test_kill_what_is_not_there(void **state) {
    struct daemon *d = *state;
    write_checkpoint(d, "ck", NULL);
    CreateRequest req = restore_request(d);
    must_create(d, &req, true);
    assert_int_equal(path_remove_tree(d->dir->fd, "ck", NULL), 0);
    start_fails(d, "cannot restore container c1 from ", "");
    kill_init(d);
    RUN_UNTIL(d->event, status_of(d, "", NULL) == CONTAINERD__TASK__V2__STATUS__STOPPED);
    assert_int_equal(simple(d, "Start", ""), -EBUSY);
    must(d, "Delete", "");
    assert_true(share_is_empty(d));
    assert_null(strstr(the_agent()->trace, "Signal"));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, daemon_setup, daemon_teardown)

int main(void) {
    if (!own_mounts())
        return EXIT_SKIPPED;
    const struct CMUnitTest tests[] = {
        TEST(test_restore),
        TEST(test_cli_options),
        TEST(test_create_refused),
        TEST(test_agent_fails),
        TEST(test_second_try),
        TEST(test_checkpoint_goes),
        TEST(test_disabled),
        TEST(test_vm_dies),
        TEST(test_races),
        TEST(test_end_while_busy),
        TEST(test_nobody_stands_for_it),
        TEST(test_nobody_waits_for_it),
        TEST(test_next_generation),
        TEST(test_kill_what_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
