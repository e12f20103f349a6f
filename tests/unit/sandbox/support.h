/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of src/sandbox and src/shim share: a loop that runs until a condition holds, a mount namespace of
 * their own, and a look at the mount table. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/util.h"
#include "tmpdir.h"

#define TEST_DEADLINE (20 * USEC_PER_SEC)
#define EXIT_SKIPPED 77 /* meson: the test could not run here */

/* Runs the loop until `cond` holds; fails the test after TEST_DEADLINE. */
#define RUN_UNTIL(event, cond)                                                                                         \
    do {                                                                                                               \
        uint64_t end_ = now_usec() + TEST_DEADLINE;                                                                    \
        while (!(cond)) {                                                                                              \
            if (now_usec() > end_)                                                                                     \
                fail_msg("timed out waiting for: %s", #cond);                                                          \
            assert_true(sd_event_run(event, 10 * USEC_PER_MSEC) >= 0);                                                 \
        }                                                                                                              \
    } while (0)

/* Runs the loop until nothing is due. Enough to know that something does not happen: all peers live in this loop. */
static inline void run_idle(sd_event *event) {
    uint64_t end = now_usec() + TEST_DEADLINE;
    int r;
    do {
        r = sd_event_run(event, 0);
        if (now_usec() > end)
            fail_msg("the loop does not come to rest");
    } while (r > 0);
    assert_int_equal(r, 0);
}

#define ASSERT_SAYS(err, text)                                                                                         \
    do {                                                                                                               \
        if (!strstr((err)->msg, text))                                                                                 \
            fail_msg("\"%s\" does not say \"%s\"", (err)->msg, text);                                                  \
    } while (0)

/* This process sees and makes mounts of its own from here on; they go with it. False: it may not (not root). */
static inline bool own_mounts(void) {
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

/* Options of the mount at path (of the topmost one) as ",a,b,", or NULL if there is none. Valid until the next call. */
static inline const char *mount_options(const char *path) {
    static char found[260];
    bool any = false;
    char line[4096], at[1024], options[256];
    cleanup_file FILE *f = fopen("/proc/self/mountinfo", "re");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f))
        if (sscanf(line, "%*s %*s %*s %*s %1023s %255s", at, options) == 2 && strcmp(at, path) == 0) {
            any = true;
            snprintf(found, sizeof(found), ",%s,", options);
        }
    return any ? found : NULL;
}

/* Mounts at or below path. */
static inline size_t count_mounts(const char *path) {
    size_t n = 0, len = strlen(path);
    char line[4096], at[1024];
    cleanup_file FILE *f = fopen("/proc/self/mountinfo", "re");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f))
        if (sscanf(line, "%*s %*s %*s %*s %1023s", at) == 1 && strncmp(at, path, len) == 0 &&
            (at[len] == '\0' || at[len] == '/'))
            n++;
    return n;
}
