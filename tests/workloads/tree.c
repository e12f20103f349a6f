/* SPDX-License-Identifier: Apache-2.0 */
/* A tree of processes: threads with their own data, sessions and groups, names, a zombie with its exit code. */
#include "workload.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define BRANCHES 3
#define DEPTH 2 /* levels below ours; each child has one of its own */
#define THREADS 2

/* What a process says of itself. It is made once, then compared. */
struct self {
    pid_t pid, parent, group, session;
    pid_t tids[THREADS];
    char name[16];
};
struct node {
    int ask, answer;
    struct self self;
};
struct thread {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned asked, answered;
    pid_t tid;
    uintptr_t stack;
};
static __thread unsigned local;
static struct thread threads[THREADS];
static struct node children[BRANCHES];
static int n_children;
static pid_t zombie;

/* Each answers its question from thread-local memory, with its tid and its stack. */
static void *thread_main(void *arg) {
    struct thread *t = arg;
    char here;
    (void)pthread_mutex_lock(&t->lock);
    for (;;) {
        while (t->asked == t->answered)
            (void)pthread_cond_wait(&t->changed, &t->lock);
        t->answered = ++local;
        t->tid = gettid();
        t->stack = (uintptr_t)&here;
        (void)pthread_cond_broadcast(&t->changed);
    }
    return NULL;
}

static void ask_thread(struct thread *t) {
    must(!pthread_mutex_lock(&t->lock));
    uintptr_t stack = t->stack;
    unsigned expected = ++t->asked;
    must(!pthread_cond_broadcast(&t->changed));
    while (t->answered != t->asked)
        must(!pthread_cond_wait(&t->changed, &t->lock));
    must(t->answered == expected && (!stack || t->stack == stack));
    must(!pthread_mutex_unlock(&t->lock));
}

static void start_threads(void) {
    for (int i = 0; i < THREADS; i++) {
        pthread_t id;
        must(!pthread_mutex_init(&threads[i].lock, NULL) && !pthread_cond_init(&threads[i].changed, NULL));
        must(!pthread_create(&id, NULL, thread_main, &threads[i]));
    }
}

static void look(struct self *self) {
    memset(self, 0, sizeof(*self));
    *self = (struct self){.pid = getpid(), .parent = getppid(), .group = getpgid(0), .session = getsid(0)};
    must(!prctl(PR_GET_NAME, self->name));
    for (int i = 0; i < THREADS; i++) {
        ask_thread(&threads[i]);
        self->tids[i] = threads[i].tid;
    }
}

static void ask_children(bool first) {
    for (int i = 0; i < n_children; i++) {
        struct self self;
        must(write(children[i].ask, "?", 1) == 1);
        must(read(children[i].answer, &self, sizeof(self)) == sizeof(self));
        if (first)
            children[i].self = self;
        else if (memcmp(&self, &children[i].self, sizeof(self)) != 0)
            fail("process %d (parent %d, group %d, session %d) was %d (%d, %d, %d)", self.pid, self.parent, self.group,
                 self.session, children[i].self.pid, children[i].self.parent, children[i].self.group,
                 children[i].self.session);
    }
}

static void grow(int depth);

__attribute__((noreturn)) static void child_main(int ask, int answer, int number, int depth) {
    char name[32], c;
    n_children = 0;
    if (number == 1)
        must(setsid() > 0);
    if (number == 2)
        must(!setpgid(0, 0));
    (void)snprintf(name, sizeof(name), "child %d.%d", depth, number);
    must(!prctl(PR_SET_NAME, name));
    start_threads();
    grow(depth - 1);
    for (bool first = true; read(ask, &c, 1) == 1; first = false) {
        struct self self;
        ask_children(first);
        look(&self);
        must(write(answer, &self, sizeof(self)) == sizeof(self));
    }
    _exit(0);
}

static void grow(int depth) {
    int n = depth == DEPTH ? BRANCHES : depth;
    for (int i = 0; i < n; i++) {
        int ask[2], answer[2];
        must(!pipe(ask) && !pipe(answer));
        pid_t pid;
        must((pid = fork_bound()) >= 0);
        if (pid == 0)
            child_main(ask[0], answer[1], i, depth);
        must(!close(ask[0]) && !close(answer[1]));
        children[n_children++] = (struct node){.ask = ask[1], .answer = answer[0]};
    }
}

static void leave_zombie(void) {
    siginfo_t info;
    must((zombie = fork()) >= 0);
    if (zombie == 0)
        _exit(37);
    must(!waitid(P_PID, (id_t)zombie, &info, WEXITED | WNOWAIT));
}

void set_up(void) {
    grow(DEPTH);
    start_threads();
    leave_zombie();
    ask_children(true);
}

void check(void) {
    int status;
    ask_children(false);
    for (int i = 0; i < THREADS; i++)
        ask_thread(&threads[i]);
    must(waitpid(zombie, &status, WNOHANG) == zombie && WIFEXITED(status) && WEXITSTATUS(status) == 37);
    leave_zombie();
}
