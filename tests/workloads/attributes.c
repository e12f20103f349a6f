/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process has that CRIU's images have no place for: that it may gain no executable memory, coredump filter,
 * personality, timer slack, I/O priority, CPUs. Those of a thread differ from those of the other thread; a child with a
 * seccomp filter that forbids to ask has them, too.
 */
#include "workload.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_GET_MDWE 66
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif
#define IOPRIO_WHO_PROCESS 1
#define IOPRIO(class, level) ((class) << 13 | (level))
#define FILTER "0x00000005"
#define PAGE 4096

struct values {
    unsigned long personality;
    int slack, ioprio;
};
static const struct values of_process = {ADDR_NO_RANDOMIZE | SHORT_INODE, 1234567, IOPRIO(2, 6)};
static const struct values of_thread = {ADDR_NO_RANDOMIZE, 7654321, IOPRIO(3, 0)};
static sem_t ask, answer;
static int to_child, from_child;

static void set(const struct values *v) {
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    must(personality(v->personality) >= 0);
    must(!prctl(PR_SET_TIMERSLACK, v->slack));
    must(!syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, v->ioprio));
    must(!sched_setaffinity(0, sizeof(first), &first));
}

static void compare(const struct values *v) {
    cpu_set_t cpus;
    must(personality(0xffffffff) == (int)v->personality);
    must(prctl(PR_GET_TIMERSLACK) == v->slack);
    must(syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) == v->ioprio);
    must(!sched_getaffinity(0, sizeof(cpus), &cpus) && CPU_COUNT(&cpus) == 1 && CPU_ISSET(0, &cpus));
}

static void gains_no_executable_memory(void) {
    void *page;
    must((page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) != MAP_FAILED);
    must(mprotect(page, PAGE, PROT_READ | PROT_EXEC) < 0 && errno == EACCES);
    must(!munmap(page, PAGE));
}

static void *thread_main(void *arg) {
    (void)arg;
    set(&of_thread);
    for (;;) {
        must(!sem_post(&answer));
        while (sem_wait(&ask) < 0)
            must(errno == EINTR);
        compare(&of_thread);
    }
    return NULL;
}

/* Any prctl() would kill it. */
static void forbid_prctl(void) {
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(rules) / sizeof(rules[0]), .filter = rules};
    must(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

__attribute__((noreturn)) static void child_main(int in, int out) {
    char c;
    forbid_prctl();
    while (read(in, &c, 1) == 1) {
        gains_no_executable_memory();
        must(write(out, &c, 1) == 1);
    }
    _exit(0);
}

static void start_child(void) {
    int in[2], out[2];
    pid_t pid;
    must(!pipe(in) && !pipe(out) && (pid = fork_bound()) >= 0);
    if (pid == 0)
        child_main(in[0], out[1]);
    to_child = in[1];
    from_child = out[0];
}

/* What would be lost is not to be had in the first place. */
static void finds_no_landlock(void) {
    must(syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* its version */) < 0 && errno == EOPNOTSUPP);
}

void set_up(void) {
    pthread_t id;
    int fd;
    finds_no_landlock();
    must((fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC)) >= 0);
    must(write(fd, FILTER, strlen(FILTER)) == (ssize_t)strlen(FILTER) && !close(fd));
    must(!prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0));
    start_child();
    set(&of_process);
    must(!sem_init(&ask, 0, 0) && !sem_init(&answer, 0, 0) && !pthread_create(&id, NULL, thread_main, NULL));
    while (sem_wait(&answer) < 0)
        must(errno == EINTR);
}

void check(void) {
    char text[16] = "", c;
    int fd;
    compare(&of_process);
    must((fd = open("/proc/self/coredump_filter", O_RDONLY | O_CLOEXEC)) >= 0);
    must(read(fd, text, sizeof(text) - 1) > 0 && !close(fd) && strtoul(text, NULL, 16) == strtoul(FILTER, NULL, 16));
    must(prctl(PR_GET_MDWE, 0, 0, 0, 0) == PR_MDWE_REFUSE_EXEC_GAIN);
    gains_no_executable_memory();
    must(!sem_post(&ask));
    while (sem_wait(&answer) < 0)
        must(errno == EINTR);
    must(write(to_child, "?", 1) == 1 && read(from_child, &c, 1) == 1);
}
