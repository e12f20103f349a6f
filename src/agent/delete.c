/* SPDX-License-Identifier: Apache-2.0 */
/* Deleting a container: kill, wait until all is reaped, crun delete. */
#include <signal.h>
#include <time.h>

#include "agent/cgroup.h"
#include "agent/container.h"
#include "agent/trim.h"
#include "base/log.h"

static void answer(struct container *c, const struct err *err) {
    struct container_call call = c->deleting;
    c->deleting = (struct container_call){0};
    c->kill_timer = sd_event_source_disable_unref(c->kill_timer);
    c->crun_deletes = false;
    if (err)
        container_set_state(c, c->init->state == PROCESS_RUNNING ? CONTAINER_RUNNING : CONTAINER_STOPPED);
    else
        container_free(c);
    if (call.fn)
        call.fn(call.userdata, err);
}

static void on_deleted(void *userdata, struct crun_result *result) {
    struct container *c = userdata;
    c->ops--;
    trim_later(c->agent->trim);
    answer(c, result->err);
}

static bool all_ended(const struct container *c) {
    if (c->init->state == PROCESS_RUNNING)
        return false;
    for (const struct process *p = c->execs; p; p = p->next)
        if (p->state == PROCESS_RUNNING)
            return false;
    return true;
}

void container_delete_step(struct container *c) {
    if (c->ops || c->crun_deletes || !all_ended(c))
        return;
    struct err err = ERR_INIT;
    struct crun_request req = CRUN_REQUEST_INIT;
    req.args[0] = "delete";
    /* It is no error then if crun knows nothing of it (a create that failed). */
    req.args[1] = "--force";
    req.id = c->id;
    req.timeout_usec = c->delete_timeout_usec;
    if (crun_run(&c->agent->crun, &req, on_deleted, c, &err) < 0) {
        answer(c, &err);
        return;
    }
    c->crun_deletes = true;
    c->ops++;
}

static int on_kill_timeout(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)usec;
    struct container *c = userdata;
    /* What crun does has a deadline of its own. */
    if (c->ops) {
        int r = sd_event_source_set_time_relative(source, CONTAINER_KILL_TIMEOUT_USEC);
        return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
    }
    struct err err = ERR_INIT;
    err_set(&err, ETIMEDOUT, "cannot delete container %s: its processes do not die", c->id);
    answer(c, &err);
    return 0;
}

int container_delete(struct container *c, agent_done_fn fn, void *userdata, struct err *err) {
    int r = container_check_action(ACTION_DELETE, c->state, c->id, err);
    if (r < 0)
        return r;
    r = sd_event_add_time_relative(c->agent->event, &c->kill_timer, CLOCK_MONOTONIC, CONTAINER_KILL_TIMEOUT_USEC, 0,
                                   on_kill_timeout, c);
    if (r < 0)
        return err_errno(err, -r, "cannot delete container %s", c->id);
    struct err gone = ERR_INIT;
    err_set(&gone, ECANCELED, "container %s is being deleted", c->id);
    container_pause_end(c, &gone);
    c->deleting = (struct container_call){.fn = fn, .userdata = userdata};
    container_set_state(c, CONTAINER_DELETING);
    /* Its own cgroup has everything, also what has no parent left; without a cgroup there is only what we started. */
    struct err kill_err = ERR_INIT;
    if (c->cgroup_fd >= 0 && cgroup_kill(c->cgroup_fd, &kill_err) < 0)
        log_debug("container %s: %s", c->id, kill_err.msg);
    (void)process_signal(c->init, SIGKILL, NULL);
    for (struct process *p = c->execs; p; p = p->next)
        (void)process_signal(p, SIGKILL, NULL);
    container_delete_step(c);
    return 0;
}
