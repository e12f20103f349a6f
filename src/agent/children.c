/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/children.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define BUCKETS 256
#define REAP_MAX 512 /* zombies per turn of the loop, so that a storm of exits does not stop everything else */

struct lost {
    pid_t pid;
    int status;
};

struct children {
    sd_event_source *source;
    struct child *buckets[BUCKETS];
    unsigned holds;
    /* A ring. Allocated during a hold only. */
    struct lost *lost;
    size_t n_lost, next_lost;
};

static struct child **find(struct children *c, pid_t pid) {
    struct child **p = &c->buckets[(unsigned)pid % BUCKETS];
    while (*p && (*p)->pid != pid)
        p = &(*p)->next;
    return p;
}

static void keep(struct children *c, pid_t pid, int status) {
    if (!c->lost)
        return;
    c->lost[c->next_lost] = (struct lost){.pid = pid, .status = status};
    c->next_lost = (c->next_lost + 1) % CHILDREN_LOST_MAX;
    if (c->n_lost < CHILDREN_LOST_MAX)
        c->n_lost++;
}

static int on_sigchld(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata) {
    (void)source;
    (void)si;
    struct children *c = userdata;
    for (unsigned n = 0; n < REAP_MAX; n++) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG | __WALL);
        if (pid <= 0)
            return 0;
        struct child **p = find(c, pid);
        if (!*p) {
            keep(c, pid, status);
            continue;
        }
        struct child *child = *p;
        *p = child->next;
        child->pid = 0;
        child->next = NULL;
        child->fn(child, status, child->userdata);
    }
    /* There may be more: the signal, which is blocked, brings us back after the others had their turn. */
    (void)kill(getpid(), SIGCHLD);
    return 0;
}

int children_new(sd_event *event, struct children **ret, struct err *err) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return err_errno(err, errno, "cannot block SIGCHLD");
    cleanup_free struct children *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(err, ENOMEM, "out of memory");
    int r = sd_event_add_signal(event, &c->source, SIGCHLD, on_sigchld, c);
    if (r < 0)
        return err_errno(err, -r, "cannot watch SIGCHLD");
    /* Before crun's end is looked at, everything that ended with it should be known. */
    (void)sd_event_source_set_priority(c->source, SD_EVENT_PRIORITY_NORMAL - 10);
    *ret = TAKE_PTR(c);
    return 0;
}

struct children *children_free(struct children *c) {
    if (!c)
        return NULL;
    sd_event_source_disable_unref(c->source);
    free(c->lost);
    free(c);
    return NULL;
}

int children_watch(struct children *c, struct child *child, pid_t pid, child_exit_fn fn, void *userdata,
                   int *ret_status) {
    if (pid <= 1)
        return -ECHILD;
    /* First the living: a pid that was reaped may have been given out again. */
    siginfo_t si;
    if (waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0) {
        for (size_t i = 1; i <= c->n_lost; i++) {
            const struct lost *l = &c->lost[(c->next_lost + CHILDREN_LOST_MAX - i) % CHILDREN_LOST_MAX];
            if (l->pid == pid) {
                *ret_status = l->status;
                return 1;
            }
        }
        return -ECHILD;
    }
    struct child **p = find(c, pid);
    if (*p)
        return -ECHILD; /* somebody else's */
    *child = (struct child){.pid = pid, .fn = fn, .userdata = userdata};
    *p = child;
    return 0;
}

void children_forget(struct children *c, struct child *child) {
    if (!child->pid)
        return;
    struct child **p = find(c, child->pid);
    if (*p == child)
        *p = child->next;
    child->pid = 0;
    child->next = NULL;
}

void children_kill(pid_t pid) {
    siginfo_t si;
    /* As long as it is our child it is not reaped, and the pid is its own. */
    if (pid > 1 && waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0)
        (void)kill(pid, SIGKILL);
}

void children_hold(struct children *c) {
    /* Without memory for it a status may get lost; then the process counts as killed. */
    if (c->holds++ == 0)
        c->lost = calloc(CHILDREN_LOST_MAX, sizeof(*c->lost));
}

void children_release(struct children *c) {
    if (--c->holds)
        return;
    free(c->lost);
    c->lost = NULL;
    c->n_lost = c->next_lost = 0;
}
