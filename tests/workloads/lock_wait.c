/* SPDX-License-Identifier: Apache-2.0 */
/* A process that is blocked in flock() until another one lets go. */
#include "workload.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>

static int lock, go[2], got[2];

static int open_file(void) {
    int fd;
    must((fd = open("flock", O_CREAT | O_RDWR | O_CLOEXEC, 0600)) >= 0);
    return fd;
}

static void wait_for_it(void) {
    int fd = open_file();
    for (;;) {
        must(reads(go[0], "g", 1));
        must(write(got[1], "b", 1) == 1); /* about to block */
        must(!flock(fd, LOCK_EX));
        must(write(got[1], "l", 1) == 1);
        must(!flock(fd, LOCK_UN));
    }
}

static void send_off(void) {
    must(write(go[1], "g", 1) == 1);
    must(reads(got[0], "b", 1));
}

void set_up(void) {
    pid_t pid;
    must(!pipe2(go, O_CLOEXEC) && !pipe2(got, O_CLOEXEC));
    lock = open_file();
    must(!flock(lock, LOCK_EX));
    must((pid = fork_bound()) >= 0);
    if (pid == 0)
        wait_for_it();
    send_off();
}

void check(void) {
    struct pollfd p = {.fd = got[0], .events = POLLIN};
    /* Not a moment before: whatever happened since, it did not get past the lock. */
    must(poll(&p, 1, 0) == 0);
    must(!flock(lock, LOCK_UN));
    must(reads(got[0], "l", 1));
    must(!flock(lock, LOCK_EX));
    send_off();
}
