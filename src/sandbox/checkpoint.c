/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/checkpoint.h"

#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/path.h"
#include "sandbox/container_impl.h"
#include "sandbox/criu_options.h"
#include "sandbox/share.h"
#include "sandbox/worker.h"

#define KILL_USEC (60 * USEC_PER_SEC) /* from the kill to the exit; output may hold that up for half a minute */

/* One checkpoint under way. Its steps are functions in the order they run in. */
struct checkpoint {
    struct container *c;
    bool was_paused, leave_running, pre_dump;
    bool frozen;      /* by us */
    bool dumping;     /* the agent has been asked to */
    bool unpublished; /* the worker was kept from giving the images their name */
    struct image_dir dir;
    struct strv parents; /* of the dump before, and those before it */
    char *work_path;
    Stasis__Agent__V1__CriuOptions *options; /* a copy; NULL: none */
    struct image_totals *totals;             /* shared with the worker */
    struct process *exec;                    /* that is waited for */
    struct sandbox_call *call;
    struct worker *worker;
    sd_event_source *deadline; /* of the worker, then of the exit after the kill */
    struct err failure;        /* code 0: none so far */
    struct checkpoint_outcome outcome;
    checkpoint_done_fn done;
    void *userdata;
};

char *checkpoint_default_work_path(const struct container *c) {
    return str_printf("%s/criu.work/%s", sandbox_dir(c->sb), c->id);
}

char *checkpoint_scratch(const struct container *c) {
    return c->checkpoint && c->checkpoint->dir.tmp ? c->checkpoint->dir.tmp : c->left_scratch;
}

static void stop_commit(struct checkpoint *cp, struct err *err);

static void free_checkpoint(struct checkpoint *cp) {
    call_cancel(cp->call);
    if (cp->worker)
        stop_commit(cp, NULL);
    sd_event_source_disable_unref(cp->deadline);
    image_dir_clear(&cp->dir);
    strv_clear(&cp->parents);
    free(cp->work_path);
    if (cp->options)
        stasis__agent__v1__criu_options__free_unpacked(cp->options, NULL);
    if (cp->totals)
        munmap(cp->totals, sizeof(*cp->totals));
    free(cp);
}

static void take_mounts_away(struct checkpoint *cp) {
    struct err err = ERR_INIT;
    if (share_remove_checkpoint(sandbox_share(cp->c->sb), cp->c->guest_id, &err) < 0)
        log_error("container %s: %s", cp->c->id, err.msg);
    sandbox_forget(cp->c->sb);
}

/* The first failure is the one that is told. */
static void failed(struct checkpoint *cp, const struct err *err) {
    if (cp->failure.code)
        return;
    cp->failure = *err;
    err_wrap(&cp->failure, "cannot checkpoint container %s", cp->c->id);
}

/* The end, whichever way it came. */
static void finish(struct checkpoint *cp) {
    struct container *c = cp->c;
    c->checkpoint = NULL;
    cp->outcome.images = *cp->totals;
    snprintf(cp->outcome.work_path, sizeof(cp->outcome.work_path), "%s", cp->work_path);
    c->op.done = NULL;
    image_dir_clear(&cp->dir); /* the state that is saved now does not name it any more */
    container_finish(c, cp->was_paused || cp->frozen ? CONTAINER_PAUSED : CONTAINER_RUNNING, NULL);
    cp->done(cp->userdata, &cp->outcome, cp->failure.code ? &cp->failure : NULL);
    free_checkpoint(cp);
}

/* Last step: what was frozen for the dump goes on, or dies. */

/* The guest's word is not waited for without end. */
static int on_does_not_end(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)source;
    (void)usec;
    struct checkpoint *cp = userdata;
    struct err err = ERR_INIT;
    process_wait_cancel(cp->c->init, cp);
    err_set(&err, ETIMEDOUT, "the checkpoint is at %s, but the container, which was killed, has not ended within %u s",
            cp->dir.final, (unsigned)(KILL_USEC / USEC_PER_SEC));
    failed(cp, &err);
    finish(cp);
    return 0;
}

static void on_gone(void *userdata, const struct process_exit *ex) {
    (void)ex;
    finish(userdata);
}

static void on_resumed(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct checkpoint *cp = userdata;
    (void)reply;
    cp->call = NULL;
    cp->frozen = err != NULL;
    if (err)
        err_append(&cp->failure, "; and it stays paused: %s", err->msg);
    container_undo_late(cp->c, "Pause", err);
    finish(cp);
}

static int call_agent(struct checkpoint *cp, const char *method, ttrpc_reply_fn fn, struct err *err) {
    Stasis__Agent__V1__ContainerRequest req = STASIS__AGENT__V1__CONTAINER_REQUEST__INIT;
    req.id = cp->c->guest_id;
    return sandbox_call(cp->c->sb, method, &req.base, fn, cp, &cp->call, err);
}

static void settle(struct checkpoint *cp) {
    struct container *c = cp->c;
    struct err err = ERR_INIT;
    int r = 0;
    bool alive = c->state != CONTAINER_STOPPED;
    bool to_die = alive && !cp->leave_running && !cp->pre_dump;
    if (to_die && !cp->failure.code) {
        bool lost = FAULT(CHECKPOINT_EXIT);
        int e = sd_event_add_time_relative(sandbox_event(c->sb), &cp->deadline, CLOCK_MONOTONIC,
                                           lost ? USEC_PER_SEC : KILL_USEC, 0, on_does_not_end, cp);
        r = e < 0 ? err_errno(&err, -e, "cannot set a timer") : process_wait(c->init, on_gone, cp, &err);
        if (r == 0 && !lost)
            sandbox_kill_quietly(c->sb, c->init);
    } else if (to_die && !cp->was_paused) {
        r = call_agent(cp, "Resume", on_resumed, &err); /* it was frozen to be killed */
        if (r < 0)
            err_append(&cp->failure, "; and it stays paused: %s", err.msg);
    } else {
        finish(cp);
    }
    if (r < 0) {
        failed(cp, &err);
        finish(cp);
    }
}

/* Third step: the files become a checkpoint. */

static int commit(void *arg, struct err *err) {
    struct checkpoint *cp = arg;
    struct err e = ERR_INIT;
    int r = cp->failure.code ? 0 : image_dir_commit(&cp->dir, cp->totals, err);
    /* The logs are for a person: without them the checkpoint is as good. */
    if (image_dir_collect_work(&cp->dir, cp->work_path, sandbox_config(cp->c->sb)->criu_log_level, &e) < 0)
        log_warn("container %s: %s", cp->c->id, e.msg);
    return r;
}

static void on_committed(void *userdata, const struct err *err) {
    struct checkpoint *cp = userdata;
    cp->worker = NULL;
    cp->deadline = sd_event_source_disable_unref(cp->deadline);
    if (err)
        failed(cp, err);
    settle(cp);
}

/* Ends the worker. What may be the only copy of a checkpoint stays, as the error says; so does, until the container is
 * deleted, what the worker cannot be parted from. */
static void stop_commit(struct checkpoint *cp, struct err *err) {
    bool ended = worker_kill(cp->worker);
    cp->worker = NULL;
    if (cp->totals->named && !cp->totals->committed && !cp->unpublished) {
        err_append(err, "; it may be there nevertheless, and what was there before, in %s", cp->dir.tmp);
        image_dir_abandon(&cp->dir);
    } else if (!ended) {
        free(cp->c->left_scratch);
        cp->c->left_scratch = strdup(cp->dir.tmp);
        image_dir_abandon(&cp->dir);
    }
    sandbox_save(cp->c->sb);
}

/* The container does not stand still for ever for a disk that hangs. */
static int on_commit_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)source;
    (void)usec;
    struct checkpoint *cp = userdata;
    struct err err = ERR_INIT;
    err_set(&err, ETIMEDOUT, "checkpoint %s: it was not on the disk within %.0f s ([checkpoint] timeout)",
            cp->dir.final, (double)sandbox_config(cp->c->sb)->checkpoint_timeout / (double)USEC_PER_SEC);
    stop_commit(cp, &err);
    bool only_logs = cp->totals->committed || cp->failure.code; /* looked at when the worker is dead */
    if (only_logs)
        log_warn("container %s: the logs of a checkpoint were not copied to %s in time", cp->c->id, cp->work_path);
    on_committed(cp, only_logs ? NULL : &err);
    return 0;
}

static int start_commit(struct checkpoint *cp, struct err *err) {
    sd_event *event = sandbox_event(cp->c->sb);
    int r = sd_event_add_time_relative(event, &cp->deadline, CLOCK_MONOTONIC,
                                       sandbox_config(cp->c->sb)->checkpoint_timeout, 0, on_commit_deadline, cp);
    if (r < 0)
        return err_errno(err, -r, "cannot set a timer");
    return worker_start(event, "commit of a checkpoint", commit, cp, on_committed, cp, &cp->worker, err);
}

/* Second step: the agent has answered. */

static void on_dumped(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct checkpoint *cp = userdata;
    struct err e = ERR_INIT;
    cp->call = NULL;
    cp->dumping = false;
    (void)FAULT(CHECKPOINT_DUMPED);
    take_mounts_away(cp);
    if (cp->failure.code) {
        log_info("container %s: the checkpoint that was given up is over, and what it made is thrown away", cp->c->id);
    } else if (err) {
        cp->failure = *err;
        err_wrap_once(&cp->failure, "cannot checkpoint container", cp->c->id); /* the agent does, too */
        err_append(&cp->failure, " (logs: %s)", cp->work_path);
    } else {
        const Stasis__Agent__V1__CheckpointResponse *r = (const void *)*reply;
        snprintf(cp->outcome.criu_version, sizeof(cp->outcome.criu_version), "%s", r->criu_version);
        cp->outcome.agent_usec = r->duration_usec;
    }
    if (start_commit(cp, &e) < 0)
        on_committed(cp, &e);
}

static int dump(struct checkpoint *cp, struct err *err) {
    struct share_checkpoint what = {.images = cp->dir.images, .work = cp->dir.work, .parents = &cp->parents};
    struct share_checkpoint_names names;
    int r = share_add_checkpoint(sandbox_share(cp->c->sb), cp->c->guest_id, &what, &names, err);
    if (r < 0)
        return r;
    Stasis__Agent__V1__CheckpointRequest req = STASIS__AGENT__V1__CHECKPOINT_REQUEST__INIT;
    req.id = cp->c->guest_id;
    req.image_dir = names.images;
    req.work_dir = names.work;
    req.parent_dir = cp->dir.parent_name ? cp->dir.parent_name : req.parent_dir;
    req.leave_running = true;
    req.pre_dump = cp->pre_dump;
    req.options = cp->options;
    r = FAULT(CHECKPOINT_CALL)
            ? err_errno(err, errno, "cannot call the agent")
            : sandbox_call_within(cp->c->sb, "Checkpoint", &req.base, sandbox_config(cp->c->sb)->checkpoint_timeout,
                                  on_dumped, cp, &cp->call, err);
    if (r < 0)
        take_mounts_away(cp);
    cp->dumping = r == 0;
    return r;
}

/* First step, when it is to die: frozen now, so that nothing it does after the dump is lost. */
static void on_frozen(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct checkpoint *cp = userdata;
    struct err e = ERR_INIT;
    (void)reply;
    cp->call = NULL;
    if (err) {
        failed(cp, err);
        container_undo_late(cp->c, "Resume", err);
        finish(cp);
        return;
    }
    cp->frozen = true;
    if (cp->failure.code) { /* abandoned meanwhile */
        settle(cp);
        return;
    }
    if (dump(cp, &e) < 0) {
        failed(cp, &e);
        settle(cp);
    }
}

static int begin_dump(struct checkpoint *cp, struct err *err) {
    bool freeze = !cp->was_paused && !cp->leave_running && !cp->pre_dump;
    return freeze ? call_agent(cp, "Pause", on_frozen, err) : dump(cp, err);
}

/* Before all, when that was asked for: one exec after the other, until none is left. */

static int wait_for_execs(struct checkpoint *cp, struct err *err);

static void on_exec_gone(void *userdata, const struct process_exit *ex) {
    struct checkpoint *cp = userdata;
    struct err err = ERR_INIT;
    (void)ex;
    cp->exec = NULL;
    if (cp->c->state == CONTAINER_STOPPED)
        err_set(&err, ESRCH, "it has stopped");
    if (err.code || wait_for_execs(cp, &err) < 0) {
        failed(cp, &err);
        finish(cp);
    }
}

static int wait_for_execs(struct checkpoint *cp, struct err *err) {
    struct process *p = exec_find_running(&cp->c->execs);
    if (!p)
        return begin_dump(cp, err);
    if (cp->was_paused)
        return err_set(err, EBUSY, "exec %s of the paused container does not end", process_exec_id(p));
    int r = process_wait(p, on_exec_gone, cp, err);
    if (r == 0)
        cp->exec = p;
    return r;
}

static int prepare(struct checkpoint *cp, const struct checkpoint_spec *spec, struct err *err) {
    struct container *c = cp->c;
    cp->work_path = *spec->work_path ? strdup(spec->work_path) : checkpoint_default_work_path(c);
    cp->totals = mmap(NULL, sizeof(*cp->totals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (cp->totals == MAP_FAILED)
        cp->totals = NULL;
    if (!cp->work_path || !cp->totals)
        return err_set(err, ENOMEM, "out of memory");
    if (!path_is_normal(cp->work_path))
        return err_set(err, EINVAL, "work directory \"%.200s\": must be an absolute, normal path", cp->work_path);
    int r = criu_options_copy(spec->options, &cp->options, err);
    if (r == 0)
        r = image_dir_plan(spec->image_path, spec->parent_path, &cp->dir, err);
    if (r == 0 && cp->dir.parent)
        r = image_dir_chain(cp->dir.parent, &cp->parents, err);
    return r;
}

int container_checkpoint(struct container *c, const struct checkpoint_spec *spec, checkpoint_done_fn done,
                         void *userdata, struct err *err) {
    struct checkpoint *cp = calloc(1, sizeof(*cp));
    if (!cp)
        return err_set(err, ENOMEM, "out of memory");
    *cp = (struct checkpoint){
        .c = c,
        .was_paused = c->state == CONTAINER_PAUSED,
        .leave_running = spec->leave_running,
        .pre_dump = spec->pre_dump,
        .done = done,
        .userdata = userdata,
    };
    int r =
        sandbox_config(c->sb)->checkpoint_enable
            ? 0
            : err_set(err, EPERM, "checkpointing is off: set enable = true under [checkpoint] in the configuration");
    if (r == 0 && c->state != CONTAINER_RUNNING && c->state != CONTAINER_PAUSED)
        r = err_set(err, EBUSY, "it is %s", container_lifecycle.names[c->state]);
    if (r == 0)
        r = prepare(cp, spec, err);
    if (r == 0)
        r = container_begin(c, CONTAINER_CHECKPOINTING, NULL, NULL, err);
    if (r < 0) {
        free_checkpoint(cp);
        return err_wrap(err, "cannot checkpoint container %s", c->id);
    }
    c->checkpoint = cp;
    r = sandbox_record(c->sb, err); /* names the directory to whoever cleans up after this daemon */
    if (r == 0)
        r = image_dir_create(&cp->dir, err);
    if (r == 0)
        r = spec->wait_execs ? wait_for_execs(cp, err) : begin_dump(cp, err);
    if (r < 0) {
        c->checkpoint = NULL;
        image_dir_clear(&cp->dir); /* as finish() */
        container_finish(c, cp->was_paused ? CONTAINER_PAUSED : CONTAINER_RUNNING, NULL);
        free_checkpoint(cp);
        return err_wrap(err, "cannot checkpoint container %s", c->id);
    }
    return 0;
}

/* Keeps the worker from giving the images their name; false when it is about to, or has. It looks at `cancelled` after
 * it has said that it will (image_dir.c), so either it or this sees the other's mark. */
static bool unpublish(struct checkpoint *cp) {
    __atomic_store_n(&cp->totals->cancelled, true, __ATOMIC_SEQ_CST);
    return !__atomic_load_n(&cp->totals->named, __ATOMIC_SEQ_CST);
}

void container_checkpoint_abandon(struct container *c, const void *userdata, const struct err *why) {
    struct checkpoint *cp = c->checkpoint;
    if (!cp || cp->userdata != userdata || cp->failure.code)
        return;
    if (cp->exec) { /* nothing has been done yet */
        process_wait_cancel(TAKE_PTR(cp->exec), cp);
        failed(cp, why);
        finish(cp);
    } else if (cp->worker && unpublish(cp)) {
        cp->unpublished = true;
        stop_commit(cp, NULL);
        on_committed(cp, why);
    } else if (cp->call) {
        failed(cp, why); /* its answer is waited for, and goes no further */
    }
}

bool container_checkpoint_waits(const struct container *c) {
    return c->checkpoint && c->checkpoint->dumping && c->checkpoint->failure.code;
}

void checkpoint_cancel(struct container *c) {
    struct checkpoint *cp = c->checkpoint;
    if (!cp)
        return;
    c->checkpoint = NULL;
    struct err err = ERR_INIT;
    err_set(&err, ECANCELED, "container %s was removed", c->id);
    process_wait_cancel(c->init, cp);
    if (cp->exec)
        process_wait_cancel(cp->exec, cp);
    cp->done(cp->userdata, &cp->outcome, &err);
    free_checkpoint(cp);
}
