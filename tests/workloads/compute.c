/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that calculate, in floating-point and vector registers, and always come to the same result. */
#include "workload.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#define THREADS 2
#define STEPS 200000

static _Atomic uint64_t rounds[THREADS];
static _Atomic bool wrong;

/* The logistic map: one wrong bit, anywhere on the way, gives another end. */
static double calculate(void) {
    double x[4] = {0.1, 0.2, 0.3, 0.4}, sum = 0;
    for (int i = 0; i < STEPS; i++)
        for (int k = 0; k < 4; k++)
            x[k] = 3.99 * x[k] * (1 - x[k]);
    for (int k = 0; k < 4; k++)
        sum += x[k];
    return sum;
}

static void *thread_main(void *arg) {
    double expected = calculate();
    for (;;) {
        double got = calculate();
        if (memcmp(&got, &expected, sizeof(got)) != 0)
            atomic_store(&wrong, true);
        atomic_fetch_add((_Atomic uint64_t *)arg, 1);
        (void)nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL); /* there are others */
    }
    return NULL;
}

void set_up(void) {
    for (int i = 0; i < THREADS; i++) {
        pthread_t id;
        must(!pthread_create(&id, NULL, thread_main, &rounds[i]));
    }
}

void check(void) {
    for (int i = 0; i < THREADS; i++) {
        uint64_t from = atomic_load(&rounds[i]);
        for (int waited = 0; atomic_load(&rounds[i]) < from + 3; waited += 10) {
            if (waited > PATIENCE_MSEC)
                fail("thread %d calculates no more", i);
            (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        }
    }
    must(!atomic_load(&wrong));
}
