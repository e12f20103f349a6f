/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/tsc.h"

#include <stdbool.h>
#include <time.h>

#ifdef __x86_64__
#include <x86intrin.h>
#endif

#define NSEC_PER_SEC UINT64_C(1000000000)
#define PAUSE_NSEC 5000000 /* between the readings; an error of both by all that ERROR_NSEC allows is 0.1 % of it */
#define ERROR_NSEC 2500
#define TRIES 64

unsigned tsc_khz_between(uint64_t ticks0, uint64_t nsec0, uint64_t ticks1, uint64_t nsec1) {
    if (ticks1 <= ticks0 || nsec1 <= nsec0)
        return 0;
    uint64_t khz = (uint64_t)((double)(ticks1 - ticks0) * 1e6 / (double)(nsec1 - nsec0));
    return khz <= UINT32_MAX ? (unsigned)khz : 0;
}

#ifdef __x86_64__
static uint64_t clock_nsec(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

/* Counter and clock at the same time: the counter is read between two readings of the clock that lie close together,
 * which they do not when this thread lost its CPU in between. */
static bool read_both(uint64_t *ret_ticks, uint64_t *ret_nsec) {
    for (int i = 0; i < TRIES; i++) {
        uint64_t before = clock_nsec(), ticks = __rdtsc(), after = clock_nsec();
        if (after - before <= ERROR_NSEC) {
            *ret_ticks = ticks;
            *ret_nsec = before + (after - before) / 2;
            return true;
        }
    }
    return false;
}

unsigned tsc_khz(void) {
    static const struct timespec pause = {.tv_nsec = PAUSE_NSEC};
    uint64_t ticks[2], nsec[2];
    if (!read_both(&ticks[0], &nsec[0]))
        return 0;
    (void)nanosleep(&pause, NULL); /* a shorter one is only less exact */
    return read_both(&ticks[1], &nsec[1]) ? tsc_khz_between(ticks[0], nsec[0], ticks[1], nsec[1]) : 0;
}
#else
unsigned tsc_khz(void) {
    return 0;
}
#endif
