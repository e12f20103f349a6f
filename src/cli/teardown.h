/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a sandbox that the CLI made: daemon, directory. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "cli/sandbox_dir.h"
#include "cli/session.h"

/*
 * Asks the daemon to end at once (session NULL or closed: it is not asked) and waits for that. One that does not answer
 * or end, or has been killed, is cleaned up after (oci/remains.h). Then the directory is removed. `daemon_start` is
 * proc_start_time(daemon_pid); daemon_pid 0: it is the one that state.json names.
 */
int teardown_sandbox(const struct sandbox_dir *dir, struct session *session, pid_t daemon_pid, uint64_t daemon_start,
                     struct err *err);
