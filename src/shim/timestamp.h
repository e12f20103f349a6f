/* SPDX-License-Identifier: Apache-2.0 */
/* Wall clock times as containerd's messages carry them. */
#pragma once

#include "base/util.h"
#include "proto/task.pb-c.h"

static inline Containerd__Task__V2__Timestamp timestamp_of(uint64_t wall_usec) {
    Containerd__Task__V2__Timestamp ts = CONTAINERD__TASK__V2__TIMESTAMP__INIT;
    ts.seconds = (int64_t)(wall_usec / USEC_PER_SEC);
    ts.nanos = (int32_t)(wall_usec % USEC_PER_SEC * 1000);
    return ts;
}
