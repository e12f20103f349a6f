/* SPDX-License-Identifier: Apache-2.0 */
/* Removing a container and, when it is its own, its sandbox. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "cli/cli.h"
#include "cli/lookup.h"

/* force: whatever its state is, and it is no error if there is none. -EBUSY (running, without force), -ENOENT. */
int delete_container(const struct cli *cli, const char *id, bool force, struct err *err);

/* Removes the container that was looked up, which has ended; s is a connection to its daemon. No error if another was
 * faster. Leaves a container of containerd alone: containerd deletes it. */
int delete_ended(struct lookup *l, struct session *s, const char *id, struct err *err);
