/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of containerd-shim-stasis-v2, in the manner of containerd's shims: Go-style flags (one dash, long
 * names), then one command.
 *
 * start, delete      containerd calls these (core/runtime/v2/README.md in its repository)
 * serve              the sandbox daemon itself; `start` and the stasis CLI call it
 * check-snapshot     whether the snapshot in the directory -bundle could run here; the stasis CLI calls it
 * -v, -info          print and exit
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

struct cmdline {
    const char *program; /* last component of argv[0] */
    const char *command; /* "start", "delete", "serve", "check-snapshot", "version", "info" */
    const char *id, *bundle;
    const char *namespace, *address, *publish_binary; /* of containerd; NULL: not given */
    const char *socket;                               /* serve: of the listening socket, to be removed at the end */
    const char *root, *config, *log, *log_format;     /* of the CLI */
    bool debug;
};

/* Fills ret with pointers into argv. -EINVAL names what is wrong. */
int cmdline_parse(int argc, char **argv, struct cmdline *ret, struct err *err);
