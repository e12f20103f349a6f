/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Child processes, watched by pidfd.
 *
 * A spawned child has only the fds it was given, default signal dispositions and an empty signal mask, and dies with
 * its parent unless told otherwise.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/wait.h>

#include "base/err.h"

#define PROC_FDS_MAX 16

struct proc_fd {
    int from; /* fd of this process; -1: /dev/null */
    int to;   /* its number in the child */
};

struct proc_spec {
    const char *path;  /* executable; searched in PATH if it has no slash */
    char *const *argv; /* NULL-terminated */
    char *const *env;  /* NULL: this process's */
    const char *cwd;   /* NULL: this process's */
    struct proc_fd fds[PROC_FDS_MAX];
    size_t n_fds;         /* 0, 1 and 2 are /dev/null where no entry names them */
    bool new_session;     /* setsid() */
    bool outlive_parent;  /* no SIGKILL when the parent dies */
    uint64_t clone_flags; /* namespaces to start in (CLONE_NEWNS, CLONE_NEWPID, …), else 0 */
    /* Runs in the child just before exec, after the fds are in place; a negative errno ends the child and is reported
     * by proc_spawn as "<what>: …", from the err it set. It may change credentials: the child still dies with its
     * parent. Only async-signal-safe work in a process with threads; here there are none. */
    int (*setup)(void *userdata, struct err *err);
    void *userdata;
};

struct proc {
    pid_t pid; /* 0: none */
    int pidfd; /* owned; -1: none */
};

#define PROC_NONE                                                                                                      \
    (struct proc) {                                                                                                    \
        .pid = 0, .pidfd = -1                                                                                          \
    }

/* Starts the program. Returns only when exec succeeded or failed. Errors: the setup's and exec's, with the program's
 * path in the message. */
int proc_spawn(const struct proc_spec *spec, struct proc *ret, struct err *err);

/* Sends SIGKILL, waits until the child is gone and frees the pidfd. Accepts PROC_NONE. */
void proc_kill(struct proc *p);

/* Waits at most timeout_usec and reaps. Returns 0 with *ret_status as waitpid() gives it, or -ETIMEDOUT. */
int proc_wait(struct proc *p, uint64_t timeout_usec, int *ret_status);

/* Runs a program to its end with a deadline; killed on timeout (-ETIMEDOUT). A non-zero exit is -EIO and the message
 * carries the last line the program wrote to its fd 2, unless the spec maps fd 2. */
int proc_run(const struct proc_spec *spec, uint64_t timeout_usec, struct err *err);

/* The shell's convention: the exit code, or 128 plus the signal. `status` as waitpid() gives it. */
int proc_exit_code(int status);

/* Start time of a process in clock ticks since boot, which together with the pid names it for good; -ESRCH if there is
 * none (a zombie counts as none). Other errors, -EMFILE say, tell nothing about it. */
int proc_start_time(pid_t pid, uint64_t *ret);
