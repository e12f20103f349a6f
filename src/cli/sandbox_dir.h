/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sandbox's directory ROOT/ID with its socket, and the daemon that is started for it.
 *
 * The socket is bound and connected through /proc/self/fd, so that the length of ROOT does not matter (sun_path holds
 * 107 bytes).
 */
#pragma once

#include <sys/types.h>

#include "base/err.h"
#include "base/proc.h"
#include "base/util.h"
#include "cli/cli.h"

struct sandbox_dir {
    char *root; /* absolute, links resolved; owned */
    char *id;   /* owned */
    int fd;     /* of ROOT/ID (O_PATH); owned */
    /* What the daemon writes to stderr before it has its log; -1 unless this process started it; owned. */
    int stderr_fd;
    /* Of one that was made: descriptors that are let go to remove it, or to read its log, when there are no others.
     * Owned; NULL: none. */
    int *spare;
};
#define SANDBOX_DIR_NONE                                                                                               \
    (struct sandbox_dir) {                                                                                             \
        .fd = -1, .stderr_fd = -1                                                                                      \
    }

void sandbox_dir_close(struct sandbox_dir *d); /* accepts SANDBOX_DIR_NONE */
#define cleanup_sandbox_dir CLEANUP(sandbox_dir_close)

/* Makes ROOT (0700) if need be and ROOT/ID. Errors: -EINVAL (id), -EMFILE (there would be none to remove it with),
 * -EEXIST "container with given ID already exists". */
int sandbox_dir_make(const char *root, const char *id, struct sandbox_dir *ret, struct err *err);

/* Opens one that exists. Errors: -EINVAL (id), -ENOENT "container does not exist". */
int sandbox_dir_open(const char *root, const char *id, struct sandbox_dir *ret, struct err *err);

/* Removes ROOT/ID and all in it; no error if it is gone, or no longer the directory that was opened. */
int sandbox_dir_remove(const struct sandbox_dir *d, struct err *err);

/* ROOT/ID, malloc'd; NULL when out of memory. */
char *sandbox_dir_path(const struct sandbox_dir *d);

/* The last lines of its log (malloc'd, "" when there is none); and the same behind an error's message, with the log's
 * path. Never those of another sandbox that has the id meanwhile. */
char *sandbox_dir_log_tail(const struct sandbox_dir *d);
void sandbox_dir_add_log_tail(const struct sandbox_dir *d, struct err *err);

/* Binds api.sock (0600), listens, and starts the daemon with it. The daemon outlives this process; ret and the socket
 * ret_connection, connected to it, are the caller's. Errors name the daemon's program. */
int sandbox_start_daemon(struct sandbox_dir *d, const struct cli *cli, const char *bundle, struct proc *ret,
                         int *ret_connection, struct err *err);

/* Whether the snapshot in directory fd `dir` could run here, which only the daemon's program knows; the error is its.
 */
int sandbox_check_snapshot(const struct cli *cli, int dir, struct err *err);

/* Returns a connected socket. -ENOENT and -ECONNREFUSED mean that there is no daemon. */
int sandbox_connect(const struct sandbox_dir *d, struct err *err);

/* Waits until the process is gone; false when it is not after the timeout. `start` is its proc_start_time() and proves
 * that the pid is still its own. It may or may not be our child. */
bool sandbox_await_daemon(pid_t pid, uint64_t start, uint64_t timeout_usec);
