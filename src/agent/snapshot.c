/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/snapshot.h"

#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <time.h>

#include "agent/boot_id.h"
#include "agent/caches.h"
#include "agent/cgroup.h"
#include "agent/container.h"
#include "agent/deleted.h"
#include "agent/identity.h"
#include "agent/init.h"
#include "agent/job.h"
#include "agent/namespaces.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "ttrpc/server.h"

#define CHILD_TIMEOUT_USEC (2 * SNAPSHOT_FREEZE_TIMEOUT_USEC)

/* Written by the child, read by us. */
struct snapshot_work {
    const struct agent *agent;
    bool allow_deleted, for_template;
    struct err err;
    struct deleted_list deleted;
};

/* What is served meanwhile. */
static const char *const served[] = {"Hello", "Inspect", "Freeze", "Thaw", "Shutdown", NULL};

static struct snapshot_work *work_new(const struct agent *a, struct err *err) {
    struct snapshot_work *w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (w == MAP_FAILED) {
        err_errno(err, errno, "cannot share memory with a child process");
        return NULL;
    }
    w->agent = a;
    return w;
}

static struct snapshot_work *work_free(struct snapshot_work *w) {
    if (w)
        (void)munmap(w, sizeof(*w));
    return NULL;
}

/* Standing still. */

static void hold(struct agent *a, bool on) {
    oom_hold(a, on);
    for (struct container *c = a->containers; c; c = c->next) {
        process_hold(c->init, on);
        for (struct process *p = c->execs; p; p = p->next)
            process_hold(p, on);
    }
    for (struct process *p = a->consoles; p; p = p->next)
        process_hold(p, on);
    ttrpc_server_hold(a->server, on ? served : NULL);
}

static int open_parent(const struct agent *a, struct err *err) {
    cleanup_free char *path = path_join(a->cgroup_root, CGROUP_PARENT);
    int fd = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    return fd < 0 ? err_errno(err, path ? errno : ENOMEM, "cannot open the cgroup of the containers") : fd;
}

static void end_step(struct snapshot *s) {
    s->events = sd_event_source_disable_unref(s->events);
    s->timer = sd_event_source_disable_unref(s->timer);
    s->job = job_cancel(s->job);
}

/* Back to where nothing is frozen. */
static void go_on(struct agent *a) {
    struct snapshot *s = &a->snapshot;
    end_step(s);
    s->work = work_free(s->work);
    free(s->deleted);
    s->deleted = NULL;
    s->cgroup_fd = fd_close(s->cgroup_fd);
    s->state = SNAPSHOT_NONE;
    hold(a, false);
}

/* Freezing. */

static void answer_frozen(struct agent *a, const struct deleted_list *deleted, const struct err *err) {
    snapshot_frozen_fn fn = a->snapshot.frozen;
    a->snapshot.frozen = NULL;
    if (fn)
        fn(a->snapshot.userdata, deleted, err);
}

static void freeze_failed(struct agent *a, struct err *err) {
    struct err undo = ERR_INIT;
    err_wrap(err, "cannot freeze the guest");
    if (cgroup_freeze(a->snapshot.cgroup_fd, false, &undo) < 0)
        log_error("the containers stay frozen: %s", undo.msg);
    answer_frozen(a, NULL, err);
    go_on(a);
}

static uint64_t step_done(const char *what, uint64_t since) {
    uint64_t now = now_usec();
    log_debug("%s: %.1f ms", what, (double)(now - since) / (double)USEC_PER_MSEC);
    return now;
}

static int settle(void *userdata) {
    struct snapshot_work *w = userdata;
    uint64_t t = now_usec();
    caches_sync();
    t = step_done("synced", t);
    int r = deleted_scan(w->agent, DELETED_FSTYPE, &w->deleted, &w->err);
    t = step_done("looked for deleted files", t);
    if (r == 0 && w->deleted.n && !w->allow_deleted)
        r = deleted_refuse(&w->deleted, &w->err);
    if (r == 0)
        r = caches_drop(w->agent->share_dir, &w->err);
    t = step_done("dropped caches", t);
    if (r == 0 && w->for_template) {
        caches_warm(w->agent->crun.path);
        caches_settle();
        r = caches_shrink(&w->err);
        (void)step_done("made memory small", t);
    }
    return r < 0;
}

/* 0, or what the child says; what ended it, if it said nothing. */
static int work_result(struct snapshot_work *w, int status, struct err *err) {
    if (status == 0)
        return 0;
    if (w->err.code)
        return err_copy(err, &w->err);
    if (status == -ETIMEDOUT)
        return err_set(err, ETIMEDOUT,
                       "the share, or a file system in a container, does not take what is to be written");
    return err_set(err, EIO, "a child process ended with %d", proc_exit_code(status));
}

static void on_settled(void *userdata, int status) {
    struct agent *a = userdata;
    struct snapshot *s = &a->snapshot;
    struct err err = ERR_INIT;
    s->job = NULL; /* frees itself */
    if (work_result(s->work, status, &err) < 0) {
        freeze_failed(a, &err);
        return;
    }
    end_step(s);
    if (s->work->deleted.n && !(s->deleted = malloc(sizeof(*s->deleted)))) {
        err_set(&err, ENOMEM, "out of memory");
        freeze_failed(a, &err);
        return;
    }
    if (s->deleted)
        *s->deleted = s->work->deleted;
    (void)malloc_trim(0);
    s->state = SNAPSHOT_FROZEN;
    log_debug("frozen");
    answer_frozen(a, &s->work->deleted, NULL);
    s->work = work_free(s->work);
}

static void on_all_frozen(struct agent *a) {
    struct snapshot *s = &a->snapshot;
    struct err err = ERR_INIT;
    s->events = sd_event_source_disable_unref(s->events);
    /* Our timer is the first to end it: a child that waits for the share may not even be killed. */
    if (job_fork(a->event, a->children, settle, s->work, CHILD_TIMEOUT_USEC, on_settled, a, &s->job, &err) < 0)
        freeze_failed(a, &err);
}

static bool is_frozen(const struct snapshot *s) {
    uint64_t frozen = 0;
    return cgroup_read_key(s->cgroup_fd, "cgroup.events", "frozen", &frozen) == 0 && frozen == 1;
}

static int on_cgroup_event(sd_event_source *source, const struct inotify_event *event, void *userdata) {
    (void)source;
    (void)event;
    struct agent *a = userdata;
    if (is_frozen(&a->snapshot))
        on_all_frozen(a);
    return 0;
}

/* Which of them it is. */
static void name_unfrozen(const struct agent *a, struct err *err) {
    uint64_t frozen;
    for (const struct container *c = a->containers; c; c = c->next)
        if (c->cgroup_fd >= 0 && cgroup_read_key(c->cgroup_fd, "cgroup.events", "frozen", &frozen) == 0 && !frozen)
            err_append(err, "%s %s", err->msg[strlen(err->msg) - 1] == ':' ? "" : ",", c->id);
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)source;
    (void)usec;
    struct agent *a = userdata;
    struct err err = ERR_INIT;
    if (a->snapshot.job) {
        (void)work_result(a->snapshot.work, -ETIMEDOUT, &err);
    } else {
        err_set(&err, ETIMEDOUT, "a process cannot be frozen, in container:");
        name_unfrozen(a, &err);
    }
    freeze_failed(a, &err);
    return 0;
}

static int check_container(const struct container *c, struct err *err) {
    switch (c->state) {
    case CONTAINER_CREATED:
    case CONTAINER_RUNNING:
    case CONTAINER_PAUSED:
    case CONTAINER_STOPPED:
        return c->ops ? err_set(err, EBUSY, "an operation in container %s is under way", c->id) : 0;
    default:
        return err_set(err, EBUSY, "container %s is %s", c->id, container_state_name(c->state));
    }
}

static int check_idle(const struct agent *a, bool for_template, struct err *err) {
    if (a->snapshot.state != SNAPSHOT_NONE)
        return err_set(err, EBUSY, "it is %s already",
                       a->snapshot.state == SNAPSHOT_FROZEN ? "frozen" : "being frozen");
    if (a->checking)
        return err_set(err, EBUSY, "a self-check is under way");
    if (for_template && a->containers)
        return err_set(err, EBUSY, "a template has no container, and there is %s", a->containers->id);
    if (for_template && a->consoles)
        return err_set(err, EBUSY, "a template has no debug console, and there is %s", a->consoles->exec_id);
    for (const struct container *c = a->containers; c; c = c->next) {
        int r = check_container(c, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int begin(struct agent *a, uint64_t timeout_usec, struct err *err) {
    struct snapshot *s = &a->snapshot;
    cleanup_free char *path = str_printf("%s/%s/cgroup.events", a->cgroup_root, CGROUP_PARENT);
    if (!path)
        return err_set(err, ENOMEM, "out of memory");
    int r = sd_event_add_time_relative(a->event, &s->timer, CLOCK_MONOTONIC, timeout_usec, 0, on_time, a);
    /* First the watch, then the order: no change can be missed. */
    if (r >= 0)
        r = sd_event_add_inotify(a->event, &s->events, path, IN_MODIFY, on_cgroup_event, a);
    return r < 0 ? err_errno(err, -r, "cannot watch %s", path) : cgroup_freeze(s->cgroup_fd, true, err);
}

/* For the first container that may not change its network; without, it is made then. */
static void make_ahead(struct agent *a) {
    struct err err = ERR_INIT;
    if (a->spare_network < 0 && (a->spare_network = namespaces_make_spare(&err)) < 0) {
        log_warn("%s", err.msg);
        a->spare_network = -1;
    }
}

int snapshot_freeze(struct agent *a, const struct snapshot_freeze_request *req, snapshot_frozen_fn fn, void *userdata,
                    struct err *err) {
    struct snapshot *s = &a->snapshot;
    int r = check_idle(a, req->for_template, err);
    if (r < 0)
        return err_wrap(err, "cannot freeze the guest");
    if (req->for_template)
        make_ahead(a);
    int fd = open_parent(a, err);
    if (fd < 0)
        return err_wrap(err, "cannot freeze the guest");
    s->work = work_new(a, err);
    if (!s->work) {
        fd_close(fd);
        return -ENOMEM;
    }
    s->work->allow_deleted = req->allow_deleted;
    s->work->for_template = s->for_template = req->for_template;
    s->cgroup_fd = fd;
    s->state = SNAPSHOT_FREEZING;
    s->frozen = fn;
    s->userdata = userdata;
    hold(a, true);
    struct err cause = ERR_INIT;
    if (begin(a, MIN(req->timeout_usec, SNAPSHOT_FREEZE_TIMEOUT_USEC), &cause) < 0)
        freeze_failed(a, &cause);
    else if (is_frozen(s))
        on_all_frozen(a);
    return 0;
}

/* Thawing. */

/* In this process, for a child would cost as much again. What could block is the share, and whoever made the copy waits
 * for it with a deadline; what could be left half done is our own mount namespace, and without that we are nothing. */
static int renew(struct agent *a, const struct snapshot_thaw_request *req, struct err *err) {
    if (unshare(CLONE_FS) < 0) /* which the first process has in common with the kernel's threads */
        return err_errno(err, errno, "cannot have a root of its own");
    int r = identity_renew(a, req->names, req->n_names, err);
    if (r == 0)
        r = boot_id_renew(a, err);
    a->own_boot_id |= r == 0;
    return r;
}

/* In this process, as what follows. */
static int check_files(const struct agent *a, struct err *err) {
    cleanup_free struct deleted_list *list = calloc(1, sizeof(*list));
    if (!list)
        return err_set(err, ENOMEM, "out of memory");
    uint64_t t = now_usec();
    int r = deleted_scan_copy(a, DELETED_FSTYPE, a->snapshot.deleted, list, err);
    (void)step_done("looked for files that are gone", t);
    return r == 0 && list->n ? deleted_refuse_copy(list, err) : r;
}

static int become_another(struct agent *a, const struct snapshot_thaw_request *req, struct err *err) {
    int r = req->entropy_len ? identity_reseed(a->random_path, req->entropy, req->entropy_len, err) : 0;
    if (r == 0 && req->wall_usec)
        r = init_set_clock(req->wall_usec, err);
    /* A template holds nothing yet that two could share. */
    return r == 0 && req->new_identity && !a->snapshot.for_template ? renew(a, req, err) : r;
}

static int thaw(struct agent *a, const struct snapshot_thaw_request *req, struct err *err) {
    int r = req->check_files ? check_files(a, err) : 0;
    if (r == 0)
        r = become_another(a, req, err);
    if (r == 0)
        r = cgroup_freeze(a->snapshot.cgroup_fd, false, err);
    return r < 0 ? err_wrap(err, "cannot thaw the guest") : 0;
}

int snapshot_thaw(struct agent *a, const struct snapshot_thaw_request *req, snapshot_thawed_fn fn, void *userdata,
                  struct err *err) {
    struct snapshot *s = &a->snapshot;
    bool is_copy = req->entropy_len || req->new_identity;
    if (s->state == SNAPSHOT_FREEZING)
        snapshot_void(a);
    if (s->state == SNAPSHOT_NONE) {
        if (is_copy)
            return err_set(err, EINVAL, "the guest is not frozen, and cannot become a copy");
        fn(userdata);
        return 0;
    }
    int r = thaw(a, req, err);
    if (r < 0)
        return r;
    log_debug("thawed");
    fn(userdata); /* before what waited */
    go_on(a);
    return 0;
}

void snapshot_void(struct agent *a) {
    struct err err = ERR_INIT;
    if (a->snapshot.state != SNAPSHOT_FREEZING)
        return;
    err_set(&err, ECANCELED, "the call was abandoned");
    freeze_failed(a, &err);
}
