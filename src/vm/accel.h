/* SPDX-License-Identifier: Apache-2.0 */
/* The decision of accel_resolve() (vm.h), with the files it looks at as arguments, for tests. */
#pragma once

#include "base/config.h"
#include "base/err.h"

int accel_resolve_from(const char *cpuinfo, const char *kvm, enum accel want, enum accel *ret, const char **ret_reason,
                       struct err *err);
