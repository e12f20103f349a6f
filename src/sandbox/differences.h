/* SPDX-License-Identifier: Apache-2.0 */
/* What a container does not get in its VM: said in the log, or refused, as the configuration has it. */
#pragma once

#include <sys/types.h>

#include "base/err.h"
#include "sandbox/container.h"

/* Notes of the specification's translation, and POSIX ACLs on volumes. Errors: -EOPNOTSUPP ([container] acl). */
int container_check_differences(const struct container *c, struct err *err);

/* A network that an engine made (oci/network.h); host_pid: of the container's monitor, 0: not known yet. It is logged
 * at the creation and again at the start: between them the network may have come. Errors: -EOPNOTSUPP ([network]
 * missing). */
int container_check_network(const struct container *c, pid_t host_pid, struct err *err);
