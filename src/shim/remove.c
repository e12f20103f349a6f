/* SPDX-License-Identifier: Apache-2.0 */
/* stasis.sandbox.v1.Sandbox/Remove: the end of a container that nobody asks about any more (`delete` of the shim's
 * program, when containerd has lost the connection or gave up on a call). */
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/path.h"
#include "proto/sandbox.pb-c.h"
#include "sandbox/container.h"
#include "shim/notify.h"
#include "shim/service.h"

#define EXIT_KILLED 137 /* 128 + SIGKILL */

struct removal {
    struct service *s;
    struct ttrpc_request *req;
    char id[ID_MAX + 1];
    uint32_t pid;
    struct process_exit exit;
};

static void answer(struct removal *r) {
    Stasis__Sandbox__V1__RemoveResponse out = STASIS__SANDBOX__V1__REMOVE_RESPONSE__INIT;
    out.pid = r->pid;
    out.exit_status = r->exit.status;
    out.exited_wall_usec = r->exit.wall_usec;
    ttrpc_reply(r->req, &out.base);
    if (sandbox_count(r->s->sb) == 0)
        (void)sd_event_exit(r->s->event, 0);
    free(r);
}

static void fail(struct removal *r, const struct err *err) {
    ttrpc_fail(r->req, err);
    free(r);
}

static void on_deleted(void *userdata, const struct err *err) {
    struct removal *r = userdata;
    if (err) {
        fail(r, err);
        return;
    }
    notify_deleted(r->s, r->id, r->pid, &r->exit);
    answer(r);
}

static void go_on(void *userdata);

static void on_exited(void *userdata, const struct process_exit *ex) {
    struct removal *r = userdata;
    r->exit = *ex;
    go_on(r);
}

static int next_step(struct removal *r, struct container *c, struct err *err) {
    struct process *init = container_find(c, "");
    enum container_state state = container_get_state(c);
    const struct process_exit *ex = process_get_exit(init);
    r->pid = (uint32_t)process_host_pid(init);
    if (ex)
        r->exit = *ex;
    bool alive = state != CONTAINER_STOPPED && state != CONTAINER_CREATED;
    /* What is being made cannot be killed yet, and what is being deleted need not be. */
    if (container_is_busy(c) && (!alive || state == CONTAINER_CREATING || state == CONTAINER_DELETING))
        return container_when_idle(c, go_on, r, err);
    if (!alive)
        return container_delete(c, on_deleted, r, err);
    int e = process_wait(init, on_exited, r, err);
    if (e == 0) {
        log_info("container %s: killing it, it is to be removed", r->id);
        sandbox_kill_quietly(r->s->sb, init);
    }
    return e;
}

static void go_on(void *userdata) {
    struct removal *r = userdata;
    struct container *c = sandbox_find(r->s->sb, r->id);
    struct err err = ERR_INIT;
    if (!c) /* there was none, or somebody else was faster */
        answer(r);
    else if (next_step(r, c, &err) < 0)
        fail(r, &err);
}

void service_handle_remove(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Stasis__Sandbox__V1__RemoveRequest *in = (const void *)msg;
    struct err err = ERR_INIT;
    struct removal *r = calloc(1, sizeof(*r));
    if (!r) {
        err_set(&err, ENOMEM, "out of memory");
        ttrpc_fail(req, &err);
        return;
    }
    *r = (struct removal){.s = userdata, .req = req, .exit = {.status = EXIT_KILLED, .wall_usec = now_wall_usec()}};
    snprintf(r->id, sizeof(r->id), "%s", in->id);
    go_on(r);
}
