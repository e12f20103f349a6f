/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host has taken out of the share is forgotten here, too. The guest's kernel keeps names and inodes that
 * nobody asks for, and the mounts on them, and for each of them the host's file server an open file: of a removed one
 * its space is not freed. Dropping all caches would do, and slow the containers down.
 */
#pragma once

#include <stddef.h>

#include "agent/agent.h"
#include "base/err.h"

#define FORGET_PATHS_MAX 64 /* of one request */

/* Paths are relative to the share: "<id>" or "<id>/checkpoint/<name>". It takes a child process. fn is called when the
 * host has heard of it. Errors: -EINVAL for a path that is not of that form, -E2BIG. */
int forget_paths(struct agent *a, char *const *paths, size_t n, agent_done_fn fn, void *userdata, struct err *err);

/* What the child does with one. That nothing is there is what is wanted; -EEXIST: the host still has it. */
int forget_path(int share_fd, const char *path, struct err *err);
