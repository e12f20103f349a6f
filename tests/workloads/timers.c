/* SPDX-License-Identifier: Apache-2.0 */
/* Timers: a POSIX one that ticks, one and an interval timer that are far away, and that no clock has gone back. */
#include "workload.h"

#include <signal.h>
#include <sys/time.h>
#include <time.h>

#define TICK_NSEC 20000000
#define FAR_SEC 100000

static volatile sig_atomic_t ticks;
static timer_t ticking, distant;
static time_t distant_left, itimer_left;
static struct timespec monotonic;

static void tick(int signal_number) {
    (void)signal_number;
    ticks++;
}

/* Seconds left: fewer than last time or as many, and not a day fewer. */
static void look(void) {
    struct itimerspec its;
    struct itimerval itv;
    must(!timer_gettime(distant, &its));
    must(its.it_value.tv_sec <= distant_left && its.it_value.tv_sec > FAR_SEC / 2);
    must(its.it_interval.tv_sec == 7);
    distant_left = its.it_value.tv_sec;
    must(!getitimer(ITIMER_REAL, &itv));
    must(itv.it_value.tv_sec <= itimer_left && itv.it_value.tv_sec > FAR_SEC / 2);
    must(itv.it_interval.tv_usec == 5);
    itimer_left = itv.it_value.tv_sec;

    struct timespec now;
    must(!clock_gettime(CLOCK_MONOTONIC, &now));
    if (now.tv_sec < monotonic.tv_sec)
        fail("the monotonic clock went back from %ld s to %ld s", (long)monotonic.tv_sec, (long)now.tv_sec);
    monotonic = now;
}

void set_up(void) {
    struct sigaction act = {.sa_handler = tick, .sa_flags = SA_RESTART};
    must(!sigaction(SIGRTMIN + 1, &act, NULL));
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1};
    must(!timer_create(CLOCK_MONOTONIC, &event, &ticking));
    must(!timer_settime(ticking, 0,
                        &(struct itimerspec){.it_value.tv_nsec = TICK_NSEC, .it_interval.tv_nsec = TICK_NSEC}, NULL));
    event.sigev_signo = SIGUSR2;
    must(!timer_create(CLOCK_REALTIME, &event, &distant));
    must(!timer_settime(distant, 0, &(struct itimerspec){.it_value.tv_sec = FAR_SEC, .it_interval.tv_sec = 7}, NULL));
    must(!setitimer(ITIMER_REAL, &(struct itimerval){.it_value.tv_sec = FAR_SEC, .it_interval.tv_usec = 5}, NULL));
    distant_left = itimer_left = FAR_SEC;
    look();
}

void check(void) {
    look();
    int from = ticks;
    for (int waited = 0; ticks < from + 3; waited += 10) {
        if (waited > PATIENCE_MSEC)
            fail("the timer ticks no more, after %d ticks", (int)ticks);
        (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
}
