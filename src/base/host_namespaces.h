/* SPDX-License-Identifier: Apache-2.0 */
/* The namespaces of the host, kept by a daemon that has left them, for the programs that it runs on the host's behalf:
 * hooks and loggers. */
#pragma once

#include "base/err.h"

struct host_namespaces {
    int mnt, net; /* fds; -1: this process's own is the host's */
};
#define HOST_NAMESPACES_NONE                                                                                           \
    (struct host_namespaces) {                                                                                         \
        .mnt = -1, .net = -1                                                                                           \
    }

/* Opens those of this process. To be closed with host_namespaces_close(). */
int host_namespaces_open(struct host_namespaces *ret, struct err *err);
void host_namespaces_close(struct host_namespaces *h);

/* Copies both, with numbers from first_fd on. Nothing is left open on failure. */
int host_namespaces_dup(const struct host_namespaces *h, int first_fd, struct host_namespaces *ret, struct err *err);

/* Enters them: for a child process, which must be alone in its file system context (a fork is). */
int host_namespaces_enter(const struct host_namespaces *h, struct err *err);
