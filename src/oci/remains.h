/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is left of a sandbox whose daemon was killed, or hangs and has to be: one way to end it, for `stasis delete` and
 * for the shim's `delete`.
 *
 * Theory of operation. The daemon is killed, if it still runs. With it go the machine's processes and the workers, each
 * of which has asked the kernel for a SIGKILL at its parent's death; they are waited for, since a worker may be writing
 * what is removed next. Then goes what the state names outside of the sandbox's directory: the cgroups and the hidden
 * directory of a checkpoint under way. Its mounts went with its mount namespace.
 */
#pragma once

#include "base/err.h"
#include "oci/state.h"

/* How long the daemon and its children may take to die of SIGKILL, each (µs). */
#define REMAINS_KILL_USEC (3 * 1000 * 1000)

/* Ends and removes all of it but the directory. -ETIMEDOUT when the daemon, in the midst of a system call that does not
 * return, does not die: then everything has to stay. Other failures are logged: none of them keeps the sandbox from
 * being removed. `st` may be that of a state.json, or only name the daemon. */
int sandbox_remains_clear(const struct oci_sandbox_state *st, struct err *err);
