/* SPDX-License-Identifier: Apache-2.0 */
/* The two services of a sandbox daemon: containerd's Task (task*.c) and our own Sandbox (control.c). */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/err.h"
#include "sandbox/sandbox.h"
#include "shim/publish.h"
#include "ttrpc/client.h"
#include "ttrpc/server.h"

struct watched;

struct service {
    sd_event *event;
    struct sandbox *sb;
    struct ttrpc_server *server;
    const struct config *config; /* the host's */
    const char *namespace;       /* containerd's; NULL: the CLI's daemon */
    struct publisher *publisher; /* NULL: nobody is told of events */
    struct watched *watched;     /* notify.c */
    struct ttrpc_call *oom_call; /* notify.c */
    sd_event_source *oom_pause;  /* notify.c: before the next oom_call */
    uint64_t oom_due_usec;       /* notify.c */
};

/* Adds the services. `s` must outlive the server. */
int service_add_task(struct service *s, struct err *err);
int service_add_control(struct service *s, struct err *err);

/* Ends the daemon when it has no container and nobody is connected (serve.c). */
void service_end_if_unused(struct service *s);

/* Handler of the Sandbox service's Remove (remove.c). */
void service_handle_remove(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata);

/* Handlers of the Sandbox service's Cancel and Hold (abandon.c). */
void service_handle_cancel(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata);
void service_handle_hold(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata);

/* Handlers of the Sandbox service for snapshots (control_snapshot.c). */
void service_handle_snapshot(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata);
void service_handle_restore_snapshot(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata);
void service_handle_attach(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata);
void service_handle_detach(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata);
void service_handle_build_template(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata);

/* The next fd of the request for the URI "fd://", -1 for "". Others are -EOPNOTSUPP. */
int service_take_stdio(struct ttrpc_request *req, const char *uri, const char *what, int *ret, struct err *err);
