/* SPDX-License-Identifier: Apache-2.0 */
/* The processes exec'd into a container, as a user names them. */
#pragma once

#include "base/err.h"
#include "base/path.h"
#include "cli/session.h"

/*
 * ret: the id of the exec that `wanted` is, its id or the pid that `stasis ps` shows. Fails with -ENOENT and what there
 * is when it is neither; one that has ended is known by its id only.
 */
int find_exec(struct session *s, const char *id, const char *wanted, char ret[ID_MAX + 1], struct err *err);
