/* SPDX-License-Identifier: Apache-2.0 */
/* A sandbox in the making: its directory, its daemon, and the connection to it. */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "base/proc.h"
#include "cli/cli.h"
#include "cli/sandbox_dir.h"
#include "cli/session.h"

struct new_sandbox {
    struct sandbox_dir dir; /* the caller makes it: sandbox_dir_make() */
    struct proc daemon;
    uint64_t daemon_start; /* proc_start_time(); 0: it died already */
    struct session session;
};
#define NEW_SANDBOX_NONE                                                                                               \
    (struct new_sandbox) {                                                                                             \
        .dir = SANDBOX_DIR_NONE, .daemon = PROC_NONE                                                                   \
    }

/* Starts the daemon for n->dir and connects. timeout: of calls that name none, µs. *n must not move from here on. */
int new_sandbox_start(struct new_sandbox *n, const struct cli *cli, const char *bundle, uint64_t timeout,
                      struct err *err);

/* It was in vain, or is over: the daemon and the directory go. What stays is logged. */
void new_sandbox_remove(struct new_sandbox *n);

/* Forgets it; it lives on. Accepts NEW_SANDBOX_NONE. */
void new_sandbox_close(struct new_sandbox *n);
