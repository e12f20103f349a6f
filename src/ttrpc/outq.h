/* SPDX-License-Identifier: Apache-2.0 */
/* Internal: bytes (and fds beside them) that a transport has accepted and not yet written. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OUTQ_FDS_MAX 64 /* fds waiting in one queue */

struct outq_fds;

struct outq {
    uint8_t *buf;
    size_t head, len, cap; /* the bytes are buf[head .. head + len) */
    uint64_t pos;          /* position of buf[head] in the stream */
    struct outq_fds *fds;  /* in the order of the stream */
    size_t n_fds;
};

/* Room for n more bytes at the end; the caller fills it and calls outq_commit. NULL: out of memory. */
uint8_t *outq_reserve(struct outq *q, size_t n);
void outq_commit(struct outq *q, size_t n);

/* Lets duplicates of the fds travel beside the byte that is added next (at most FD_PASS_MAX). Returns 0, -ENOBUFS,
 * -ENOMEM or dup's error. */
int outq_add_fds(struct outq *q, const int *fds, size_t n);

/* Writes until all is written or the fd takes no more. `sock` tells whether fd is a socket (no SIGPIPE then). Returns 0
 * or -errno; never -EAGAIN. */
int outq_write(struct outq *q, int fd, bool sock);

void outq_clear(struct outq *q); /* drops everything and frees the memory */
