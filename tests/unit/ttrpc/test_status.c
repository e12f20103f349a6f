/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include "ttrpc/status.h"

static const struct {
    int code;
    enum ttrpc_code status;
    int back;
} rows[] = {
    {0, TTRPC_OK, 0},
    {ECANCELED, TTRPC_CANCELLED, ECANCELED},
    {EIO, TTRPC_UNKNOWN, EIO},
    {EINVAL, TTRPC_INVALID_ARGUMENT, EINVAL},
    {ETIMEDOUT, TTRPC_DEADLINE_EXCEEDED, ETIMEDOUT},
    {ENOENT, TTRPC_NOT_FOUND, ENOENT},
    {ESRCH, TTRPC_NOT_FOUND, ENOENT},
    {EEXIST, TTRPC_ALREADY_EXISTS, EEXIST},
    {EPERM, TTRPC_PERMISSION_DENIED, EPERM},
    {EACCES, TTRPC_PERMISSION_DENIED, EPERM},
    {ENOSPC, TTRPC_RESOURCE_EXHAUSTED, ENOSPC},
    {ENOMEM, TTRPC_RESOURCE_EXHAUSTED, ENOSPC},
    {EBUSY, TTRPC_FAILED_PRECONDITION, EBUSY},
    {ESTALE, TTRPC_FAILED_PRECONDITION, EBUSY},
    {ENOSYS, TTRPC_UNIMPLEMENTED, ENOSYS},
    {EOPNOTSUPP, TTRPC_UNIMPLEMENTED, ENOSYS},
    {ECONNRESET, TTRPC_UNAVAILABLE, ECONNRESET},
    {ENOTCONN, TTRPC_UNAVAILABLE, ECONNRESET},
    {EPIPE, TTRPC_UNAVAILABLE, ECONNRESET},
    {EDOM, TTRPC_UNKNOWN, EIO},
    {4095, TTRPC_UNKNOWN, EIO},
};

static void both_ways(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        assert_int_equal(ttrpc_code_from_errno(rows[i].code), rows[i].status);
        assert_int_equal(ttrpc_code_to_errno((int)rows[i].status), rows[i].back);
    }
}

/* A peer may send any number: it must never turn into success. */
static void never_success(void **state) {
    (void)state;
    static const int codes[] = {
        TTRPC_ABORTED, TTRPC_OUT_OF_RANGE, TTRPC_INTERNAL, TTRPC_DATA_LOSS, TTRPC_UNAUTHENTICATED, 17, 99999, -1,
        INT32_MIN,     INT32_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
        assert_int_equal(ttrpc_code_to_errno(codes[i]), EIO);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(both_ways), cmocka_unit_test(never_success)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
