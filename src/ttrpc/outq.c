/* SPDX-License-Identifier: Apache-2.0 */
#include "ttrpc/outq.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"

#define OUTQ_CAP_MIN ((size_t)4096)
#define OUTQ_CAP_KEEP ((size_t)128 << 10) /* a larger buffer is given back when it runs empty */

struct outq_fds {
    struct outq_fds *next;
    uint64_t pos; /* they go beside the byte at this position */
    size_t n;
    int fds[FD_PASS_MAX];
};

static void free_fds(struct outq *q) {
    struct outq_fds *f = q->fds;
    q->fds = f->next;
    q->n_fds -= f->n;
    for (size_t i = 0; i < f->n; i++)
        fd_close(f->fds[i]);
    free(f);
}

uint8_t *outq_reserve(struct outq *q, size_t n) {
    /* Moving the bytes to the front is worth it when at least as many have left as are to be moved: each byte then
     * costs at most one move. */
    if (q->head + q->len + n > q->cap && q->head >= q->len) {
        if (q->len > 0)
            memmove(q->buf, q->buf + q->head, q->len);
        q->head = 0;
    }
    if (q->head + q->len + n > q->cap) {
        size_t cap = MAX(q->cap, OUTQ_CAP_MIN);
        while (cap < q->head + q->len + n)
            cap *= 2;
        uint8_t *p = realloc(q->buf, cap);
        if (!p)
            return NULL;
        q->buf = p;
        q->cap = cap;
    }
    return q->buf + q->head + q->len;
}

void outq_commit(struct outq *q, size_t n) {
    q->len += n;
}

int outq_add_fds(struct outq *q, const int *fds, size_t n) {
    if (n > FD_PASS_MAX || q->n_fds + n > OUTQ_FDS_MAX)
        return -ENOBUFS;
    struct outq_fds *f = calloc(1, sizeof(*f));
    if (!f)
        return -ENOMEM;
    f->pos = q->pos + q->len;
    for (; f->n < n; f->n++) {
        f->fds[f->n] = fcntl(fds[f->n], F_DUPFD_CLOEXEC, 3);
        if (f->fds[f->n] < 0) {
            int code = errno;
            while (f->n > 0)
                fd_close(f->fds[--f->n]);
            free(f);
            return -code;
        }
    }
    struct outq_fds **end = &q->fds;
    while (*end)
        end = &(*end)->next;
    *end = f;
    q->n_fds += n;
    return 0;
}

static ssize_t write_once(struct outq *q, int fd, bool sock) {
    const uint8_t *p = q->buf + q->head;
    if (!sock) {
        ssize_t n = write(fd, p, q->len);
        return n < 0 ? -errno : n;
    }
    struct outq_fds *f = q->fds;
    if (f && f->pos == q->pos) {
        /* Not beyond the next lot of fds: they belong to a byte of their own. */
        size_t len = f->next ? MIN(q->len, (size_t)(f->next->pos - q->pos)) : q->len;
        ssize_t n = fd_send(fd, p, len, f->fds, f->n);
        if (n > 0)
            free_fds(q);
        return n;
    }
    size_t len = f ? MIN(q->len, (size_t)(f->pos - q->pos)) : q->len;
    ssize_t n = send(fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    return n < 0 ? -errno : n;
}

int outq_write(struct outq *q, int fd, bool sock) {
    while (q->len > 0) {
        ssize_t n = write_once(q, fd, sock);
        if (n == -EINTR)
            continue;
        if (n == -EAGAIN || n == 0)
            break;
        if (n < 0)
            return (int)n;
        q->head += (size_t)n;
        q->len -= (size_t)n;
        q->pos += (uint64_t)n;
    }
    if (q->len == 0) {
        q->head = 0;
        if (q->cap > OUTQ_CAP_KEEP) {
            free(TAKE_PTR(q->buf));
            q->cap = 0;
        }
    }
    return 0;
}

void outq_clear(struct outq *q) {
    while (q->fds)
        free_fds(q);
    free(q->buf);
    *q = (struct outq){.pos = q->pos + q->len};
}
