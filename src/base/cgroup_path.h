/* SPDX-License-Identifier: Apache-2.0 */
/* linux.cgroupsPath of a spec as the directories it names. */
#pragma once

#include "base/err.h"
#include "base/util.h"

#define CGROUP_PATH_MAX 4000 /* bytes, of the spec's path and of the one it stands for */
#define CGROUP_DEPTH_MAX 64  /* directories, which the bits of a uint64_t count */

/* Appends to *ret the names of the directories, from the hierarchy's root down, at least one. The path has one of the
 * forms in use:
 *   "/a/b"              below the root of the hierarchy (runtime-spec, config-linux.md);
 *   "a/b"               the same. The specification leaves relative paths to the runtime, and runc takes its own cgroup
 *                       as the base; but the daemon and the process that later cleans up after it need not be in the
 *                       same one, and both must mean the same directory;
 *   "SLICE:PREFIX:NAME" what runtimes with the systemd driver get. SLICE is expanded as systemd.slice(5) says
 * ("a-b.slice" is a.slice/a-b.slice, "-.slice" is the root, and "" is system.slice), and in it lies PREFIX-NAME.scope,
 * or NAME.scope when PREFIX is empty. Doubled slashes and those at the end are dropped. Errors: -EINVAL (empty, "." or
 * "..", control characters, a slice's name that is none), -ENAMETOOLONG. *ret is the caller's to clear in any case. */
int cgroup_path_split(const char *cgroups_path, struct strv *ret, struct err *err);
