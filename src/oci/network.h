/* SPDX-License-Identifier: Apache-2.0 */
/* The network that an engine has made for a container, which the container does not get: it has loopback only. */
#pragma once

#include <jansson.h>
#include <sys/types.h>

#include "base/err.h"

/*
 * Whether there are interfaces in the network namespace that the spec names, or, where it names none, in that of the
 * process `pid` (0: none) if that is another than ours: engines fill either before or after the container is created.
 * Returns 1 and a sentence that names the namespace and the interfaces in *ret (the caller's), or 0; 1 also if a
 * namespace that is named may not be looked at. Errors: -EINVAL
 * with the JSON path if what is named is no network namespace, and those of open().
 */
int oci_network_missing(const json_t *spec, pid_t pid, char **ret, struct err *err);
