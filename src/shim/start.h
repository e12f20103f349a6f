/* SPDX-License-Identifier: Apache-2.0 */
/* The commands containerd runs: `start` and `delete`. Both work in the bundle: its config.json says whether the
 * container is a sandbox of its own or joins the one of its pod. */
#pragma once

#include "base/err.h"
#include "shim/cmdline.h"

#define SHIM_LISTEN_FD 3 /* in the daemon: the listening socket */
#define SHIM_LOCK_FD 4   /* in the daemon, when containerd started it: home.h's lock */

/* Starts the sandbox's daemon, unless the container's pod has one, and prints its address. Nothing else goes to stdout
 * or stderr: containerd reads both as the address. */
int shim_start(const struct cmdline *c, struct err *err);

/* Removes what is left of the container, whether its daemon lives or not, and prints a DeleteResponse. containerd calls
 * it after each task's end, and when the daemon has died. */
int shim_delete(const struct cmdline *c, struct err *err);
