/* SPDX-License-Identifier: Apache-2.0 */
/* The processes of a container as `ps -ef` shows them. */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "proto/agent.pb-c.h"

/* Prints a head and one line per process. `now_usec_wall` decides how the start time is shown (a time of today, or a
 * date), tz as localtime's. The texts are the guest's: control characters are shown as '?'. */
int ps_table_print(const Stasis__Agent__V1__ProcessDetails *const *processes, size_t n, uint64_t now_usec_wall,
                   FILE *out, struct err *err);
