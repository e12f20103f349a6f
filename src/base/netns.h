/* SPDX-License-Identifier: Apache-2.0 */
/* What there is in a network namespace of this host. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/util.h"

#define NETNS_TEXT_MAX 8192 /* bytes of names; what is beyond is left out */

/*
 * The names of the interfaces in the network namespace at path, but for lo, separated by ", "; "" if there are none.
 * *ret is the caller's. A child process looks; this one stays in its own namespace. Where path is the namespace that
 * this process is in and `foreign_only` is set, *ret is "". Errors: those of open(); -EINVAL: path is anything but a
 * network namespace; -ETIMEDOUT.
 */
int netns_interfaces(const char *path, bool foreign_only, char **ret, struct err *err);
