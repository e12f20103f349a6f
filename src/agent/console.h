/* SPDX-License-Identifier: Apache-2.0 */
/* Debug consoles: a shell in the guest itself, on a terminal of its own. Only if the host's configuration allows it. */
#pragma once

#include "agent/agent.h"
#include "agent/process.h"

#define CONSOLE_SHELL "/bin/sh"

/* Starts a shell. Returns its pid. Errors: -EPERM (not allowed), -EEXIST, -ENOSPC. */
int console_start(struct agent *a, const char *exec_id, uint32_t width, uint32_t height, struct err *err);

/* NULL with -ENOENT in err when there is none. */
struct process *console_get(struct agent *a, const char *exec_id, struct err *err);

/* Hangs up and forgets it: the shell and its jobs get SIGHUP, then the shell SIGKILL. */
int console_delete(struct agent *a, const char *exec_id, struct err *err);
