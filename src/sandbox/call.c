/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/call.h"

#include "base/log.h"
#include "base/util.h"
#include "proto/agent.pb-c.h"

struct sandbox_call {
    struct sandbox_call *next, **at; /* in cut_off; at NULL: not in it */
    struct call_list *list;
    struct ttrpc_client *agent;
    struct ttrpc_call *call; /* NULL once answered */
    ttrpc_reply_fn fn;
    void *userdata;
};

static void on_reply(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct sandbox_call *c = userdata;
    c->call = NULL;
    if (err && !ttrpc_client_is_ready(c->agent)) {
        c->next = c->list->cut_off;
        c->at = &c->list->cut_off;
        if (c->next)
            c->next->at = &c->next;
        c->list->cut_off = c;
        return;
    }
    ttrpc_reply_fn fn = c->fn;
    void *fn_userdata = c->userdata;
    free(c);
    fn(fn_userdata, reply, err);
}

int call_start(struct call_list *list, struct ttrpc_client *agent, const char *method, const ProtobufCMessage *request,
               uint64_t timeout_usec, ttrpc_reply_fn fn, void *userdata, struct sandbox_call **ret, struct err *err) {
    struct sandbox_call *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(err, ENOMEM, "out of memory");
    *c = (struct sandbox_call){.list = list, .agent = agent, .fn = fn, .userdata = userdata};
    int r = ttrpc_client_call(agent, &stasis__agent__v1__agent__descriptor, method, request, timeout_usec, on_reply, c,
                              &c->call, err);
    if (r < 0) {
        free(c);
        return r;
    }
    if (ret)
        *ret = c;
    return 0;
}

static void unlink_call(struct sandbox_call *c) {
    *c->at = c->next;
    if (c->next)
        c->next->at = c->at;
    c->at = NULL;
}

void call_cancel(struct sandbox_call *call) {
    if (!call)
        return;
    if (call->at)
        unlink_call(call);
    ttrpc_call_cancel(call->call);
    free(call);
}

void calls_fail(struct call_list *list, const struct err *cause) {
    while (list->cut_off) {
        struct sandbox_call *c = list->cut_off;
        unlink_call(c);
        ttrpc_reply_fn fn = c->fn;
        void *userdata = c->userdata;
        free(c);
        fn(userdata, NULL, cause);
    }
}

void call_ignore(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    (void)userdata;
    (void)reply;
    if (err)
        log_debug("%s", err->msg);
}
