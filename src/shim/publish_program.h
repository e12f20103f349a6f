/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run of containerd's own program that publishes an event, for a containerd whose ttrpc socket does not take any:
 *     PROGRAM --address GRPC publish --namespace NS --topic TOPIC
 * with the event, a protobuf Any, on its stdin.
 */
#pragma once

#include <stddef.h>
#include <systemd/sd-event.h>

#include "base/err.h"

struct publish_program;

struct publish_program_spec {
    const char *path;
    const char *address; /* of containerd's gRPC socket */
    const char *namespace;
    const char *topic;
    const void *any; /* encoded */
    size_t len;
    uint64_t timeout_usec; /* then it is killed */
};

/* Called once, from the event loop, when the program has ended and its object is freed. err is NULL when all went well;
 * otherwise it names the program and carries the last line that it wrote. */
typedef void (*publish_program_done_fn)(void *userdata, const struct err *err);

/* Starts it. Nothing of the spec is used after the return. */
int publish_program_start(sd_event *event, const struct publish_program_spec *spec, publish_program_done_fn done,
                          void *userdata, struct publish_program **ret, struct err *err);

/* Kills it; done is not called. Accepts NULL; returns NULL. */
struct publish_program *publish_program_free(struct publish_program *p);
