/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors: ownership, whole reads and writes, passing over sockets. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/err.h"
#include "base/util.h"

/* Closes fd if it is one and returns -1: `fd = fd_close(fd)`. */
int fd_close(int fd);
static inline void fd_closep(int *fd) {
    *fd = fd_close(*fd);
}
#define cleanup_fd CLEANUP(fd_closep)

int fd_set_nonblock(int fd, bool on);
int fd_set_cloexec(int fd, bool on);

/* Writes all of it, also to a non-blocking fd (waits for room). Returns 0 or -errno. */
int fd_write_all(int fd, const void *buf, size_t len);

/* Reads a whole file of at most max bytes into a malloc'd, NUL-terminated buffer. ret_len may be NULL.
 * Errors: -EFBIG when it is longer, else read's. */
int fd_read_all(int fd, size_t max, char **ret, size_t *ret_len, struct err *err);

/* The same by path, or relative to dirfd (AT_FDCWD). */
int file_read_at(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len, struct err *err);

/* Writes to PATH.tmp.<pid>, syncs if durable, renames into place. Nothing is left behind on failure. */
int file_write_atomic(const char *path, const void *buf, size_t len, mode_t mode, bool durable, struct err *err);

/* Writes to an existing kernel file (sysfs, cgroup, proc). */
int file_write_at(int dirfd, const char *path, const char *value, struct err *err);

/* Sends len bytes (at least one) and n fds (at most FD_PASS_MAX) over a unix socket. */
#define FD_PASS_MAX 8
ssize_t fd_send(int sock, const void *buf, size_t len, const int *fds, size_t n);

/* Receives up to len bytes and up to FD_PASS_MAX fds, close-on-exec, owned by the caller. Returns bytes (0: EOF) or
 * -errno; -EMSGSIZE when more fds came than fit (all are closed). *ret_n is FD_PASS_LOST when this process has no
 * descriptors left for what came (all are closed); the bytes are there. */
#define FD_PASS_LOST (FD_PASS_MAX + 1)
ssize_t fd_receive(int sock, void *buf, size_t len, int fds[FD_PASS_MAX], size_t *ret_n);

/* Waits for events (POLLIN, …) until timeout_usec has passed (UINT64_MAX: for ever). Returns revents, 0 on timeout. */
int fd_wait(int fd, short events, uint64_t timeout_usec);
