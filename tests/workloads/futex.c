/* SPDX-License-Identifier: Apache-2.0 */
/* Robust locks: a process that waits for one gets it with EOWNERDEAD when the process that holds it is killed. */
#include "workload.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static pthread_mutex_t *lock;
static pid_t owner, waiter;
static int from_owner[2], from_waiter[2];

__attribute__((noreturn)) static void own(void) {
    must(!pthread_mutex_lock(lock) && write(from_owner[1], "x", 1) == 1);
    for (;;)
        (void)pause();
}

__attribute__((noreturn)) static void wait_for_it(void) {
    must(pthread_mutex_lock(lock) == EOWNERDEAD && !pthread_mutex_consistent(lock) && !pthread_mutex_unlock(lock));
    must(write(from_waiter[1], "x", 1) == 1);
    _exit(0);
}

static void start(void) {
    must((owner = fork_bound()) >= 0);
    if (owner == 0)
        own();
    must(reads(from_owner[0], "x", 1));
    must((waiter = fork_bound()) >= 0);
    if (waiter == 0)
        wait_for_it();
}

void set_up(void) {
    pthread_mutexattr_t attr;
    must((lock = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) != MAP_FAILED);
    must(!pthread_mutexattr_init(&attr) && !pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED));
    must(!pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST) && !pthread_mutex_init(lock, &attr));
    must(!pipe(from_owner) && !pipe(from_waiter));
    start();
}

void check(void) {
    must(pthread_mutex_trylock(lock) == EBUSY);
    must(!kill(owner, SIGKILL) && waitpid(owner, NULL, 0) == owner);
    must(readable(from_waiter[0]) && reads(from_waiter[0], "x", 1) && waitpid(waiter, NULL, 0) == waiter);
    start();
}
