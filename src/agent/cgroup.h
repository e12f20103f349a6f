/* SPDX-License-Identifier: Apache-2.0 */
/* A container's cgroup (v2), by a fd of its directory. Its processes may have made groups below it; they count too. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define CGROUP_ROOT "/sys/fs/cgroup"
#define CGROUP_PARENT "stasis" /* below which all containers are */
#define CGROUP_FILE_MAX ((size_t)256 << 10)
#define CGROUP_DEPTH_MAX 64
#define CGROUP_PIDS_MAX 32768 /* processes of one container that are looked at */

/* Opens the directory of the cgroup that pid is in, below root (where cgroup v2 is mounted); ret_path (malloc'd) is the
 * directory's path. */
int cgroup_open_of(const char *root, pid_t pid, int *ret_fd, char **ret_path, struct err *err);

/* The path out of the text of /proc/PID/cgroup; malloc'd. -ENODATA when it holds none of version 2. */
int cgroup_path_parse(const char *text, char **ret);

/* All pids in it and below. *ret is malloc'd. At most CGROUP_PIDS_MAX, the others are left out. */
int cgroup_pids(int fd, pid_t **ret, size_t *ret_n, struct err *err);

/* A number after `key` and a blank in a file of such lines; -ENODATA when it is not there. */
int cgroup_read_key(int fd, const char *file, const char *key, uint64_t *ret);

/* SIGKILL to all, frozen ones too. */
int cgroup_kill(int fd, struct err *err);
int cgroup_freeze(int fd, bool freeze, struct err *err);

/* Removes the empty cgroup at path and those below it. No harm if it is not there; -EBUSY when a process is in it. */
int cgroup_remove(const char *path, struct err *err);
