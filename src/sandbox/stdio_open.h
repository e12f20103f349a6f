/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stdio of a Create or Exec request: three URIs, as containerd names them, become fds.
 *
 *   ""                          none
 *   fd://                       the next fd that came with the request (the CLI's)
 *   /PATH, fifo://PATH          a FIFO
 *   file://PATH                 output, appended to a file that is made with its directories if need be
 *   binary:///PROGRAM?KEY=VALUE output, to a logger (logger.h) started with the arguments KEY VALUE …; one for both
 *                               streams when they name the same
 *
 * In URIs other than a bare path %XX is a byte; in a query "+" is a blank. A terminal has no stderr of its own.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/err.h"
#include "base/host_namespaces.h"
#include "sandbox/process.h"

#define STDIO_URI_MAX 8192        /* bytes */
#define STDIO_LOGGER_ARGS_MAX 128 /* keys and values */

struct stdio_spec {
    const char *in, *out, *err; /* as in the request; "": none */
    bool terminal;
    const char *container_id, *namespace; /* for loggers */
    const struct host_namespaces *host;   /* where loggers run; NULL: here. Copied */
    uint64_t logger_ready_usec;           /* 0: LOGGER_READY_USEC */
    /* For "fd://": the next fd of the request, or -errno. Called before anything else is looked at, once for each
     * stream in order, so that no fd of a request that is refused stays behind for the next. */
    int (*take_fd)(void *userdata, struct err *err);
    void *userdata;
};

struct stdio_opening;

/* io has the fds, their kinds and `terminal`; what the callee does not take (TAKE it, or process_new()) is closed
 * afterwards. io is NULL when err is not. */
typedef void (*stdio_done_fn)(void *userdata, struct process_stdio *io, const struct err *err);

/* Opens them. Either fails at once (nothing is left and done is not called; -EOPNOTSUPP for a scheme it does not know,
 * -EINVAL, what open() says), or returns 0 and calls done once from the loop, also when there was nothing to wait for.
 * The spec is not needed after the call. */
int stdio_open(sd_event *event, const struct stdio_spec *spec, stdio_done_fn done, void *userdata,
               struct stdio_opening **ret, struct err *err);

/* Closes what was opened; done is not called. Accepts NULL; returns NULL. */
struct stdio_opening *stdio_cancel(struct stdio_opening *o);
