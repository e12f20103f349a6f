/* SPDX-License-Identifier: Apache-2.0 */
/* stasis.sandbox.v1.Sandbox/Cancel and Hold: clients that give up, and clients that are gone. */
#include <fcntl.h>
#include <string.h>

#include "base/log.h"
#include "base/path.h"
#include "proto/sandbox.pb-c.h"
#include "sandbox/checkpoint.h"
#include "sandbox/container.h"
#include "shim/service.h"

static const char criu_goes_on[] =
    "CRIU cannot be stopped in the midst of a dump: when it is done, what it has written is "
    "thrown away and the container goes on";

static bool waits_for_criu(const struct service *s) {
    for (size_t i = 0; i < sandbox_count(s->sb); i++)
        if (container_checkpoint_waits(sandbox_nth(s->sb, i)))
            return true;
    return false;
}

void service_handle_cancel(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const struct service *s = userdata;
    Stasis__Sandbox__V1__CancelResponse out = STASIS__SANDBOX__V1__CANCEL_RESPONSE__INIT;
    (void)msg;
    ttrpc_request_cancel_others(req);
    if (waits_for_criu(s))
        out.note = (char *)(uintptr_t)criu_goes_on;
    ttrpc_reply(req, &out.base);
}

struct hold {
    struct service *s;
    char id[ID_MAX + 1];
    char *scratch; /* NULL: none */
};

static void free_hold(struct hold *h) {
    free(h->scratch);
    free(h);
}

static void let_go(void *userdata);

static void on_resumed(void *userdata, const struct err *err) {
    (void)userdata;
    if (err)
        log_error("a container whose client is gone stays paused: %s", err->msg);
}

static int resume(struct hold *h, struct container *c, struct err *err) {
    if (container_is_busy(c))
        return container_when_idle(c, let_go, h, err);
    if (container_get_state(c) != CONTAINER_PAUSED)
        return 1;
    log_warn("container %s: the client that has paused it is gone, and it goes on", h->id);
    int r = container_resume(c, on_resumed, NULL, err);
    return r < 0 ? r : 1;
}

/* Once nothing is under way in the container. */
static void let_go(void *userdata) {
    struct hold *h = userdata;
    struct container *c = h->s->sb ? sandbox_find(h->s->sb, h->id) : NULL;
    struct err err = ERR_INIT;
    int r = c ? resume(h, c, &err) : 1;
    if (r == 0)
        return;
    if (r < 0)
        on_resumed(NULL, &err);
    if (h->scratch && path_remove_tree(AT_FDCWD, h->scratch, &err) < 0)
        log_error("%s", err.msg);
    free_hold(h);
}

static void on_lost(struct ttrpc_request *req, void *userdata) {
    ttrpc_fail(req, NULL);
    let_go(userdata);
}

static bool is_hidden(const char *path) {
    return path_is_normal(path) && strrchr(path, '/')[1] == '.';
}

void service_handle_hold(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata) {
    const Stasis__Sandbox__V1__HoldRequest *in = (const void *)msg;
    struct err err = ERR_INIT;
    struct hold *h = calloc(1, sizeof(*h));
    int r = h ? 0 : err_set(&err, ENOMEM, "out of memory");
    if (r == 0 && *in->scratch && !is_hidden(in->scratch))
        r = err_set(&err, EINVAL, "scratch: \"%.200s\" is not the path of a hidden directory", in->scratch);
    if (r == 0 && *in->id)
        r = id_validate("container id", in->id, &err);
    if (r == 0 && *in->scratch && !(h->scratch = strdup(in->scratch)))
        r = err_set(&err, ENOMEM, "out of memory");
    if (r < 0) {
        if (h)
            free_hold(h);
        ttrpc_fail(req, &err);
        return;
    }
    h->s = userdata;
    snprintf(h->id, sizeof(h->id), "%s", in->id);
    ttrpc_request_on_cancel(req, on_lost, h);
}
