/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/criu_options.h"

#include "base/util.h"

int criu_options_copy(const Stasis__Agent__V1__CriuOptions *in, Stasis__Agent__V1__CriuOptions **ret, struct err *err) {
    *ret = NULL;
    if (!in)
        return 0;
    size_t len = stasis__agent__v1__criu_options__get_packed_size(in);
    cleanup_free uint8_t *buf = malloc(len + 1);
    if (buf)
        *ret = stasis__agent__v1__criu_options__unpack(NULL, stasis__agent__v1__criu_options__pack(in, buf), buf);
    if (!*ret)
        return err_set(err, ENOMEM, "out of memory");
    (*ret)->log_level = 0;
    return 0;
}
