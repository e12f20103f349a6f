/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/task_call.h"

#include <string.h>

#include "sandbox/container.h"

struct task_call *task_call_new(struct service *s, struct ttrpc_request *req) {
    struct task_call *c = calloc(1, sizeof(*c));
    if (!c) {
        struct err err = ERR_INIT;
        err_set(&err, ENOMEM, "out of memory");
        ttrpc_fail(req, &err);
        return NULL;
    }
    c->s = s;
    c->req = req;
    return c;
}

void task_call_fail(struct task_call *c, const struct err *err) {
    ttrpc_fail(c->req, err);
    free(c->path);
    free(c);
}

void task_call_reply(struct task_call *c, const ProtobufCMessage *out) {
    ttrpc_reply(c->req, out);
    free(c->path);
    free(c);
}

int task_find_container(struct service *s, const char *id, struct container **ret, struct err *err) {
    *ret = sandbox_find(s->sb, id);
    return *ret ? 0 : err_set(err, ENOENT, "container %s does not exist", id);
}

int task_find_process(struct service *s, const char *id, const char *exec_id, struct process **ret, struct err *err) {
    if (*id == '\0' && *exec_id) {
        *ret = sandbox_find_console(s->sb, exec_id);
        return *ret ? 0 : err_set(err, ENOENT, "console %s does not exist", exec_id);
    }
    struct container *c;
    int r = task_find_container(s, id, &c, err);
    if (r < 0)
        return r;
    *ret = container_find(c, exec_id);
    return *ret ? 0 : err_set(err, ENOENT, "exec %s of container %s does not exist", exec_id, id);
}

bool task_any_is(const Containerd__Task__V2__Any *any, const char *type) {
    return any && strcmp(any->type_url, type) == 0;
}

void task_call_done(void *userdata, const struct err *err) {
    struct task_call *c = userdata;
    if (err)
        task_call_fail(c, err);
    else
        task_call_reply(c, NULL);
}