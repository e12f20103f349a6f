/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/checkpoint.h"
#include "agent/namespaces.h"
#include "fake_guest.h"

#include <sched.h>
#include <sys/mount.h>

#define WORK "share/c1/checkpoint/work/"
#define IMAGES "share/c1/checkpoint/images/"

struct dumped {
    int n, code;
    char msg[1000], version[32];
};

static void on_dumped(void *userdata, const struct checkpoint_result *result, const struct err *err) {
    struct dumped *d = userdata;
    d->n++;
    d->code = err ? err->code : 0;
    snprintf(d->msg, sizeof(d->msg), "%.990s", err ? err->msg : "");
    if (result)
        snprintf(d->version, sizeof(d->version), "%s", result->criu_version);
}

static struct checkpoint_request request(void) {
    return (struct checkpoint_request){.image_dir = "images",
                                       .work_dir = "work",
                                       .parent_dir = "",
                                       .leave_running = true,
                                       .timeout_usec = TEST_DEADLINE};
}

static struct container *container(struct guest *g) {
    struct container *c = guest_container(g, "c1");
    char pid[16];
    snprintf(pid, sizeof(pid), "%d", (int)c->init->pid);
    tmpdir_write(g->f->dir, "victim", pid);
    guest_write(g, "cgroup.freeze", "0");
    guest_make_share(g);
    return c;
}

static void begin(struct container *c, const struct checkpoint_request *req, struct dumped *d) {
    struct err err = ERR_INIT;
    *d = (struct dumped){0};
    if (container_checkpoint(c, req, on_dumped, d, &err) < 0)
        fail_msg("checkpoint: %s", err.msg);
}

static void dump(struct guest *g, struct container *c, const struct checkpoint_request *req, struct dumped *d) {
    begin(c, req, d);
    RUN_UNTIL(g->f->event, d->n);
    assert_int_equal(d->n, 1);
}

/* Refused at once, with the container as it was. */
static void refused(struct container *c, const struct checkpoint_request *req, int code, const char *why) {
    enum container_state before = c->state;
    struct err err = ERR_INIT;
    struct dumped d = {0};
    assert_int_equal(container_checkpoint(c, req, on_dumped, &d, &err), -code);
    if (!strstr(err.msg, why))
        fail_msg("no \"%s\" in: %s", why, err.msg);
    assert_non_null(strstr(err.msg, "c1"));
    assert_int_equal(c->state, before);
    assert_int_equal(d.n, 0);
    assert_null(c->checkpoint);
    assert_null(c->agent->criu.head);
}

static void test_leave_running(void **state) {
    struct guest *g = *state;
    struct container *c = container(g);
    struct checkpoint_request req = request();
    struct dumped d;
    req.options.tcp_close = true;
    req.options.file_locks = true;
    req.parent_dir = "parent";
    dump(g, c, &req, &d);
    if (d.code)
        fail_msg("%s", d.msg);
    assert_string_equal(d.version, "4.2.1");
    assert_int_equal(c->state, CONTAINER_RUNNING);
    assert_int_equal(c->init->state, PROCESS_RUNNING);
    assert_int_equal(c->ops, 0);
    assert_true(tmpdir_has(g->f->dir, IMAGES "pages-1.img"));
    assert_false(tmpdir_has(g->f->dir, IMAGES ".stasis-probe"));
    assert_true(guest_file_has(g, "args", "checkpoint\n"));
    assert_true(guest_file_has(g, "args", "--leave-running\n"));
    assert_true(guest_file_has(g, "args", "--file-locks\n"));
    assert_true(guest_file_has(g, "args", "--parent-path=../parent\n"));
    assert_true(guest_file_has(g, "args", "/share/c1/checkpoint/images\n"));
    assert_true(guest_file_has(g, "conf-seen", "tcp-close\n"));
    assert_false(tmpdir_has(g->f->dir, "criu/default.conf"));
    assert_true(guest_file_has(g, WORK "criu-diagnostic.log", "result: done"));
    assert_true(guest_file_has(g, WORK "criu-diagnostic.log", "criu check: ok: Looks good."));
    assert_true(guest_file_has(g, WORK "criu-diagnostic.log", "printed"));
    assert_true(guest_file_has(g, WORK "criu-diagnostic.log", "mounts:"));
    /* CRIU is asked once. */
    tmpdir_remove(g->f->dir, "calls");
    dump(g, c, &req, &d);
    assert_int_equal(d.code, 0);
    assert_false(guest_file_has(g, "calls", "criu"));
    guest_delete(g, c);
}

static void test_exits(void **state) {
    struct guest *g = *state;
    struct container *c = container(g);
    struct checkpoint_request req = request();
    struct outcome w = {0};
    struct dumped d;
    req.leave_running = false;
    assert_int_equal(process_wait(c->init, on_wait, &w, NULL), 0);
    dump(g, c, &req, &d);
    if (d.code)
        fail_msg("%s", d.msg);
    assert_int_equal(c->state, CONTAINER_STOPPED);
    RUN_UNTIL(g->f->event, w.n);
    assert_int_equal(w.pid, 137);
    refused(c, &req, EBUSY, "stopped");
    guest_delete(g, c);
    assert_null(g->a.containers);
}

/* crun says it is done before the end of init is seen. */
static void test_exits_later(void **state) {
    struct guest *g = *state;
    struct container *c = container(g);
    struct checkpoint_request req = request();
    struct dumped d;
    req.leave_running = false;
    tmpdir_write(g->f->dir, "victim", "0x"); /* kills nobody */
    dump(g, c, &req, &d);
    assert_int_equal(d.code, 0);
    assert_int_equal(c->state, CONTAINER_STOPPED);
    assert_int_equal(c->init->exit.code, 137);
    guest_delete(g, c);
}

static void test_paused(void **state) {
    struct guest *g = *state;
    struct container *c = container(g);
    struct checkpoint_request req = request();
    struct outcome o = {0};
    struct dumped d;
    guest_write(g, "cgroup.events", "populated 1\nfrozen 1\n");
    assert_int_equal(container_pause(c, on_outcome, &o, NULL), 0);
    RUN_UNTIL(g->f->event, o.n);
    assert_int_equal(c->state, CONTAINER_PAUSED);
    dump(g, c, &req, &d);
    assert_int_equal(d.code, 0);
    assert_int_equal(c->state, CONTAINER_PAUSED);
    /* It was thawed by somebody, as a CRIU that died may leave it: it is frozen again. */
    guest_write(g, "cgroup.freeze", "0");
    tmpdir_write(g->f->dir, "fail-checkpoint", "{\"msg\":\"CRIU checkpointing failed -52\",\"level\":\"error\"}\n");
    dump(g, c, &req, &d);
    assert_int_equal(d.code, EIO);
    assert_int_equal(c->state, CONTAINER_PAUSED);
    assert_true(guest_file_is(g, "cgroup.freeze", "1"));
    req.pre_dump = true;
    refused(c, &req, EBUSY, "pre-dump");
    assert_int_equal(container_resume(c, NULL), 0);
    guest_delete(g, c);
}

static void test_fails(void **state) {
    struct guest *g = *state;
    struct container *c = container(g);
    struct checkpoint_request req = request();
    struct dumped d;
    req.leave_running = false;
    tmpdir_write(g->f->dir, "fail-checkpoint", "{\"msg\":\"CRIU checkpointing failed -52\",\"level\":\"error\"}\n");
    tmpdir_write(g->f->dir, "log-checkpoint", "(1) Error (criu/sk-inet.c:189): inet: Connected TCP socket\n");
    guest_write(g, "cgroup.freeze", "1"); /* as CRIU died */
    dump(g, c, &req, &d);
    assert_int_equal(d.code, EIO);
    assert_non_null(strstr(d.msg, "container c1"));
    assert_non_null(strstr(d.msg, "failed -52"));
    assert_non_null(strstr(d.msg, "Connected TCP socket"));
    assert_int_equal(c->state, CONTAINER_RUNNING);
    assert_int_equal(c->init->state, PROCESS_RUNNING);
    assert_true(guest_file_is(g, "cgroup.freeze", "0"));
    assert_true(guest_file_has(g, WORK "criu-diagnostic.log", "Connected TCP socket"));
    assert_true(guest_file_has(g, WORK "criu-diagnostic.log", "exit code: 1"));
    /* The next one does not tell the log of this one. */
    tmpdir_remove(g->f->dir, "log-checkpoint");
    dump(g, c, &req, &d);
    assert_null(strstr(d.msg, "Connected TCP socket"));
    assert_non_null(strstr(d.msg, "did not get as far"));
    assert_non_null(strstr(d.msg, "it printed: printed"));
    guest_delete(g, c);
}

static void test_check_fails(void **state) {
    struct guest *g = *state;
    struct container *c = container(g);
    struct checkpoint_request req = request();
    struct dumped d;
    tmpdir_write(g->f->dir, "fail-check", "");
    dump(g, c, &req, &d);
    assert_int_equal(d.code, EOPNOTSUPP);
    assert_non_null(strstr(d.msg, "no such kernel feature"));
    assert_int_equal(c->state, CONTAINER_RUNNING);
    assert_false(guest_file_has(g, "calls", "checkpoint"));
    assert_null(g->a.criu.head);
    /* It is asked again, as it may have been something that passes. */
    tmpdir_remove(g->f->dir, "fail-check");
    dump(g, c, &req, &d);
    assert_int_equal(d.code, 0);
    tmpdir_remove(g->f->dir, "fake-criu");
    guest_delete(g, c);
}

static void test_refused(void **state) {
    struct guest *g = *state;
    struct container *c = container(g);
    struct checkpoint_request req = request();
    req.image_dir = "none";
    refused(c, &req, ENOENT, "/share/c1/checkpoint/none");
    assert_true(guest_file_has(g, WORK "criu-diagnostic.log", "checkpoint/none"));
    static const char *const names[] = {"", ".", "..", "../images", "images/x", "/share"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        req.image_dir = names[i];
        refused(c, &req, EINVAL, "image directory");
    }
    req = request();
    req.work_dir = "none";
    refused(c, &req, ENOENT, "/share/c1/checkpoint/none");
    req.work_dir = "../../c1";
    refused(c, &req, EINVAL, "work directory");
    assert_int_equal(symlinkat("/", g->f->dir->fd, "share/c1/checkpoint/link"), 0);
    req.work_dir = "link";
    refused(c, &req, ELOOP, "checkpoint/link");
    req = request();
    req.parent_dir = "../x";
    refused(c, &req, EINVAL, "parent directory");
    req.parent_dir = "images";
    refused(c, &req, EINVAL, "own parent");
    req = request();
    req.options.lazy_pages = true;
    refused(c, &req, EOPNOTSUPP, "lazy-pages");
    req = request();
    req.options.auto_dedup = true;
    refused(c, &req, EOPNOTSUPP, "auto-dedup");
    guest_delete(g, c);
}

/* Root can write anywhere but where the file system is read-only, as the share is where the host has mounted nothing.
 */
static void test_shared_pid_namespace(void **state) {
    struct guest *g = *state;
    struct checkpoint_request req = request();
    struct container *c = container(g);
    assert_int_equal(namespaces_own_pid(c->init->pid), c->init->pid);
    assert_int_equal(namespaces_own_pid(INT32_MAX), 0);
    g->a.needs_own_pids = true;
    refused(c, &req, EOPNOTSUPP, "no pid namespace of its own");
    g->a.needs_own_pids = false;
    guest_delete(g, c);
}

static void test_read_only(void **state) {
    struct guest *g = *state;
    struct container *c = container(g);
    struct checkpoint_request req = request();
    cleanup_free char *images = tmpdir_path(g->f->dir, "share/c1/checkpoint/images");
    g->a.share_dir = "/nonexistent";
    refused(c, &req, ENOENT, "/nonexistent");
    g->a.share_dir = g->share;
    if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount(images, images, NULL, MS_BIND, NULL) == 0 &&
        mount(NULL, images, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) == 0) {
        refused(c, &req, EROFS, images);
        assert_int_equal(umount2(images, MNT_DETACH), 0);
    }
    guest_delete(g, c);
}

static void test_execs(void **state) {
    struct guest *g = *state;
    struct container *c = container(g);
    struct checkpoint_request req = request();
    struct outcome o[CHECKPOINT_EXECS_NAMED_MAX + 2] = {0}, w = {0};
    struct dumped d;
    char id[16], want[64];
    assert_int_equal(guest_exec(c, "e0", &o[0]), 0);
    refused(c, &req, EBUSY, "operation");
    RUN_UNTIL(g->f->event, o[0].n);
    snprintf(want, sizeof(want), "e0 (pid %d)", (int)o[0].pid);
    refused(c, &req, EBUSY, want);
    for (size_t i = 1; i < ARRAY_SIZE(o); i++) {
        snprintf(id, sizeof(id), "e%zu", i);
        assert_int_equal(guest_exec(c, id, &o[i]), 0);
        RUN_UNTIL(g->f->event, o[i].n);
    }
    refused(c, &req, EBUSY, " and 2 more");
    req.allow_execs = true;
    dump(g, c, &req, &d);
    assert_int_equal(d.code, 0);
    /* Those that have ended do not matter. */
    req.allow_execs = false;
    for (struct process *p = c->execs; p; p = p->next) {
        w = (struct outcome){0};
        assert_int_equal(process_wait(p, on_wait, &w, NULL), 0);
        assert_int_equal(process_signal(p, SIGKILL, NULL), 0);
        RUN_UNTIL(g->f->event, w.n);
    }
    dump(g, c, &req, &d);
    assert_int_equal(d.code, 0);
    guest_delete(g, c);
}

/* What is open in the container's processes counts, by the cgroup's list of them. */
static void test_open_files(void **state) {
    struct guest *g = *state;
    cleanup_free char *program =
        str_printf("exec 5<%s/file; ln %s/file %s/other; rm %s/file; touch %s/ready; exec sleep 1000\n",
                   g->f->dir->path, g->f->dir->path, g->f->dir->path, g->f->dir->path, g->f->dir->path);
    tmpdir_write(g->f->dir, "file", "x");
    tmpdir_write(g->f->dir, "program", program);
    struct container *c = container(g);
    struct checkpoint_request req = request();
    char pids[16];
    snprintf(pids, sizeof(pids), "%d\n", (int)c->init->pid);
    guest_write(g, "cgroup.procs", pids);
    RUN_UNTIL(g->f->event, tmpdir_has(g->f->dir, "ready"));
    refused(c, &req, EBUSY, "/file (deleted)");
    assert_true(guest_file_has(g, WORK "criu-diagnostic.log", "/file (deleted)"));
    guest_delete(g, c);
}

/* Its time is up, but CRIU is left to finish. */
static void test_slow(void **state) {
    struct guest *g = *state;
    struct container *c = container(g);
    struct checkpoint_request req = request();
    struct outcome o = {0};
    struct dumped d;
    tmpdir_write(g->f->dir, "wait-checkpoint", "");
    req.timeout_usec = 50 * USEC_PER_MSEC;
    dump(g, c, &req, &d);
    assert_int_equal(d.code, ETIMEDOUT);
    assert_int_equal(c->state, CONTAINER_CHECKPOINTING);
    assert_int_equal(guest_exec(c, "e", &o), -EBUSY);
    assert_int_equal(container_pause(c, on_outcome, &o, NULL), -EBUSY);
    assert_int_equal(container_checkpoint(c, &req, on_dumped, &d, NULL), -EBUSY);
    tmpdir_remove(g->f->dir, "wait-checkpoint");
    RUN_UNTIL(g->f->event, c->state != CONTAINER_CHECKPOINTING);
    assert_int_equal(c->state, CONTAINER_RUNNING);
    assert_int_equal(d.n, 1);
    guest_delete(g, c);
}

static void test_delete_meanwhile(void **state) {
    struct guest *g = *state;
    struct container *c = container(g);
    struct checkpoint_request req = request();
    struct outcome o = {0};
    struct dumped d;
    tmpdir_write(g->f->dir, "wait-checkpoint", "");
    begin(c, &req, &d);
    RUN_UNTIL(g->f->event, guest_file_has(g, "calls", "checkpoint"));
    assert_int_equal(container_delete(c, on_outcome, &o, NULL), 0);
    assert_int_equal(d.n, 0);
    tmpdir_write(g->f->dir, "fail-checkpoint", "{\"msg\":\"gone\",\"level\":\"error\"}\n");
    tmpdir_remove(g->f->dir, "wait-checkpoint");
    RUN_UNTIL(g->f->event, o.n);
    assert_int_equal(o.code, 0);
    assert_int_equal(d.code, EIO);
    assert_null(g->a.containers);
    assert_null(g->a.criu.head);
}

/* Two containers: one after the other, and one that is deleted before its turn comes. */
static void test_queue(void **state) {
    struct guest *g = *state;
    struct container *c = container(g), *other = guest_container(g, "c2");
    struct checkpoint_request req = request();
    struct outcome o = {0};
    struct dumped d, e;
    static const char *const dirs[] = {"share/c2/checkpoint/images", "share/c2/checkpoint/work"};
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        close(path_mkdirs_beneath(g->f->dir->fd, dirs[i], 0755, NULL));
    tmpdir_write(g->f->dir, "wait-checkpoint", "");
    begin(c, &req, &d);
    begin(other, &req, &e);
    RUN_UNTIL(g->f->event, guest_file_has(g, "calls", "checkpoint c1"));
    assert_false(guest_file_has(g, "calls", "checkpoint c2"));
    tmpdir_remove(g->f->dir, "wait-checkpoint");
    RUN_UNTIL(g->f->event, d.n && e.n);
    assert_int_equal(d.code + e.code, 0);
    tmpdir_write(g->f->dir, "wait-checkpoint", "");
    begin(c, &req, &d);
    begin(other, &req, &e);
    assert_int_equal(container_delete(other, on_outcome, &o, NULL), 0);
    tmpdir_remove(g->f->dir, "wait-checkpoint");
    RUN_UNTIL(g->f->event, d.n && e.n && o.n);
    assert_int_equal(d.code, 0);
    assert_int_equal(e.code, ECANCELED);
    assert_int_equal(o.code, 0);
    guest_delete(g, c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        GUEST_TEST(test_leave_running),
        GUEST_TEST(test_exits),
        GUEST_TEST(test_exits_later),
        GUEST_TEST(test_paused),
        GUEST_TEST(test_fails),
        GUEST_TEST(test_check_fails),
        GUEST_TEST(test_refused),
        GUEST_TEST(test_shared_pid_namespace),
        GUEST_TEST(test_read_only),
        GUEST_TEST(test_execs),
        GUEST_TEST(test_open_files),
        GUEST_TEST(test_slow),
        GUEST_TEST(test_delete_meanwhile),
        GUEST_TEST(test_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
