/* SPDX-License-Identifier: Apache-2.0 */
/* The namespaces of a pod's first container, kept under a name (a bind mount of /proc/<pid>/ns/…) for the containers
 * that join the pod, whatever becomes of the process. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

/* Mounts those of pid at DIR/<id>/{ipc,net,pid,uts}. Nothing is left on failure. */
int namespaces_pin(const char *dir, const char *id, pid_t pid, struct err *err);

/* Undoes it; what is not there is no error. Containers that joined keep what they joined. */
void namespaces_unpin(const char *dir, const char *id);

/* Whether the process has a network namespace that is not ours, with no interface but lo. False if that cannot be told.
 */
bool namespaces_network_is_closed(pid_t pid);

/* Whether a table like /proc/net/dev has lo and nothing else. */
bool namespaces_is_only_loopback(const char *net_dev);
