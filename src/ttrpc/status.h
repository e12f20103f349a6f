/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC status codes as ttrpc carries them, and their errno equivalents. containerd acts on the code. */
#pragma once

#include "base/err.h"

enum ttrpc_code {
    TTRPC_OK = 0,
    TTRPC_CANCELLED = 1,
    TTRPC_UNKNOWN = 2,
    TTRPC_INVALID_ARGUMENT = 3,
    TTRPC_DEADLINE_EXCEEDED = 4,
    TTRPC_NOT_FOUND = 5,
    TTRPC_ALREADY_EXISTS = 6,
    TTRPC_PERMISSION_DENIED = 7,
    TTRPC_RESOURCE_EXHAUSTED = 8,
    TTRPC_FAILED_PRECONDITION = 9,
    TTRPC_ABORTED = 10,
    TTRPC_OUT_OF_RANGE = 11,
    TTRPC_UNIMPLEMENTED = 12,
    TTRPC_INTERNAL = 13,
    TTRPC_UNAVAILABLE = 14,
    TTRPC_DATA_LOSS = 15,
    TTRPC_UNAUTHENTICATED = 16,
};

/* Both directions of one table: EINVAL 3, ETIMEDOUT 4, ENOENT and ESRCH 5, EEXIST 6, EPERM and EACCES 7, ENOSPC and
 * ENOMEM 8, EBUSY and ESTALE 9, ENOSYS and EOPNOTSUPP 12, ECONNRESET, ENOTCONN and EPIPE 14, ECANCELED 1, EIO and all
 * else 2 (unknown). The way back gives the first named of each row, EIO for what is unknown. */
enum ttrpc_code ttrpc_code_from_errno(int code);
int ttrpc_code_to_errno(int code);
