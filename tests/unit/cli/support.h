/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of src/cli share. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/util.h"

#define TEST_DEADLINE (30 * USEC_PER_SEC)

/* Waits until `cond` holds; fails the test after TEST_DEADLINE. The short pause only spares the CPU. */
#define WAIT_FOR(cond)                                                                                                 \
    do {                                                                                                               \
        uint64_t end_ = now_usec() + TEST_DEADLINE;                                                                    \
        while (!(cond)) {                                                                                              \
            if (now_usec() > end_)                                                                                     \
                fail_msg("timed out waiting for: %s", #cond);                                                          \
            struct timespec pause_ = {.tv_nsec = 5000000};                                                             \
            nanosleep(&pause_, NULL);                                                                                  \
        }                                                                                                              \
    } while (0)

/* Fails unless the message holds the text. */
static inline void assert_message(const struct err *err, const char *text) {
    if (!strstr(err->msg, text))
        fail_msg("\"%s\" is not in \"%s\"", text, err->msg);
}

/* What a FILE-printing function writes: `call` uses the variable `out`. The caller frees the text. */
#define CAPTURE(text, call)                                                                                            \
    char *text = NULL;                                                                                                 \
    do {                                                                                                               \
        size_t size_ = 0;                                                                                              \
        FILE *out = open_memstream(&text, &size_);                                                                     \
        assert_non_null(out);                                                                                          \
        call;                                                                                                          \
        fclose(out);                                                                                                   \
    } while (0)
