/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor of a container or an exec (base/host_process.h), made by the CLI.
 *
 * Theory of operation. Engines and scripts wait for a pid of this host and take its exit code. The monitor is that pid:
 * a child of the CLI that is left to the caller's subreaper when the CLI ends. It waits for the process in the guest
 * and exits with its code, or with 137 if the daemon dies; signals it gets are passed on; if it is killed itself, the
 * daemon kills the process. It is forked before there is a daemon, with no way to the host's files. monitor_attach()
 * gives it a connection to the daemon and takes it into the sandbox's network namespace; it does nothing until
 * monitor_release().
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/util.h"
#include "cli/session.h"

#define MONITOR_LOST 137 /* exit code when the daemon dies: as if killed by SIGKILL */

struct monitor_spec {
    const char *sandbox_id, *container_id, *exec_id;
    const json_t *title; /* process.args, for `ps`; borrowed */
    int slave;           /* the process's terminal, whose size and hang-up it follows; -1: none; not owned */
    bool foreground;     /* the CLI stays, and the monitor dies with it */
};

struct monitor {
    pid_t pid; /* 0: none */
    int sock;  /* owned */
};
#define MONITOR_NONE                                                                                                   \
    (struct monitor) {                                                                                                 \
        .pid = 0, .sock = -1                                                                                           \
    }

/* Forks. signals_block() must have been called. Only the socket and the terminal stay open in the monitor. */
int monitor_fork(const struct monitor_spec *spec, struct monitor *ret, struct err *err);

/* Before the daemon gets the monitor's pid. The session is with the daemon `daemon_pid`, whose proc_start_time() is
 * daemon_start. */
int monitor_attach(struct monitor *m, struct session *s, pid_t daemon_pid, uint64_t daemon_start, struct err *err);

/* The process exists: the monitor begins to wait for it. Returns when the daemon has confirmed that wait, so that no
 * exit can be missed from here on. The monitor then lives on its own. */
int monitor_release(struct monitor *m, struct err *err);

/* It was all in vain. Accepts MONITOR_NONE and a released one. */
void monitor_abort(struct monitor *m);
#define cleanup_monitor CLEANUP(monitor_abort)
