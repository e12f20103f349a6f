/* SPDX-License-Identifier: Apache-2.0 */
/* The two services of a sandbox daemon: containerd's Task (task.c) and our own Sandbox (control.c). */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/err.h"
#include "sandbox/sandbox.h"
#include "ttrpc/server.h"

struct service {
    sd_event *event;
    struct sandbox *sb;
    struct ttrpc_server *server;
    const char *bundle; /* of the command line; the working directory relative bundles are taken from */
};

/* Adds both services. `s` must outlive the server. */
int service_add_task(struct service *s, struct err *err);
int service_add_control(struct service *s, struct err *err);

/* The next fd of the request for the URI "fd://", -1 for "". Others are -EOPNOTSUPP. */
int service_take_stdio(struct ttrpc_request *req, const char *uri, const char *what, int *ret, struct err *err);
