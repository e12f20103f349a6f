/* SPDX-License-Identifier: Apache-2.0 */
/* Removing a container and, when it is its own, its sandbox. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "cli/cli.h"

/* force: whatever its state is, and it is no error if there is none. -EBUSY (running, without force), -ENOENT. */
int delete_container(const struct cli *cli, const char *id, bool force, struct err *err);
