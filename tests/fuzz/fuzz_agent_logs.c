/* SPDX-License-Identifier: Apache-2.0 */
/* What crun and CRIU write, as the agent reads it: a container decides much of it. The messages are printable. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/criu_log.h"
#include "agent/crun_error.h"
#include "base/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct err *err) {
    if (strnlen(err->msg, sizeof(err->msg)) == sizeof(err->msg))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct err of_crun = ERR_INIT, of_criu = ERR_INIT, of_message = ERR_INIT;
    cleanup_free char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (crun_error_from_log(text, size, &of_crun) >= 0)
        abort();
    check(&of_crun);
    (void)crun_error_from_message(text, &of_message);
    check(&of_message);
    err_set(&of_criu, EIO, "CRIU failed");
    criu_log_append_errors(text, size, &of_criu);
    check(&of_criu);
    for (const char *c = of_criu.msg; *c; c++)
        if (((unsigned char)*c < ' ' && *c != '\n') || *c == 0x7f)
            abort();
    if (criu_log_last_lines(text, size, CRIU_LOG_LINES) > size)
        abort();
    return 0;
}
