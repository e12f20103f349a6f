/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/exec_id.h"

#include <sys/random.h>
#include <sys/types.h>

#include "base/util.h"

int exec_id_make(char ret[EXEC_ID_SIZE], struct err *err) {
    unsigned char random[EXEC_ID_SIZE / 2];
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return err_errno(err, errno, "cannot get random bytes");
    hex_format(random, sizeof(random), ret);
    return 0;
}
