/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor: the process by which engines know a container of a virtual machine on the host.
 *
 * Theory of operation. Engines take a container's pid for a process in the container: they enter its namespaces, and
 * read /proc/PID/root and the processes of its pid namespace. Nothing of the host may be found that way. A monitor is
 * therefore born in mount, pid, ipc, uts and cgroup namespaces of its own, and begins by exchanging the host's root for
 * an empty, read-only directory; the daemon later puts the container's file systems there (sandbox/view.h). It is made
 * by the CLI for an engine that waits for it as for a child, else by the daemon.
 */
#pragma once

#include <jansson.h>
#include <sys/types.h>

#include "base/err.h"

/* As fork(), into new namespaces: 0 in the child, in the parent its pid; *ret_pidfd (owned) is set in the parent.
 * Errors: -errno. */
pid_t host_process_clone(int *ret_pidfd, struct err *err);

/* In the child, which has one thread: the root becomes an empty, read-only directory, from which no path leads to the
 * host. What is to be reached by a path of the host must be open before. */
int host_process_leave_root(struct err *err);

/* In the child: no capability and no new privilege from here on. It stays root's process. */
int host_process_drop_privileges(struct err *err);

/* In the child, while it has the host's /proc: `ps` and `top` show these arguments (process.args; borrowed; NULL or
 * empty: a name) in place of this program's. A kernel without CONFIG_CHECKPOINT_RESTORE has no call for that, and then
 * they are not shown. */
void host_process_set_title(const json_t *args);
