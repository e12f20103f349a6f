/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the Agent service share; for them only. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/agent.h"
#include "base/err.h"
#include "ttrpc/server.h"

/* The time an operation may take: a little shorter than the caller's, so that the caller hears what became of it, and
 * at most max_usec, which it also is when the caller has set none. */
uint64_t rpc_time(const struct ttrpc_request *req, uint64_t max_usec);

/* NULL, answered, when there is no such container. */
struct container *rpc_find_container(struct agent *a, struct ttrpc_request *req, const char *id);

/* Answers a request for a new container. */
void rpc_created(void *userdata, pid_t pid, const struct err *err);

/* rpc_checkpoint.c */
void rpc_on_checkpoint(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata);
void rpc_on_restore(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata);

/* rpc_snapshot.c */
void rpc_on_freeze(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata);
void rpc_on_thaw(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata);
void rpc_on_inspect(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata);
