/* SPDX-License-Identifier: Apache-2.0 */
#include "ttrpc/status.h"

#include <stddef.h>

#include "base/util.h"

/* Of several errnos with one code, the first is what the code turns back into. */
static const struct {
    int code;
    enum ttrpc_code status;
} table[] = {
    {0, TTRPC_OK},
    {ECANCELED, TTRPC_CANCELLED},
    {EIO, TTRPC_UNKNOWN},
    {EINVAL, TTRPC_INVALID_ARGUMENT},
    {ETIMEDOUT, TTRPC_DEADLINE_EXCEEDED},
    {ENOENT, TTRPC_NOT_FOUND},
    {ESRCH, TTRPC_NOT_FOUND},
    {EEXIST, TTRPC_ALREADY_EXISTS},
    {EPERM, TTRPC_PERMISSION_DENIED},
    {EACCES, TTRPC_PERMISSION_DENIED},
    {ENOSPC, TTRPC_RESOURCE_EXHAUSTED},
    {ENOMEM, TTRPC_RESOURCE_EXHAUSTED},
    {EBUSY, TTRPC_FAILED_PRECONDITION},
    {ESTALE, TTRPC_FAILED_PRECONDITION},
    {ENOSYS, TTRPC_UNIMPLEMENTED},
    {EOPNOTSUPP, TTRPC_UNIMPLEMENTED},
    {ECONNRESET, TTRPC_UNAVAILABLE},
    {ENOTCONN, TTRPC_UNAVAILABLE},
    {EPIPE, TTRPC_UNAVAILABLE},
};

enum ttrpc_code ttrpc_code_from_errno(int code) {
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (table[i].code == code)
            return table[i].status;
    return TTRPC_UNKNOWN;
}

int ttrpc_code_to_errno(int code) {
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if ((int)table[i].status == code)
            return table[i].code;
    return EIO;
}
