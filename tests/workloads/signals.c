/* SPDX-License-Identifier: Apache-2.0 */
/* Signals: pending ones with their values, the mask, handlers with their flags, ignored ones, the alternate stack. */
#include "workload.h"

#include <signal.h>
#include <stdlib.h>

#define QUEUED 5
static char alternate[65536];
static volatile sig_atomic_t handled;
static volatile sig_atomic_t on_alternate;

static void handler(int signal_number, siginfo_t *info, void *context) {
    char here;
    (void)context;
    if (signal_number == SIGTERM && info->si_pid == getpid())
        handled++;
    on_alternate = &here >= alternate && &here < alternate + sizeof(alternate);
}

static void queue_all(void) {
    for (int i = 0; i < QUEUED; i++)
        must(!sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = 1000 + i}));
    must(!kill(getpid(), SIGUSR1));
}

static void blocked_set(sigset_t *set) {
    must(!sigemptyset(set));
    must(!sigaddset(set, SIGUSR1));
    must(!sigaddset(set, SIGRTMIN + 3));
}

void set_up(void) {
    sigset_t set;
    blocked_set(&set);
    must(!sigprocmask(SIG_BLOCK, &set, NULL));
    must(!sigaltstack(&(stack_t){.ss_sp = alternate, .ss_size = sizeof(alternate)}, NULL));
    struct sigaction act = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    must(!sigaddset(&act.sa_mask, SIGHUP));
    must(!sigaction(SIGTERM, &act, NULL));
    must(signal(SIGHUP, SIG_IGN) != SIG_ERR);
    queue_all();
}

void check(void) {
    sigset_t mask, pending, expected;
    blocked_set(&expected);
    must(!sigprocmask(SIG_SETMASK, NULL, &mask));
    must(!sigpending(&pending));
    for (int s = 1; s < SIGRTMAX; s++) {
        if (sigismember(&mask, s) != sigismember(&expected, s))
            fail("the mask differs in signal %d", s);
        if (sigismember(&pending, s) != sigismember(&expected, s))
            fail("what is pending differs in signal %d", s);
    }
    for (int i = 0; i < QUEUED; i++) {
        siginfo_t info;
        sigset_t one;
        must(!sigemptyset(&one) && !sigaddset(&one, SIGRTMIN + 3));
        must(sigtimedwait(&one, &info, &(struct timespec){0}) == SIGRTMIN + 3);
        must(info.si_code == SI_QUEUE && info.si_pid == getpid());
        must(info.si_value.sival_int == 1000 + i);
    }
    must(sigtimedwait(&expected, NULL, &(struct timespec){0}) == SIGUSR1);
    must(sigtimedwait(&expected, NULL, &(struct timespec){0}) < 0 && errno == EAGAIN);

    struct sigaction act;
    must(!sigaction(SIGTERM, NULL, &act));
    must(act.sa_sigaction == handler && act.sa_flags & SA_ONSTACK && act.sa_flags & SA_NODEFER);
    must(sigismember(&act.sa_mask, SIGHUP) && !sigismember(&act.sa_mask, SIGUSR2));
    must(!sigaction(SIGHUP, NULL, &act) && act.sa_handler == SIG_IGN);
    int before = handled;
    must(!raise(SIGTERM) && handled == before + 1 && on_alternate);
    queue_all();
}
