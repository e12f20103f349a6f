/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of src/ttrpc share: an event loop that runs until a condition holds, and socket pairs. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/util.h"

#define TEST_DEADLINE (20 * USEC_PER_SEC)

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

/* Runs the loop until nothing is due. */
static inline void run_idle(sd_event *event) {
    int r;
    do
        r = sd_event_run(event, 0);
    while (r > 0);
    assert_int_equal(r, 0);
}

static inline sd_event *new_event(void) {
    sd_event *event = NULL;
    assert_true(sd_event_new(&event) >= 0);
    return event;
}

/* Both ends close-on-exec and blocking. */
static inline void new_pair(int fds[2]) {
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

/* What has arrived on a socket, without waiting. */
static inline size_t read_now(int fd, void *buf, size_t size) {
    ssize_t n = recv(fd, buf, size, MSG_DONTWAIT);
    return n > 0 ? (size_t)n : 0;
}

static inline bool has_ended(int fd) {
    uint8_t b;
    return recv(fd, &b, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}
