/* SPDX-License-Identifier: Apache-2.0 */
/* System V: a segment that two processes share, semaphores with values, a queue with messages. */
#include "workload.h"

#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#define KEY 0x57A515
#define SIZE (1 << 20)

struct message {
    long type;
    char text[16];
};
static int shm, sem, msg;
static unsigned seed;
static unsigned *mine, *others; /* the segment, attached twice; words 0 and 1 are a question and its answer */

/* Takes one from it. A semop() is not resumed after a stop: see signal(7). */
static void take(unsigned short number) {
    struct sembuf op = {.sem_num = number, .sem_op = -1};
    int r;
    do {
        r = semtimedop(sem, &op, 1, number ? &(struct timespec){.tv_sec = PATIENCE_MSEC / 1000} : NULL);
    } while (r < 0 && errno == EINTR);
    must(!r);
}

/* The other process answers what it is asked through the segment and the semaphore. */
static void answer(void) {
    for (;;) {
        take(0);
        others[1] = others[0] + 1;
        must(!semop(sem, &(struct sembuf){.sem_num = 1, .sem_op = 1}, 1));
    }
}

static void send(long type, const char *text) {
    struct message m = {.type = type};
    strncpy(m.text, text, sizeof(m.text) - 1);
    must(!msgsnd(msg, &m, sizeof(m.text), IPC_NOWAIT));
}

void set_up(void) {
    must((shm = shmget(KEY, SIZE, IPC_CREAT | IPC_EXCL | 0640)) >= 0);
    must((sem = semget(KEY, 3, IPC_CREAT | IPC_EXCL | 0600)) >= 0);
    must((msg = msgget(KEY, IPC_CREAT | IPC_EXCL | 0600)) >= 0);
    must((mine = shmat(shm, NULL, 0)) != (void *)-1 && (others = shmat(shm, NULL, 0)) != (void *)-1);
    must(!semctl(sem, 2, SETVAL, 42));
    pattern_fill(mine + 2, SIZE - 8, seed);
    send(5, "five");
    send(3, "three");
    pid_t pid;
    must((pid = fork_bound()) >= 0);
    if (pid == 0)
        answer();
}

void check(void) {
    struct message m;
    struct shmid_ds ds;
    must(shmget(KEY, SIZE, 0) == shm && semget(KEY, 3, 0) == sem && msgget(KEY, 0) == msg);
    must(!shmctl(shm, IPC_STAT, &ds) && ds.shm_nattch == 4 && (ds.shm_perm.mode & 0777) == 0640);
    must(pattern_is(mine + 2, SIZE - 8, seed) && pattern_is(others + 2, SIZE - 8, seed));
    must(semctl(sem, 2, GETVAL) == 42 && semctl(sem, 0, GETNCNT) == 1);
    mine[0] = ++seed;
    must(!semop(sem, &(struct sembuf){.sem_num = 0, .sem_op = 1}, 1));
    take(1);
    must(mine[1] == seed + 1);
    pattern_fill(mine + 2, SIZE - 8, seed);
    must(msgrcv(msg, &m, sizeof(m.text), 3, IPC_NOWAIT) == sizeof(m.text) && !strcmp(m.text, "three"));
    must(msgrcv(msg, &m, sizeof(m.text), 0, IPC_NOWAIT) == sizeof(m.text) && m.type == 5 && !strcmp(m.text, "five"));
    send(5, "five");
    send(3, "three");
}
