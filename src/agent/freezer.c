/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pausing with the cgroup v2 freezer, without crun: what it does is write the same file, and it reads the same file to
 * know that a container is paused.
 */
#include <sys/inotify.h>
#include <time.h>

#include "agent/cgroup.h"
#include "agent/container.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/util.h"

static void end_watch(struct container *c) {
    c->frozen_source = sd_event_source_disable_unref(c->frozen_source);
    c->freeze_timer = sd_event_source_disable_unref(c->freeze_timer);
}

void container_pause_end(struct container *c, const struct err *err) {
    if (!c->pausing.fn)
        return;
    struct container_call call = c->pausing;
    c->pausing = (struct container_call){0};
    end_watch(c);
    if (c->state == CONTAINER_PAUSING) {
        /* Nothing may stay half frozen. */
        if (err && c->cgroup_fd >= 0)
            (void)cgroup_freeze(c->cgroup_fd, false, NULL);
        container_set_state(c, err ? CONTAINER_RUNNING : CONTAINER_PAUSED);
    }
    call.fn(call.userdata, err);
}

static bool is_frozen(const struct container *c) {
    uint64_t frozen = 0;
    return cgroup_read_key(c->cgroup_fd, "cgroup.events", "frozen", &frozen) == 0 && frozen == 1;
}

static int on_cgroup_event(sd_event_source *source, const struct inotify_event *event, void *userdata) {
    (void)source;
    (void)event;
    struct container *c = userdata;
    if (is_frozen(c))
        container_pause_end(c, NULL);
    return 0;
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)source;
    (void)usec;
    struct container *c = userdata;
    struct err err = ERR_INIT;
    err_set(&err, ETIMEDOUT, "cannot pause container %s: %s", c->id,
            c->ops ? "an operation in it does not end" : "a process in it cannot be frozen");
    container_pause_end(c, &err);
    return 0;
}

static int freeze(struct container *c, struct err *err) {
    cleanup_free char *path = str_printf("%s/cgroup.events", c->cgroup_path);
    if (!path)
        return err_set(err, ENOMEM, "out of memory");
    /* First the watch, then the order: no change can be missed. */
    int r = sd_event_add_inotify(c->agent->event, &c->frozen_source, path, IN_MODIFY, on_cgroup_event, c);
    if (r < 0)
        return err_errno(err, -r, "cannot watch %s", path);
    return FAULT(AGENT_FREEZE) ? err_errno(err, errno, "cannot write %s/cgroup.freeze", c->cgroup_path)
                               : cgroup_freeze(c->cgroup_fd, true, err);
}

void container_pause_step(struct container *c) {
    struct err err = ERR_INIT;
    if (c->ops || c->frozen_source)
        return;
    if (freeze(c, &err) < 0) {
        err_wrap(&err, "cannot pause container %s", c->id);
        container_pause_end(c, &err);
    } else if (is_frozen(c)) {
        container_pause_end(c, NULL);
    }
}

int container_pause(struct container *c, agent_done_fn fn, void *userdata, struct err *err) {
    int r = container_check_action(ACTION_PAUSE, c->state, c->id, err);
    if (r < 0)
        return r;
    r = sd_event_add_time_relative(c->agent->event, &c->freeze_timer, CLOCK_MONOTONIC, CONTAINER_FREEZE_TIMEOUT_USEC, 0,
                                   on_timeout, c);
    if (r < 0)
        return err_errno(err, -r, "cannot pause container %s", c->id);
    c->pausing = (struct container_call){.fn = fn, .userdata = userdata};
    container_set_state(c, CONTAINER_PAUSING);
    container_pause_step(c);
    return 0;
}

int container_resume(struct container *c, struct err *err) {
    if (c->state == CONTAINER_RUNNING) /* a call before this one, whose answer came too late for the host */
        return 0;
    if (c->state == CONTAINER_PAUSING) { /* one that the host does not wait for any more */
        struct err undone = ERR_INIT;
        err_set(&undone, ECANCELED, "container %s was resumed before it was paused", c->id);
        container_pause_end(c, &undone);
        return cgroup_freeze(c->cgroup_fd, false,
                             err); /* what it has done already; but it does not say whether it could */
    }
    int r = container_check_action(ACTION_RESUME, c->state, c->id, err);
    if (r == 0)
        r = FAULT(AGENT_RESUME) ? err_errno(err, errno, "cannot write %s/cgroup.freeze", c->cgroup_path)
                                : cgroup_freeze(c->cgroup_fd, false, err);
    if (r < 0)
        return r;
    container_set_state(c, CONTAINER_RUNNING);
    log_debug("container %s: resumed", c->id);
    return 0;
}
