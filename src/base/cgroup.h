/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's cgroup of a sandbox: where the daemon goes, so that it, QEMU and virtiofsd are counted where the spec
 * says.
 *
 * Theory of operation. The path (forms: base/cgroup_path.h) is made as plain directories in every hierarchy that is
 * mounted, found in the mount table: those of version 1, named ones like name=systemd too, and the one of version 2,
 * which on a hybrid host is one among them. This process enters each of them; children made later are born there.
 * No limits are set, and others' directories get nothing but what cpuset needs (empty cpuset.cpus and cpuset.mems, with
 * which nothing could enter, are filled in from the parent). In version 2 the controllers that a directory may give to
 * its children are switched on in those directories that were made here.
 *
 * A hierarchy that cannot be entered (mounted read-only, say) is logged as a warning, with its mount point; when there
 * is none that can, so always on a host that has version 2 alone, it is an error. For a pod the caller enters the
 * sandbox container's path once, and stays there when more containers come.
 */
#pragma once

#include "base/err.h"

#define CGROUP_HIERARCHIES_MAX 64
#define CGROUP_LIST_MAX ((size_t)256 << 10) /* bytes of /proc/self/cgroup and of one file of a cgroup */
/* Directories are not empty before the last process that was killed is gone; how long removing them waits for that. */
#define CGROUP_REMOVE_USEC (500 * 1000)

/* Where to look; other than cgroup_host_self for tests. */
struct cgroup_host {
    const char *mountinfo; /* mount table, "/proc/self/mountinfo" */
    const char *self;      /* where this process is, "/proc/self/cgroup" */
};
extern const struct cgroup_host cgroup_host_self;

struct cgroup_place; /* where this process was put, and where it came from */

/* Enters the cgroup of a spec's linux.cgroupsPath. On success the caller owns *ret; on failure this process is where it
 * was and nothing made is left. Errors: those of cgroup_path_split, -ENOENT (no hierarchy is mounted), those of the
 * first hierarchy when none could be entered. */
int cgroup_enter(const char *cgroups_path, struct cgroup_place **ret, struct err *err);
int cgroup_enter_host(const struct cgroup_host *host, const char *cgroups_path, struct cgroup_place **ret,
                      struct err *err);

/* Moves this process back, removes the directories that cgroup_enter made, deepest first, as far as they are empty, and
 * frees. Call it when the children are gone. What fails is logged: there is nobody to tell. Accepts NULL. */
void cgroup_leave(struct cgroup_place *place);

/* Removes the cgroup (the deepest directory only) in every hierarchy, after a daemon that could not leave it. It is no
 * error if it is missing. Errors: -EBUSY when processes or other cgroups are in it, those of cgroup_path_split; the
 * other hierarchies are done all the same. */
int cgroup_remove(const char *cgroups_path, struct err *err);
int cgroup_remove_host(const struct cgroup_host *host, const char *cgroups_path, struct err *err);
