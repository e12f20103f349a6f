/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces under a name (a bind mount of /proc/<pid>/ns/…), whatever becomes of the process: those of a pod's first
 * container, for the containers that join the pod; the network namespace that a container is to have, made before it.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

/* Makes a network namespace with lo up, for a container to come. Returns an fd of it, the caller's. */
int namespaces_make_spare(struct err *err);

/* Puts a network namespace at DIR/<id>/net: *spare, an fd that is taken, or (-1) a new one. lo is up, and those
 * settings of `sysctls` (as linux.sysctl of the OCI runtime specification; NULL: none) are made that are of the
 * network; one that cannot be set is a warning. Nothing is left on failure. */
int namespaces_make_network(const char *dir, const char *id, const json_t *sysctls, int *spare, struct err *err);

/* Mounts those of pid at DIR/<id>/{ipc,net,pid,uts}, in the place of a network that was made. Nothing is left on
 * failure. */
int namespaces_pin(const char *dir, const char *id, pid_t pid, struct err *err);

/* Undoes it; what is not there is no error. Containers that joined keep what they joined. */
void namespaces_unpin(const char *dir, const char *id);

/* Whether the process has a network namespace that is not ours, with no interface but lo. False if that cannot be told.
 */
bool namespaces_network_is_closed(pid_t pid);

/* The process's number in its own pid namespace; 0 if that cannot be told. */
pid_t namespaces_own_pid(pid_t pid);

/* Whether a table like /proc/net/dev has lo and nothing else. */
bool namespaces_is_only_loopback(const char *net_dev);
