/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls to the agent that end with the real cause. When the VM dies, its channel closes first and all calls fail with
 * "connection closed"; QEMU's or virtiofsd's end is known a moment later. A call cut off that way is kept until the
 * sandbox is declared dead, and then fails with why.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "ttrpc/client.h"

struct sandbox_call;

struct call_list {
    struct sandbox_call *cut_off; /* wait for calls_fail() */
};

/* As ttrpc_client_call() to the agent service. `list` must outlive the call. ret may be NULL; it is valid until fn is
 * called. */
int call_start(struct call_list *list, struct ttrpc_client *agent, const char *method, const ProtobufCMessage *request,
               uint64_t timeout_usec, ttrpc_reply_fn fn, void *userdata, struct sandbox_call **ret, struct err *err);

/* fn will not be called. Accepts NULL. */
void call_cancel(struct sandbox_call *call);

/* Fails all that were cut off. */
void calls_fail(struct call_list *list, const struct err *cause);

/* A ttrpc_reply_fn for calls whose answer changes nothing; an error is logged for debugging. */
void call_ignore(void *userdata, ProtobufCMessage **reply, const struct err *err);
