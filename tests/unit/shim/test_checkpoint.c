/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoint, of the Task service. Needs root: the share is mounted for real. */
#include "checkpoints.h"

static enum container_state state_of(const struct daemon *d) {
    return container_get_state(sandbox_find(d->s.sb, "c1"));
}

/* It was refused, and has changed nothing. */
static void refused(struct daemon *d, const CheckpointRequest *req, int result, const char *says) {
    enum container_state before = state_of(d);
    int r = daemon_call(d, "Checkpoint", &req->base, NULL);
    if (r != result)
        fail_msg("%d, not %d: %s", r, result, d->err.msg);
    ASSERT_SAYS(&d->err, says);
    ASSERT_SAYS(&d->err, "c1");
    assert_int_equal(state_of(d), before);
    assert_string_equal(the_agent()->trace, "");
    assert_false(is_there(d, "ck"));
    assert_clean(d);
}

/* A checkpoint that ends with the container dead: options of runc's, as ctr task checkpoint --exit sends them. */
static CheckpointRequest exit_request(const struct daemon *d) {
    RuncOptions o = CONTAINERD__RUNC__V1__CHECKPOINT_OPTIONS__INIT;
    o.exit = true;
    return checkpoint_with(d, TYPE_RUNC, &o);
}

/* Starts one and runs until the agent keeps its Checkpoint. */
static void start_held(struct daemon *d, const CheckpointRequest *req, struct later *l) {
    *l = (struct later){0};
    the_agent()->hold_criu = true;
    start_call(d, d->client, TASK, "Checkpoint", &req->base, l);
    RUN_UNTIL(d->event, the_agent()->kept_criu || l->n);
    if (l->n)
        fail_msg("%s", l->err.msg);
}

static void expect_answer(struct daemon *d, struct later *l, const char *says) {
    RUN_UNTIL(d->event, l->n);
    if (says)
        ASSERT_SAYS(&l->err, says);
    else if (!l->reply)
        fail_msg("%s", l->err.msg);
    mock_forget(TAKE_PTR(l->reply));
}

/* ---- what works ---- */

/* As containerd asks a runtime it does not know: without options. */
static void test_leave_running(void **state) {
    struct daemon *d = *state;
    create_dumpable(d);
    CheckpointRequest req = checkpoint_request(d);
    for (int i = 0; i < 2; i++) { /* the second takes the first's place */
        if (daemon_call(d, "Checkpoint", &req.base, NULL) < 0)
            fail_msg("%s", d->err.msg);
        assert_string_equal(the_agent()->trace, " Checkpoint");
        *the_agent()->trace = '\0';
        const Stasis__Agent__V1__CheckpointRequest *got = the_agent()->checkpoint;
        assert_string_equal(got->id, "c1");
        assert_string_equal(got->parent_dir, "");
        assert_true(got->leave_running);
        assert_false(got->pre_dump);
        assert_false(got->allow_execs);
        assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__RUNNING);
        assert_file(d, "ck/inventory.img", "inventory");
        assert_file(d, "ck/pages-1.img", "pages");
        assert_false(is_there(d, "ck/dump.log"));
        assert_file(d, "box/criu.work/c1/stats-dump", "stats");
        assert_true(is_there(d, "box/criu.work/c1/dump.log"));
        assert_clean(d);
    }
}

static void test_exit(void **state) {
    struct daemon *d = *state;
    struct later l = {0}, w = {0};
    uint32_t code = 0;
    create_dumpable(d);
    CheckpointRequest req = exit_request(d);
    start_wait(d, d->client, "", &w);
    start_call(d, d->client, TASK, "Checkpoint", &req.base, &l);
    RUN_UNTIL(d->event, the_agent()->n_signals || l.n);
    /* Frozen before the dump and until it dies, so that nothing it does is lost; killed by us, not by crun. */
    assert_string_equal(the_agent()->trace, " Pause Checkpoint Signal");
    assert_true(the_agent()->checkpoint->leave_running);
    assert_int_equal(the_agent()->signal, SIGKILL);
    assert_true(the_agent()->signal_all);
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__PAUSED);
    assert_true(is_there(d, "ck/inventory.img")); /* it is on the disk */
    run_idle(d->event);
    assert_int_equal(l.n, 0);
    mock_exit(the_agent(), 137, 5000000, false);
    expect_answer(d, &l, NULL);
    expect_exit(d, &w, 137);
    assert_int_equal(status_of(d, "", &code), CONTAINERD__TASK__V2__STATUS__STOPPED);
    assert_int_equal(code, 137);
    assert_clean(d);
    must(d, "Delete", "");
}

/* Paused by the client before, as containerd does: it stays paused, or dies. */
static void test_paused_before(void **state) {
    struct daemon *d = *state;
    struct later l = {0};
    create_dumpable(d);
    must(d, "Pause", "");
    *the_agent()->trace = '\0';
    CheckpointRequest req = checkpoint_request(d);
    if (daemon_call(d, "Checkpoint", &req.base, NULL) < 0)
        fail_msg("%s", d->err.msg);
    assert_string_equal(the_agent()->trace, " Checkpoint");
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__PAUSED);
    must(d, "Resume", "");
    must(d, "Pause", "");
    *the_agent()->trace = '\0';
    req = exit_request(d);
    start_call(d, d->client, TASK, "Checkpoint", &req.base, &l);
    RUN_UNTIL(d->event, the_agent()->n_signals || l.n);
    assert_string_equal(the_agent()->trace, " Checkpoint Signal");
    mock_exit(the_agent(), 137, 5000000, false);
    expect_answer(d, &l, NULL);
}

static void assert_all(const Stasis__Agent__V1__CriuOptions *o) {
    assert_true(o->tcp_established);
    assert_true(o->ext_unix_sk);
    assert_true(o->shell_job);
    assert_true(o->file_locks);
    assert_int_equal(o->n_empty_ns, 1);
    assert_string_equal(o->empty_ns[0], "network");
    assert_string_equal(o->manage_cgroups_mode, "full");
    assert_int_equal(o->log_level, 0); /* crun has only its own */
}

static void assert_none(const Stasis__Agent__V1__CriuOptions *o) {
    Stasis__Agent__V1__CriuOptions none = STASIS__AGENT__V1__CRIU_OPTIONS__INIT;
    assert_int_equal(stasis__agent__v1__criu_options__get_packed_size(o),
                     stasis__agent__v1__criu_options__get_packed_size(&none));
}

static void test_runc_options(void **state) {
    struct daemon *d = *state;
    create_dumpable(d);
    RuncOptions o = CONTAINERD__RUNC__V1__CHECKPOINT_OPTIONS__INIT;
    CheckpointRequest req = checkpoint_with(d, TYPE_RUNC, &o);
    if (daemon_call(d, "Checkpoint", &req.base, NULL) < 0)
        fail_msg("%s", d->err.msg);
    assert_none(the_agent()->checkpoint->options);
    char *ns[] = {text("network")};
    o.open_tcp = o.external_unix_sockets = o.terminal = o.file_locks = true;
    o.empty_namespaces = ns;
    o.n_empty_namespaces = 1;
    o.cgroups_mode = text("full");
    o.image_path = in_dir(d, "img/of/it");
    o.work_path = in_dir(d, "wk");
    req = checkpoint_with(d, TYPE_RUNC, &o);
    assert_int_equal(unlinkat(d->dir->fd, "ck/pages-1.img", 0), 0);
    if (daemon_call(d, "Checkpoint", &req.base, NULL) < 0)
        fail_msg("%s", d->err.msg);
    assert_all(the_agent()->checkpoint->options);
    assert_true(is_there(d, "img/of/it/pages-1.img"));
    assert_false(is_there(d, "ck/pages-1.img")); /* image_path is the place, not the request's own */
    assert_file(d, "wk/stats-dump", "stats");
    /* The dump before, beside it. */
    o.image_path = in_dir(d, "img/of/next");
    o.parent_path = text("../it");
    req = checkpoint_with(d, TYPE_RUNC, &o);
    if (daemon_call(d, "Checkpoint", &req.base, NULL) < 0)
        fail_msg("%s", d->err.msg);
    char target[32] = "";
    assert_string_equal(the_agent()->checkpoint->parent_dir, "it");
    assert_true(readlinkat(d->dir->fd, "img/of/next/parent", target, sizeof(target) - 1) > 0);
    assert_string_equal(target, "../it");
    assert_clean(d);
}

/* The CLI's. */
static void test_our_options(void **state) {
    struct daemon *d = *state;
    create_dumpable(d);
    Stasis__Agent__V1__CriuOptions criu = STASIS__AGENT__V1__CRIU_OPTIONS__INIT;
    OurOptions o = STASIS__SANDBOX__V1__CHECKPOINT_OPTIONS__INIT;
    criu.tcp_skip_in_flight = criu.tcp_close = criu.auto_dedup = criu.lazy_pages = criu.link_remap = true;
    criu.network_lock = text("skip");
    criu.lsm_profile = text("p");
    criu.lsm_mount_context = text("m");
    criu.page_server = text("s");
    criu.log_level = 2;
    o.criu = &criu;
    o.pre_dump = true;
    CheckpointRequest req = checkpoint_with(d, TYPE_OURS, &o);
    if (daemon_call(d, "Checkpoint", &req.base, NULL) < 0)
        fail_msg("%s", d->err.msg);
    const Stasis__Agent__V1__CheckpointRequest *got = the_agent()->checkpoint;
    assert_true(got->pre_dump);
    assert_true(got->options->tcp_skip_in_flight && got->options->tcp_close && got->options->auto_dedup &&
                got->options->lazy_pages && got->options->link_remap);
    assert_string_equal(got->options->network_lock, "skip");
    assert_string_equal(got->options->lsm_profile, "p");
    assert_string_equal(got->options->lsm_mount_context, "m");
    assert_string_equal(got->options->page_server, "s");
    assert_int_equal(got->options->log_level, 0);
    /* A pre-dump neither freezes nor kills, though it was not told to leave it running. */
    assert_string_equal(the_agent()->trace, " Checkpoint");
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__RUNNING);
}

static void test_log_level(void **state) {
    struct daemon *d = *state;
    d->config.criu_log_level = 1;
    create_dumpable(d);
    CheckpointRequest req = checkpoint_request(d);
    if (daemon_call(d, "Checkpoint", &req.base, NULL) < 0)
        fail_msg("%s", d->err.msg);
    assert_file(d, "box/criu.work/c1/dump.log", "(00.1) Error (criu/x.c:1): no\n");
}

/* ---- what is refused ---- */

static void test_refused(void **state) {
    struct daemon *d = *state;
    create_dumpable(d);
    RuncOptions o = CONTAINERD__RUNC__V1__CHECKPOINT_OPTIONS__INIT;
    CheckpointRequest req = checkpoint_with(d, "runc.v2.Unheard", &o);
    refused(d, &req, -EINVAL, "options of type runc.v2.Unheard cannot be used");
    static const char *const types[] = {TYPE_RUNC, TYPE_OURS};
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        req = checkpoint_with(d, types[i], &o);
        req.options->value.data = (uint8_t *)text("\xff\xff\xff");
        req.options->value.len = 3;
        refused(d, &req, -EINVAL, "damaged checkpoint options");
    }
    req = checkpoint_request(d);
    req.path = text("");
    refused(d, &req, -EINVAL, "has no path");
    static const char *const bad[] = {"ck", "/tmp/../tmp/ck", "/", "/tmp/ck/"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        req.path = text(bad[i]);
        refused(d, &req, -EINVAL, "must be an absolute, normal path");
    }
    o.work_path = text("wk");
    req = checkpoint_with(d, TYPE_RUNC, &o);
    refused(d, &req, -EINVAL, "work directory \"wk\"");
    o.work_path = text("");
    o.parent_path = text("/tmp");
    req = checkpoint_with(d, TYPE_RUNC, &o);
    refused(d, &req, -EINVAL, "parent path \"/tmp\"");
    o.parent_path = text("../absent");
    req = checkpoint_with(d, TYPE_RUNC, &o);
    refused(d, &req, -ENOENT, "absent");
    req = checkpoint_request(d);
    req.path = d->bundle;
    refused(d, &req, -EEXIST, "is not empty and has no checkpoint");
}

static void test_not_running(void **state) {
    struct daemon *d = *state;
    create(d);
    *the_agent()->trace = '\0';
    CheckpointRequest req = checkpoint_request(d);
    refused(d, &req, -EBUSY, "cannot checkpoint container c1: it is created");
    must(d, "Start", "");
    mock_exit(the_agent(), 0, 1, false);
    RUN_UNTIL(d->event, status_of(d, "", NULL) == CONTAINERD__TASK__V2__STATUS__STOPPED);
    *the_agent()->trace = '\0';
    refused(d, &req, -EBUSY, "cannot checkpoint container c1: it is stopped");
}

static void test_disabled(void **state) {
    struct daemon *d = *state;
    d->config.checkpoint_enable = false;
    create_dumpable(d);
    CheckpointRequest req = checkpoint_request(d);
    refused(d, &req, -EPERM, "set enable = true under [checkpoint] in the configuration");
}

/* ---- what fails ---- */

static void expect_failed(struct daemon *d, const CheckpointRequest *req, const char *says, const char *trace) {
    assert_true(daemon_call(d, "Checkpoint", &req->base, NULL) < 0);
    ASSERT_SAYS(&d->err, says);
    assert_string_equal(the_agent()->trace, trace);
    *the_agent()->trace = '\0';
    assert_false(is_there(d, "ck"));
    assert_clean(d);
}

static void test_agent_fails(void **state) {
    struct daemon *d = *state;
    create_dumpable(d);
    the_agent()->fail_criu = "CRIU says no";
    CheckpointRequest req = checkpoint_request(d);
    expect_failed(d, &req, "CRIU says no", " Checkpoint");
    ASSERT_SAYS(&d->err, in_dir(d, "box/criu.work/c1"));
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__RUNNING);
    assert_true(is_there(d, "box/criu.work/c1/dump.log"));
    assert_false(is_there(d, "bundle/criu-dump.log")); /* the CLI's bundles are its users' */
    /* containerd's has the log, where its clients look for it. */
    d->s.namespace = "ns";
    req = exit_request(d);
    expect_failed(d, &req, "CRIU says no", " Pause Checkpoint Resume");
    ASSERT_SAYS(&d->err, in_dir(d, "bundle/criu-dump.log"));
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__RUNNING);
    assert_file(d, "bundle/criu-dump.log", "(00.1) Error (criu/x.c:1): no\n(00.2) Dumping\n");
    /* Paused before: not resumed. */
    must(d, "Pause", "");
    *the_agent()->trace = '\0';
    req = exit_request(d);
    expect_failed(d, &req, "CRIU says no", " Checkpoint");
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__PAUSED);
    /* And nothing stands in the way of the next. */
    the_agent()->fail_criu = NULL;
    req = checkpoint_request(d);
    assert_int_equal(daemon_call(d, "Checkpoint", &req.base, NULL), 0);
}

static void test_commit_fails(void **state) {
    struct daemon *d = *state;
    create_dumpable(d);
    guest.hostile = true;
    CheckpointRequest req = checkpoint_request(d);
    expect_failed(d, &req, "core-1.img: is not a regular file of its own", " Checkpoint");
    ASSERT_SAYS(&d->err, "cannot checkpoint container c1");
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__RUNNING);
    req = exit_request(d);
    expect_failed(d, &req, "core-1.img: is not a regular file of its own", " Pause Checkpoint Resume");
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__RUNNING);
    /* The agent wrote nothing at all. */
    the_agent()->on_dump = NULL;
    expect_failed(d, &req, "the guest left no inventory.img", " Pause Checkpoint Resume");
}

static void test_pause_fails(void **state) {
    struct daemon *d = *state;
    create_dumpable(d);
    the_agent()->fail = EIO;
    CheckpointRequest req = exit_request(d);
    expect_failed(d, &req, "the agent says no", " Pause");
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__RUNNING);
}

/* The directories are gone in the middle: the share cannot have them. */
static void test_share_fails(void **state) {
    struct daemon *d = *state;
    struct later l = {0};
    create_dumpable(d);
    the_agent()->hold = true;
    CheckpointRequest req = exit_request(d);
    start_call(d, d->client, TASK, "Checkpoint", &req.base, &l);
    RUN_UNTIL(d->event, the_agent()->kept);
    the_agent()->hold = false;
    {
        cleanup_dir DIR *top = opendir(d->dir->path);
        for (const struct dirent *e; (e = readdir(top));)
            if (strncmp(e->d_name, ".ck.", 4) == 0)
                assert_int_equal(path_remove_tree(d->dir->fd, e->d_name, NULL), 0);
    }
    ttrpc_reply(TAKE_PTR(the_agent()->kept), NULL);
    expect_answer(d, &l, "cannot checkpoint container c1: cannot bind ");
    assert_string_equal(the_agent()->trace, " Pause Resume");
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__RUNNING);
    assert_clean(d);
}

/* ---- races ---- */

static void test_races(void **state) {
    struct daemon *d = *state;
    static struct later l;
    create_dumpable(d);
    CheckpointRequest req = checkpoint_request(d), other = checkpoint_request(d);
    other.path = in_dir(d, "other");
    assert_int_equal(add_exec(d, "waiting"), 0);
    start_held(d, &req, &l);
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__PAUSED);
    assert_int_equal(daemon_call(d, "Checkpoint", &other.base, NULL), -EBUSY);
    ASSERT_SAYS(&d->err, "cannot checkpoint container c1: it is being checkpointed");
    static const char *const methods[] = {"Pause", "Resume", "Start", "Delete"};
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        assert_int_equal(simple(d, methods[i], ""), -EBUSY);
        ASSERT_SAYS(&d->err, "checkpoint");
    }
    assert_int_equal(add_exec(d, "new"), -EBUSY);
    ASSERT_SAYS(&d->err, "cannot exec in container c1: it is being checkpointed");
    assert_int_equal(simple(d, "Start", "waiting"), -EBUSY); /* CRIU would leave it out, silently */
    ASSERT_SAYS(&d->err, "cannot exec in container c1: it is being checkpointed");
    assert_string_equal(the_agent()->trace, " Checkpoint");
    mock_answer_checkpoint(TAKE_PTR(the_agent()->kept_criu));
    expect_answer(d, &l, NULL);
    assert_int_equal(status_of(d, "", NULL), CONTAINERD__TASK__V2__STATUS__RUNNING);
    assert_false(is_there(d, "other"));
    assert_clean(d);
}

/* Killed meanwhile: the signal goes through. The container may then be deleted when the checkpoint is over, not
 * before. */
static void killed_meanwhile(struct daemon *d, bool dumped) {
    static struct later l;
    create_dumpable(d);
    CheckpointRequest req = exit_request(d);
    start_held(d, &req, &l);
    assert_int_equal(kill_it(d, "", SIGKILL, true), 0);
    mock_exit(the_agent(), 137, 5000000, false);
    RUN_UNTIL(d->event, status_of(d, "", NULL) == CONTAINERD__TASK__V2__STATUS__STOPPED);
    assert_int_equal(simple(d, "Delete", ""), -EBUSY);
    ASSERT_SAYS(&d->err, "container c1: a checkpoint is under way");
    the_agent()->hold_criu = false;
    if (dumped)
        mock_answer_checkpoint(TAKE_PTR(the_agent()->kept_criu));
    else
        mock_fail(&the_agent()->kept_criu, ESRCH, "it is gone");
    expect_answer(d, &l, dumped ? NULL : "it is gone");
    assert_string_equal(the_agent()->trace, " Pause Checkpoint Signal"); /* neither resumed nor killed again */
    assert_int_equal(is_there(d, "ck"), dumped);
    assert_clean(d);
    must(d, "Delete", "");
}

static void test_killed_before_the_dump(void **state) {
    killed_meanwhile(*state, false);
}

static void test_killed_after_the_dump(void **state) {
    killed_meanwhile(*state, true);
}

/* Removed by containerd's delete (Sandbox/Remove): killed, and removed when the checkpoint is over. */
static void test_removed_meanwhile(void **state) {
    struct daemon *d = *state;
    static struct later l, removed;
    removed = (struct later){0};
    create_c2(d);
    create_dumpable(d);
    CheckpointRequest req = checkpoint_request(d);
    Stasis__Sandbox__V1__RemoveRequest remove_req = STASIS__SANDBOX__V1__REMOVE_REQUEST__INIT;
    remove_req.id = text("c1");
    start_held(d, &req, &l);
    start_call(d, d->client, SANDBOX, "Remove", &remove_req.base, &removed);
    RUN_UNTIL(d->event, the_agent()->n_signals);
    mock_exit(the_agent(), 137, 5000000, false);
    RUN_UNTIL(d->event, status_of(d, "", NULL) == CONTAINERD__TASK__V2__STATUS__STOPPED);
    run_idle(d->event);
    assert_int_equal(removed.n, 0);
    the_agent()->hold_criu = false;
    mock_fail(&the_agent()->kept_criu, ESRCH, "it is gone");
    expect_answer(d, &l, "it is gone");
    expect_answer(d, &removed, NULL);
    assert_null(sandbox_find(d->s.sb, "c1"));
    assert_false(is_there(d, "ck"));
    assert_clean(d);
}

/* The VM dies in each step: the call says why, nothing is left. */
static void vm_dies_in(struct daemon *d, bool in_pause, bool in_kill) {
    static struct later l;
    l = (struct later){0};
    uint32_t code = 0;
    create_dumpable(d);
    CheckpointRequest req = exit_request(d);
    the_agent()->hold = in_pause;
    the_agent()->hold_criu = !in_pause && !in_kill;
    start_call(d, d->client, TASK, "Checkpoint", &req.base, &l);
    RUN_UNTIL(d->event, l.n || the_agent()->kept || the_agent()->kept_criu || the_agent()->n_signals);
    assert_int_equal(l.n, 0);
    vm_dies("QEMU was killed by signal 9");
    expect_answer(d, &l, in_kill ? NULL : "QEMU was killed by signal 9");
    RUN_UNTIL(d->event, status_of(d, "", &code) == CONTAINERD__TASK__V2__STATUS__STOPPED);
    assert_int_equal(code, 137);
    assert_int_equal(is_there(d, "ck"), in_kill);
    assert_clean(d);
    must(d, "Delete", "");
    assert_true(share_is_empty(d));
}

static void test_vm_dies_in_pause(void **state) {
    vm_dies_in(*state, true, false);
}

static void test_vm_dies_in_dump(void **state) {
    vm_dies_in(*state, false, false);
}

/* The checkpoint was on the disk by then, and the container was to die. */
static void test_vm_dies_in_kill(void **state) {
    vm_dies_in(*state, false, true);
}

/* The daemon ends: the call is answered, and nothing is left. */
static void test_end_while_busy(void **state) {
    struct daemon *d = *state;
    static struct later l;
    create_dumpable(d);
    CheckpointRequest req = checkpoint_request(d);
    start_held(d, &req, &l);
    d->s.sb = sandbox_free(d->s.sb);
    expect_answer(d, &l, "c1");
    assert_int_equal(l.err.code, ECANCELED);
    assert_false(is_there(d, "ck"));
    cleanup_dir DIR *top = opendir(d->dir->path);
    for (const struct dirent *e; (e = readdir(top));)
        assert_int_not_equal(strncmp(e->d_name, ".ck", 3), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, daemon_setup, daemon_teardown)

int main(void) {
    if (!own_mounts())
        return EXIT_SKIPPED;
    const struct CMUnitTest tests[] = {
        TEST(test_leave_running),
        TEST(test_exit),
        TEST(test_paused_before),
        TEST(test_runc_options),
        TEST(test_our_options),
        TEST(test_log_level),
        TEST(test_refused),
        TEST(test_not_running),
        TEST(test_disabled),
        TEST(test_agent_fails),
        TEST(test_commit_fails),
        TEST(test_pause_fails),
        TEST(test_share_fails),
        TEST(test_races),
        TEST(test_killed_before_the_dump),
        TEST(test_killed_after_the_dump),
        TEST(test_removed_meanwhile),
        TEST(test_vm_dies_in_pause),
        TEST(test_vm_dies_in_dump),
        TEST(test_vm_dies_in_kill),
        TEST(test_end_while_busy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
