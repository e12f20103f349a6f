/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the Task service: a request on its way, and how it finds what it speaks of. */
#pragma once

#include <stdbool.h>

#include "base/path.h"
#include "proto/task.pb-c.h"
#include "sandbox/process.h"
#include "shim/service.h"

/* What the callback needs to answer a request. */
struct task_call {
    struct service *s;
    struct ttrpc_request *req;
    struct process *process;                  /* that is waited for */
    const void *in;                           /* the request, which lives until it is answered */
    char id[ID_MAX + 1], exec_id[ID_MAX + 1]; /* of what it is about, where its callback needs them */
    char *path;                               /* owned */
    struct process_exit exit;
    uint32_t pid;
};

/* NULL when out of memory: the request has then been answered. */
struct task_call *task_call_new(struct service *s, struct ttrpc_request *req);

/* Each answers the request and frees the call. out NULL: an empty message. */
void task_call_fail(struct task_call *c, const struct err *err);
void task_call_reply(struct task_call *c, const ProtobufCMessage *out);

/* A sandbox_done_fn whose userdata is the call: answers with an empty message or the error. */
void task_call_done(void *userdata, const struct err *err);

/* -ENOENT with the id when there is none. An id "" with an exec id is a debug console. */
int task_find_container(struct service *s, const char *id, struct container **ret, struct err *err);
int task_find_process(struct service *s, const char *id, const char *exec_id, struct process **ret, struct err *err);

bool task_any_is(const Containerd__Task__V2__Any *any, const char *type);

void task_handle_checkpoint(struct ttrpc_request *req, const ProtobufCMessage *msg,
                            void *userdata); /* task_checkpoint.c */

/* Handlers of the calls that open stdio (task_create.c). */
void task_handle_create(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata);
void task_handle_exec(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata);

/* Handlers of the calls that go to the agent as they are (task_forward.c). */
void task_handle_kill(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata);
void task_handle_resize(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata);
void task_handle_update(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata);
void task_handle_pids(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata);
void task_handle_stats(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata);
