/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a sandbox that the CLI made: daemon, directory. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "cli/sandbox_dir.h"
#include "cli/session.h"

/*
 * Asks the daemon to end at once (session NULL or closed: it is not asked), waits for it, kills it if it does not, and
 * removes the directory. `daemon_start` is proc_start_time(daemon_pid); daemon_pid 0: there is none.
 */
int teardown_sandbox(const struct sandbox_dir *dir, struct session *session, pid_t daemon_pid, uint64_t daemon_start,
                     struct err *err);
