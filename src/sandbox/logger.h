/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A logger: a program of the host that takes a process's output (containerd's binary:// scheme).
 *
 * It runs as containerd starts it: stdout's pipe on fd 3, stderr's on fd 4, and fd 5, on which it writes or which it
 * closes when it is ready; CONTAINER_ID and CONTAINER_NAMESPACE in its environment. It ends by itself when its pipes
 * end, so it outlives this process, whose end is such an end; until then it is reaped by the loop.
 */
#pragma once

#include <systemd/sd-event.h>

#include "base/err.h"
#include "base/host_namespaces.h"
#include "base/util.h"

#define LOGGER_READY_USEC (UINT64_C(10) * 1000000)

struct logger;

struct logger_spec {
    const struct strv *argv; /* the program, an absolute path, and its arguments */
    const char *container_id, *namespace;
    int out, err;                       /* read ends; -1: end of file; not owned */
    const struct host_namespaces *host; /* where it runs; NULL: here. Copied */
    uint64_t ready_usec;                /* 0: LOGGER_READY_USEC */
};

/* The logger is ready, or will never be and is gone. Called once, from the loop; the logger object is freed before. */
typedef void (*logger_ready_fn)(void *userdata, const struct err *err);

int logger_start(sd_event *event, const struct logger_spec *spec, logger_ready_fn ready, void *userdata,
                 struct logger **ret, struct err *err);

/* Kills a logger that is not ready yet; ready() is not called. Accepts NULL; returns NULL. */
struct logger *logger_cancel(struct logger *l);
