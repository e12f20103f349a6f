/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process that stands for a detached container (or exec) on the host.
 *
 * Theory of operation. Whoever runs containers (conmon, a script) waits for a pid of this host and takes its exit code.
 * The monitor is that pid: a child of the CLI that is left to the caller's subreaper when the CLI ends. It waits for
 * the process in the guest and exits with its code, or with 137 if the daemon dies; signals it gets are passed on; if
 * it is killed itself, the daemon kills the process. It is forked before the process exists, because its pid is part of
 * the request, and does nothing until monitor_release().
 */
#pragma once

#include <sys/types.h>

#include "base/err.h"
#include "base/util.h"
#include "cli/sandbox_dir.h"

#define MONITOR_LOST 137 /* exit code when the daemon dies: as if killed by SIGKILL */

struct monitor_spec {
    const struct sandbox_dir *dir;
    const char *container_id, *exec_id;
    int slave; /* the process's terminal, whose size and hang-up it follows; -1: none; not owned */
};

struct monitor {
    pid_t pid; /* 0: none */
    int sock;  /* owned */
};
#define MONITOR_NONE                                                                                                   \
    (struct monitor) {                                                                                                 \
        .pid = 0, .sock = -1                                                                                           \
    }

/* Forks. signals_block() must have been called. Only stdio and what the spec names stay open in the monitor. */
int monitor_fork(const struct monitor_spec *spec, struct monitor *ret, struct err *err);

/* The process exists: the monitor begins to wait for it. Returns when the daemon has confirmed that wait, so that no
 * exit can be missed from here on. The monitor then lives on its own. */
int monitor_release(struct monitor *m, struct err *err);

/* It was all in vain. Accepts MONITOR_NONE and a released one. */
void monitor_abort(struct monitor *m);
#define cleanup_monitor CLEANUP(monitor_abort)
