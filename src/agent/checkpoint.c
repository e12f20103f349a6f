/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/checkpoint.h"

#include <signal.h>
#include <string.h>

#include "agent/boot_id.h"
#include "agent/cgroup.h"
#include "agent/check.h"
#include "agent/criu_job.h"
#include "agent/criu_left.h"
#include "agent/criu_scan.h"
#include "agent/namespaces.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"

struct checkpoint {
    struct container *c;
    struct criu_job job;
    bool was_paused;
    bool stays;  /* it goes on when it has been dumped */
    bool dumped; /* waits for the end of its init */
    uint64_t started, duration;
    sd_event_source *timer;
    struct criu_left left;
    struct err failure; /* crun's, while CRIU is waited for */
    checkpoint_fn fn;   /* NULL: answered */
    void *userdata;
};

/* What is known beforehand. */

static int check_execs(const struct container *c, struct err *err) {
    size_t n = 0;
    for (const struct process *p = c->execs; p; p = p->next) {
        if (p->state == PROCESS_EXITED)
            continue;
        if (++n == 1)
            err_set(err, EBUSY, "processes of exec are in it, which a checkpoint would lose: %s (pid %d)", p->exec_id,
                    (int)p->pid);
        else if (n <= CHECKPOINT_EXECS_NAMED_MAX)
            err_append(err, ", %s (pid %d)", p->exec_id, (int)p->pid);
    }
    if (n > CHECKPOINT_EXECS_NAMED_MAX)
        err_append(err, " and %zu more", n - CHECKPOINT_EXECS_NAMED_MAX);
    return n ? -EBUSY : 0;
}

static int check_request(const struct container *c, const struct checkpoint_request *req, struct err *err) {
    const char *parent = req->parent_dir;
    if (req->pre_dump && c->state == CONTAINER_PAUSED)
        /* CRIU does not freeze for a pre-dump, and so would wait for frozen processes until they are thawed. */
        return err_set(err, EBUSY, "a pre-dump needs processes that run, and the container is paused: resume it first");
    if (*parent) {
        int r = id_validate("parent directory", parent, err);
        if (r < 0)
            return r;
        if (strcmp(parent, req->image_dir) == 0)
            return err_set(err, EINVAL, "the images cannot be their own parent");
    }
    if (c->ops)
        return err_set(err, EBUSY, "another operation in it is under way");
    return req->allow_execs ? 0 : check_execs(c, err);
}

/* Its processes come back under the numbers that they have, which are taken in another guest. CRIU 4.2 makes those of a
 * namespace that is shared in the guest's own, so a pod's is no better. */
static int check_pid_namespace(const struct container *c, struct err *err) {
    if (!c->agent->needs_own_pids || namespaces_own_pid(c->init->pid) == 1)
        return 0;
    return err_set(
        err, EOPNOTSUPP,
        "it has no pid namespace of its own, but the guest's or its pod's, and could not be restored (give it "
        "one: {\"type\": \"pid\"} in linux.namespaces)");
}

static int check_files(const struct container *c, struct err *err) {
    cleanup_free pid_t *pids = NULL;
    size_t n = 0;
    int r = cgroup_pids(c->cgroup_fd, &pids, &n, err);
    return r < 0 ? r : criu_scan(pids, n, err);
}

static int add_args(struct checkpoint *k, const struct checkpoint_request *req, struct err *err) {
    struct strv *argv = &k->job.argv;
    int r = 0;
    if (req->leave_running)
        r |= strv_add(argv, "--leave-running");
    if (req->pre_dump)
        r |= strv_add(argv, "--pre-dump");
    if (*req->parent_dir)
        r |= strv_addf(argv, "--parent-path=../%s", req->parent_dir);
    return r ? err_set(err, ENOMEM, "out of memory") : 0;
}

/* The end of it. */

static void answer(struct checkpoint *k, const struct err *err) {
    const struct check_result *check = k->c->agent->criu_check;
    struct checkpoint_result result = {.criu_version = check ? check->criu_version : "", .duration_usec = k->duration};
    checkpoint_fn fn = k->fn;
    k->timer = sd_event_source_disable_unref(k->timer);
    k->fn = NULL;
    if (fn)
        fn(k->userdata, err ? NULL : &result, err);
    else if (err)
        log_error("%s", err->msg);
}

/* May free the container. */
static void end(struct checkpoint *k, const struct err *err) {
    struct container *c = k->c;
    c->checkpoint = NULL;
    criu_job_report(&k->job, err);
    answer(k, err);
    criu_job_clear(&k->job);
    free(k);
    container_op_end(c);
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)source;
    (void)usec;
    struct checkpoint *k = userdata;
    struct err err = ERR_INIT;
    criu_job_collect(&k->job);
    err_set(&err, ETIMEDOUT,
            "the checkpoint of container %s is not done in time; CRIU cannot be stopped and goes on with it", k->c->id);
    answer(k, &err);
    return 0;
}

/* crun and CRIU leave the freezer as they found it; this is for when they did not get that far. */
static int restore_freezer(const struct checkpoint *k, struct err *err) {
    cleanup_free char *text = NULL;
    int r = file_read_at(k->c->cgroup_fd, "cgroup.freeze", CGROUP_FILE_MAX, &text, NULL, err);
    if (r < 0)
        return r;
    bool frozen = text[0] == '1';
    if (frozen == k->was_paused)
        return 0;
    log_warn("container %s: was left %s by the checkpoint", k->c->id, frozen ? "frozen" : "thawed");
    return cgroup_freeze(k->c->cgroup_fd, k->was_paused, err);
}

static void settle(struct checkpoint *k) {
    struct container *c = k->c;
    struct err err = ERR_INIT;
    if (c->state != CONTAINER_CHECKPOINTING)
        return;
    if (restore_freezer(k, &err) < 0)
        log_error("container %s: cannot be put back to what it was: %s", c->id, err.msg);
    boot_id_lay(c);
    container_set_state(c, k->was_paused ? CONTAINER_PAUSED : CONTAINER_RUNNING);
}

static void fail(struct checkpoint *k, struct err *err) {
    settle(k);
    err_wrap(err, "cannot checkpoint container %s", k->c->id);
    end(k, err);
}

void checkpoint_init_exited(struct container *c) {
    if (!c->checkpoint || !c->checkpoint->dumped)
        return;
    if (c->state == CONTAINER_CHECKPOINTING)
        container_set_state(c, CONTAINER_STOPPED);
    end(c->checkpoint, NULL);
}

static void on_criu_gone(void *userdata) {
    struct checkpoint *k = userdata;
    struct err err = k->failure;
    criu_job_collect(&k->job);
    criu_job_explain(&k->job, &err);
    fail(k, &err);
}

static void on_dumped(void *userdata, struct crun_result *result) {
    struct checkpoint *k = userdata;
    struct container *c = k->c;
    struct err err = ERR_INIT;
    k->duration = now_usec() - k->started;
    (void)FAULT(AGENT_DUMPED);
    k->job.status = result->status;
    if (result->err) {
        err_copy(&k->failure, result->err);
        if (criu_left_wait(&k->left, c->agent->event, on_criu_gone, k, &err) < 0)
            on_criu_gone(k);
        return;
    }
    criu_job_collect(&k->job);
    if (k->stays) {
        settle(k);
        end(k, NULL);
        return;
    }
    if (c->init->state == PROCESS_EXITED) {
        end(k, NULL);
        return;
    }
    /* CRIU has killed what it dumped, and crun what else there was; its end is about to be seen. */
    k->dumped = true;
    (void)process_signal(c->init, SIGKILL, NULL);
}

/* The way to it. */

static void run(struct checkpoint *k) {
    struct container *c = k->c;
    struct err err = ERR_INIT;
    if (c->state != CONTAINER_CHECKPOINTING) {
        err_set(&err, ECANCELED, "it is %s", container_state_name(c->state));
        fail(k, &err);
        return;
    }
    struct crun_request req = CRUN_REQUEST_INIT;
    criu_job_args(&k->job, &req);
    criu_job_read_mounts(&k->job, c->init->pid);
    req.stdio[1] = req.stdio[2] = k->job.output;
    boot_id_take(c);
    k->started = now_usec();
    int r = criu_job_begin(&k->job, &err);
    if (r == 0)
        r = crun_run(&c->agent->crun, &req, on_dumped, k, &err);
    if (r < 0)
        fail(k, &err);
}

static void on_checked(void *userdata, const struct check_result *result, const struct err *check_err) {
    struct checkpoint *k = userdata;
    struct err err = ERR_INIT;
    if (check_err) {
        err_copy(&err, check_err);
        fail(k, &err);
        return;
    }
    if (!check_passed(result)) {
        err_set(&err, EOPNOTSUPP, "CRIU does not work in this guest");
        for (size_t i = 0; i < result->n; i++)
            if (result->items[i].status == CHECK_FAIL)
                err_append(&err, "; %s: %s", result->items[i].name, result->items[i].detail);
        fail(k, &err);
        return;
    }
    run(k);
}

static void on_turn(void *userdata) {
    struct checkpoint *k = userdata;
    struct agent *a = k->c->agent;
    struct err err = ERR_INIT;
    /* With a check under way for somebody else CRIU is left to say itself what it lacks. */
    if (a->criu_check || a->checking)
        run(k);
    else if (check_run_brief(a, on_checked, k, &err) < 0)
        fail(k, &err);
}

/* CRIU keeps packets from connections that it takes apart, by a dozen runs of iptables between dump and restore. Where
 * no connection may be there, and all that could make one is frozen with the container, there is nothing to keep off.
 */
static bool needs_network_lock(const struct container *c, const struct criu_options *o) {
    return o->tcp_established || o->tcp_close || c->agent->n_containers > 1 || c->pin_namespaces || c->init->pid <= 0 ||
           !namespaces_network_is_closed(c->init->pid);
}

static int prepare(struct checkpoint *k, const struct checkpoint_request *req, struct err *err) {
    struct container *c = k->c;
    struct criu_options options = req->options;
    if (!(options.network_lock && *options.network_lock) && !needs_network_lock(c, &options))
        options.network_lock = "skip";
    options.dump_seconds = (unsigned)(MIN(req->timeout_usec, CHECKPOINT_TIMEOUT_USEC) / USEC_PER_SEC + 1);
    int r = criu_job_init(&k->job, c->agent, c->id, CRIU_DUMP, req->image_dir, req->work_dir, &options, err);
    if (r == 0)
        r = add_args(k, req, err);
    if (r == 0)
        r = check_request(c, req, err);
    if (r == 0)
        r = check_pid_namespace(c, err);
    if (r == 0)
        r = check_files(c, err);
    if (r < 0)
        return r;
    r = sd_event_add_time_relative(c->agent->event, &k->timer, CLOCK_MONOTONIC, req->timeout_usec, 0, on_time, k);
    return r < 0 ? err_errno(err, -r, "cannot set a deadline") : 0;
}

int container_checkpoint(struct container *c, const struct checkpoint_request *req, checkpoint_fn fn, void *userdata,
                         struct err *err) {
    int r = container_check_action(ACTION_CHECKPOINT, c->state, c->id, err);
    if (r < 0)
        return r;
    struct checkpoint *k = calloc(1, sizeof(*k));
    if (!k)
        return err_set(err, ENOMEM, "out of memory");
    k->c = c;
    k->was_paused = c->state == CONTAINER_PAUSED;
    k->stays = req->leave_running || req->pre_dump;
    struct err cause = ERR_INIT;
    r = prepare(k, req, &cause);
    if (r < 0) {
        err_wrap(&cause, "cannot checkpoint container %s", c->id);
        criu_job_report(&k->job, &cause);
        criu_job_clear(&k->job);
        sd_event_source_disable_unref(k->timer);
        free(k);
        return err_copy(err, &cause);
    }
    k->fn = fn;
    k->userdata = userdata;
    c->checkpoint = k;
    container_set_state(c, CONTAINER_CHECKPOINTING);
    container_op_begin(c);
    criu_enter(&c->agent->criu, &k->job.turn, on_turn, k);
    return 0;
}
