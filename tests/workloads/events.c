/* SPDX-License-Identifier: Apache-2.0 */
/* eventfd, signalfd, timerfd and pipes, all in one epoll that is nested in another. */
#include "workload.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#define COUNT UINT64_C(0x12345678) /* of a longer one CRIU 4.2 restores the lower 32 bits: eventfd() takes no more */
#define FAR_SEC 100000

enum source { EVENT, BLOCKING, SIGNAL, TICK, DISTANT, PIPE, N_SOURCES };
static int fds[N_SOURCES], writer, inner, outer;
static time_t left = FAR_SEC;

static void watch(enum source s, uint32_t events) {
    struct epoll_event e = {.events = events, .data.u64 = (UINT64_C(7) << 32) + s};
    must(!epoll_ctl(inner, EPOLL_CTL_ADD, fds[s], &e));
}

/* The tick is one tick: of a timerfd with an interval that has expired, and that nobody has read, CRIU 4.2 keeps what
 * can be read, but it ticks no more. */
static void put(void) {
    uint64_t count = COUNT;
    must(!timerfd_settime(fds[TICK], 0, &(struct itimerspec){.it_value.tv_nsec = 1000000}, NULL));
    must(write(fds[EVENT], &count, sizeof(count)) == sizeof(count));
    count = 2;
    must(write(fds[BLOCKING], &count, sizeof(count)) == sizeof(count));
    must(!sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 77}));
    must(write(writer, "data", 4) == 4);
}

void set_up(void) {
    sigset_t set;
    int pipes[2];
    must(!sigemptyset(&set) && !sigaddset(&set, SIGUSR1) && !sigprocmask(SIG_BLOCK, &set, NULL));
    must((inner = epoll_create1(EPOLL_CLOEXEC)) >= 0 && (outer = epoll_create1(0)) >= 0);
    must((fds[EVENT] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) >= 0);
    must((fds[BLOCKING] = eventfd(0, 0)) >= 0); /* CRIU 4.2 forgets EFD_SEMAPHORE */
    must((fds[SIGNAL] = signalfd(-1, &set, SFD_NONBLOCK)) >= 0);
    must((fds[TICK] = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)) >= 0);
    must((fds[DISTANT] = timerfd_create(CLOCK_REALTIME, 0)) >= 0);
    must(!pipe2(pipes, O_NONBLOCK));
    fds[PIPE] = pipes[0];
    writer = pipes[1];
    must(!timerfd_settime(fds[DISTANT], 0, &(struct itimerspec){.it_value.tv_sec = FAR_SEC}, NULL));
    for (int s = 0; s < N_SOURCES; s++)
        watch(s, s == PIPE ? EPOLLIN | EPOLLET : EPOLLIN);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = inner};
    must(!epoll_ctl(outer, EPOLL_CTL_ADD, inner, &e));
    put();
}

/* All but the distant timer are ready, each once. */
static void check_ready(void) {
    struct epoll_event e, got[N_SOURCES + 1];
    unsigned seen = 0;
    must(readable(fds[TICK]));
    must(epoll_wait(outer, &e, 1, PATIENCE_MSEC) == 1 && e.data.fd == inner);
    int n = epoll_wait(inner, got, N_SOURCES + 1, 0);
    for (int i = 0; i < n; i++) {
        must(got[i].data.u64 >> 32 == 7);
        seen |= 1U << (uint32_t)got[i].data.u64;
    }
    if (n != N_SOURCES - 1 || seen != ((1U << N_SOURCES) - 1 - (1U << DISTANT)))
        fail("epoll reports %d ready, 0x%x", n, seen);
}

void check(void) {
    uint64_t count;
    struct signalfd_siginfo info;
    struct itimerspec its;
    check_ready();
    must(read(fds[EVENT], &count, sizeof(count)) == sizeof(count) && count == COUNT);
    must(read(fds[EVENT], &count, sizeof(count)) < 0 && errno == EAGAIN);
    must(read(fds[BLOCKING], &count, sizeof(count)) == sizeof(count) && count == 2);
    must(read(fds[SIGNAL], &info, sizeof(info)) == sizeof(info));
    must(info.ssi_signo == SIGUSR1 && info.ssi_int == 77);
    must(read(fds[SIGNAL], &info, sizeof(info)) < 0 && errno == EAGAIN);
    must(read(fds[TICK], &count, sizeof(count)) == sizeof(count) && count == 1);
    must(!timerfd_gettime(fds[DISTANT], &its));
    must(its.it_value.tv_sec <= left && its.it_value.tv_sec > FAR_SEC / 2);
    left = its.it_value.tv_sec;
    must(reads(fds[PIPE], "data", 4));
    must(fcntl(fds[PIPE], F_GETFL) & O_NONBLOCK);
    must(fcntl(inner, F_GETFD) == FD_CLOEXEC && fcntl(outer, F_GETFD) == 0);
    put();
}
