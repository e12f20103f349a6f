/* SPDX-License-Identifier: Apache-2.0 */
/* Memory two processes share: POSIX shared memory, a sealed memfd, an anonymous mapping, with a process-shared lock. */
#include "workload.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define SIZE (1 << 20)
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

struct common {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned asked, answered;
};
static struct common *anonymous;
static char *posix, *of_memfd;
static int memfd, shm_fd;
static unsigned seed;

static void answer(void) {
    must(!pthread_mutex_lock(&anonymous->lock));
    for (;;) {
        while (anonymous->asked == anonymous->answered)
            must(!pthread_cond_wait(&anonymous->changed, &anonymous->lock));
        unsigned n = anonymous->asked;
        must(pattern_is(posix, SIZE, n) && pattern_is(of_memfd, SIZE, n + 1));
        pattern_fill(posix, SIZE, n + 2);
        anonymous->answered = n;
        must(!pthread_cond_broadcast(&anonymous->changed));
    }
}

static void *map(int fd, int flags) {
    void *p;
    must((p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | flags, fd, 0)) != MAP_FAILED);
    return p;
}

void set_up(void) {
    pthread_mutexattr_t ma;
    pthread_condattr_t ca;
    pid_t pid;
    anonymous = map(-1, MAP_ANONYMOUS);
    must(!pthread_mutexattr_init(&ma) && !pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED));
    must(!pthread_condattr_init(&ca) && !pthread_condattr_setpshared(&ca, PTHREAD_PROCESS_SHARED));
    must(!pthread_mutex_init(&anonymous->lock, &ma) && !pthread_cond_init(&anonymous->changed, &ca));
    must((shm_fd = shm_open("/workload", O_CREAT | O_EXCL | O_RDWR, 0640)) >= 0 && !ftruncate(shm_fd, SIZE));
    posix = map(shm_fd, 0);
    must((memfd = memfd_create("workload", MFD_ALLOW_SEALING)) >= 0 && !ftruncate(memfd, SIZE));
    must(!fcntl(memfd, F_ADD_SEALS, SEALS) && lseek(memfd, 123, SEEK_SET) == 123);
    of_memfd = map(memfd, 0);
    must((pid = fork_bound()) >= 0);
    if (pid == 0)
        answer();
    pattern_fill(of_memfd, SIZE, seed);
    pattern_fill(posix, SIZE, seed);
}

void check(void) {
    struct stat st;
    must(pattern_is(of_memfd, SIZE, seed) && pattern_is(posix, SIZE, seed));
    must(fcntl(memfd, F_GET_SEALS) == SEALS && lseek(memfd, 0, SEEK_CUR) == 123 && ftruncate(memfd, 1) < 0);
    must(!stat("/dev/shm/workload", &st) && (st.st_mode & 0777) == 0640 && st.st_size == SIZE);
    seed += 10;
    must(!pthread_mutex_lock(&anonymous->lock));
    pattern_fill(posix, SIZE, seed);
    pattern_fill(of_memfd, SIZE, seed + 1);
    anonymous->asked = seed;
    must(!pthread_cond_broadcast(&anonymous->changed));
    while (anonymous->answered != seed)
        must(!pthread_cond_wait(&anonymous->changed, &anonymous->lock));
    must(!pthread_mutex_unlock(&anonymous->lock));
    must(pattern_is(posix, SIZE, seed + 2));
    pattern_fill(of_memfd, SIZE, seed);
    pattern_fill(posix, SIZE, seed);
}
