/* SPDX-License-Identifier: Apache-2.0 */
#include "ttrpc/transport.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "ttrpc/transport_impl.h"

/* ---- common part ---- */

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata);
static int on_defer(sd_event_source *source, void *userdata);

int transport_init(struct transport *t, const struct transport_kind *kind, sd_event *event, int fd,
                   const struct transport_ops *ops, void *userdata, struct err *err) {
    t->kind = kind;
    t->ops = ops;
    t->userdata = userdata;
    t->refs = 1;
    t->fd = fd;
    t->event = sd_event_ref(event);
    t->events = t->events_set = EPOLLIN;

    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(err, errno, "transport on fd %d", fd);
    t->is_socket = S_ISSOCK(st.st_mode);
    int r = fd_set_nonblock(fd, true);
    if (r >= 0)
        r = fd_set_cloexec(fd, true);
    if (r >= 0)
        r = sd_event_add_io(event, &t->io, fd, EPOLLIN, on_io, t);
    if (r >= 0)
        r = sd_event_add_defer(event, &t->defer, on_defer, t);
    if (r >= 0)
        r = sd_event_source_set_enabled(t->defer, SD_EVENT_OFF);
    if (r < 0)
        return err_errno(err, -r, "transport on fd %d: watching it", fd);
    return 0;
}

void transport_ref(struct transport *t) {
    t->refs++;
}

/* What the object holds outside its own memory. */
static void release(struct transport *t) {
    t->io = sd_event_source_disable_unref(t->io);
    t->defer = sd_event_source_disable_unref(t->defer);
    t->fd = fd_close(t->fd);
    t->ready = false;
    outq_clear(&t->queue);
}

void transport_unref(struct transport *t) {
    if (--t->refs > 0)
        return;
    release(t);
    if (t->kind->destroy)
        t->kind->destroy(t);
    for (size_t i = 0; i < t->n_fds; i++)
        fd_close(t->fds[i]);
    sd_event_unref(t->event);
    free(t);
}

struct transport *transport_free(struct transport *t) {
    if (!t)
        return NULL;
    t->dead = true;
    release(t);
    transport_unref(t);
    return NULL;
}

void transport_close(struct transport *t, const struct err *err) {
    if (!transport_alive(t))
        return;
    t->closed = true;
    release(t);
    t->ops->closed(t, err, t->userdata);
}

static void defer(struct transport *t) {
    /* Can only fail for a source that is gone, that is after the end; then there is nothing left to do. */
    if (t->defer)
        (void)sd_event_source_set_enabled(t->defer, SD_EVENT_ONESHOT);
}

void transport_abort(struct transport *t, const struct err *err) {
    if (!transport_alive(t) || t->failure_kind != FAILURE_NONE)
        return;
    t->failure_kind = FAILURE_REJECTED;
    err_copy(&t->failure, err);
    defer(t);
}

void transport_update_events(struct transport *t) {
    uint32_t events = t->events;
    if (t->queue.len > 0 && t->failure_kind != FAILURE_WRITE)
        events |= EPOLLOUT;
    if (!t->io || events == t->events_set)
        return;
    int r = sd_event_source_set_io_events(t->io, events);
    if (r >= 0) {
        t->events_set = events;
    } else if (t->failure_kind == FAILURE_NONE) {
        t->failure_kind = FAILURE_WRITE;
        err_errno(&t->failure, -r, "transport: watching the fd");
        defer(t);
    }
}

void transport_write(struct transport *t) {
    if (!transport_alive(t) || t->failure_kind == FAILURE_WRITE)
        return;
    int r = outq_write(&t->queue, t->fd, t->is_socket);
    if (r < 0 && t->failure_kind == FAILURE_NONE) {
        t->failure_kind = FAILURE_WRITE;
        err_errno(&t->failure, -r, "writing to the peer");
        defer(t);
    }
    if (t->queue.len >= TRANSPORT_SEND_MAX / 2)
        t->full = true;
    transport_update_events(t);
}

static void check_drained(struct transport *t) {
    if (!transport_alive(t) || !t->full || t->queue.len >= TRANSPORT_SEND_MAX / 2)
        return;
    t->full = false;
    if (t->ready && t->ops->drained)
        t->ops->drained(t, t->userdata);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
    struct transport *t = userdata;
    (void)source, (void)fd;
    transport_ref(t);
    if (revents & EPOLLOUT) {
        transport_write(t);
        check_drained(t);
    }
    /* A kind that asks for EPOLLOUT itself hears of it too. */
    if (transport_alive(t) && ((revents & ~(uint32_t)EPOLLOUT) || (t->events & EPOLLOUT)))
        t->kind->input(t, revents);
    transport_unref(t);
    return 0;
}

static int on_defer(sd_event_source *source, void *userdata) {
    struct transport *t = userdata;
    (void)source;
    transport_ref(t);
    if (t->announce) {
        t->announce = false;
        if (t->ops->ready)
            t->ops->ready(t, t->userdata);
    }
    if (transport_alive(t) && t->failure_kind != FAILURE_NONE) {
        bool rejected = t->failure_kind == FAILURE_REJECTED;
        struct err failure = t->failure;
        t->failure_kind = FAILURE_NONE;
        if (rejected)
            t->kind->rejected(t, &failure);
        else
            t->kind->write_failed(t, &failure);
    }
    check_drained(t);
    transport_unref(t);
    return 0;
}

int transport_check_room(struct transport *t, size_t len, struct err *err) {
    if (len <= TRANSPORT_SEND_MAX && t->queue.len <= TRANSPORT_SEND_MAX - len)
        return 0;
    t->full = true;
    return err_set(err, ENOBUFS, "the peer takes nothing: %zu bytes are queued, %zu more would exceed %zu",
                   t->queue.len, len, TRANSPORT_SEND_MAX);
}

int transport_send(struct transport *t, const void *buf, size_t len, struct err *err) {
    return transport_send_fds(t, buf, len, NULL, 0, err);
}

int transport_send_fds(struct transport *t, const void *buf, size_t len, const int *fds, size_t n, struct err *err) {
    if (!transport_alive(t) || !t->ready || t->failure_kind != FAILURE_NONE)
        return err_set(err, ENOTCONN, "not connected to the peer");
    if (len == 0)
        return n == 0 ? 0 : err_set(err, EINVAL, "fds need at least one byte beside them");
    if (n > FD_PASS_MAX)
        return err_set(err, EINVAL, "%zu fds at once, more than %d", n, FD_PASS_MAX);
    int r = t->kind->send(t, buf, len, fds, n, err);
    if (r >= 0)
        transport_write(t);
    return r;
}

int transport_take_fd(struct transport *t) {
    if (t->fds_lost) /* which of those that are there is whose is not known any more */
        return -EMFILE;
    if (t->n_fds == 0)
        return -ENOENT;
    int fd = t->fds[0];
    memmove(t->fds, t->fds + 1, --t->n_fds * sizeof(t->fds[0]));
    return fd;
}

int transport_flush(struct transport *t, uint64_t timeout_usec) {
    uint64_t start = now_usec();
    while (transport_alive(t) && t->queue.len > 0) {
        transport_write(t);
        if (t->failure_kind == FAILURE_WRITE)
            return -t->failure.code;
        if (t->queue.len == 0)
            break;
        uint64_t passed = now_usec() - start;
        if (passed >= timeout_usec)
            return -ETIMEDOUT;
        int r = fd_wait(t->fd, POLLOUT, timeout_usec - passed);
        if (r < 0 && r != -EINTR)
            return r;
        if (r > 0 && !(r & POLLOUT))
            return -EPIPE; /* hung up or broken: it will take nothing more */
    }
    if (t->full)
        defer(t);
    return transport_alive(t) ? 0 : -ENOTCONN;
}

bool transport_is_ready(const struct transport *t) {
    return transport_alive(t) && t->ready;
}

size_t transport_queued(const struct transport *t) {
    return t->queue.len;
}

int transport_peer_uid(const struct transport *t, uid_t *ret) {
    struct ucred cred;
    socklen_t len = sizeof(cred);
    if (getsockopt(t->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
        return -errno;
    *ret = cred.uid;
    return 0;
}

/* ---- plain kind ---- */

static int keep_fds(struct transport *t, const int *fds, size_t n, struct err *err) {
    if (n > TRANSPORT_FDS_MAX - t->n_fds) {
        for (size_t i = 0; i < n; i++)
            fd_close(fds[i]);
        return err_set(err, EMSGSIZE, "peer passes more than %d fds that nothing asked for", TRANSPORT_FDS_MAX);
    }
    memcpy(t->fds + t->n_fds, fds, n * sizeof(*fds));
    t->n_fds += n;
    return 0;
}

/* Reads once and delivers. Returns more than 0 if there may be more, 0 if not (or t is closed or dead). */
static int plain_read(struct transport *t) {
    uint8_t buf[TRANSPORT_READ_SIZE];
    struct err err = ERR_INIT;
    int fds[FD_PASS_MAX];
    size_t n_fds = 0;
    ssize_t n = fd_receive(t->fd, buf, sizeof(buf), fds, &n_fds);
    if (n == -EAGAIN)
        return 0;
    if (n == -ECONNRESET) /* the peer closed before it had read everything: its right */
        n = 0;
    if (n >= 0 && n_fds == FD_PASS_LOST) {
        t->fds_lost = true;
        n_fds = 0;
    }
    if (n < 0)
        err_errno(&err, (int)-n, "reading from the peer");
    else if (keep_fds(t, fds, n_fds, &err) < 0)
        n = -1;
    if (n <= 0) {
        if (n == 0)
            snprintf(err.msg, sizeof(err.msg), "the peer closed the connection");
        transport_close(t, &err);
        return 0;
    }
    int r = t->ops->data(t, buf, (size_t)n, t->userdata, &err);
    if (!transport_alive(t))
        return 0;
    if (r < 0) {
        transport_close(t, &err);
        return 0;
    }
    return 1;
}

static void plain_input(struct transport *t, uint32_t revents) {
    (void)revents;
    for (int i = 0; i < TRANSPORT_READS_MAX; i++)
        if (plain_read(t) == 0)
            return;
}

static int plain_send(struct transport *t, const void *buf, size_t len, const int *fds, size_t n, struct err *err) {
    int r = transport_check_room(t, len, err);
    if (r < 0)
        return r;
    size_t sent = 0;
    if (t->queue.len == 0) {
        /* Straight from the caller's buffer. A failure shows again, and is kept, when the queue is written. */
        ssize_t w = n > 0 ? fd_send(t->fd, buf, len, fds, n) : send(t->fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (w > 0)
            sent = (size_t)w;
    }
    if (sent == len)
        return 0;
    if (n > 0 && sent == 0) {
        r = outq_add_fds(&t->queue, fds, n);
        if (r < 0)
            return err_errno(err, -r, "passing %zu fds", n);
    }
    uint8_t *p = outq_reserve(&t->queue, len - sent);
    if (!p) {
        /* A part is out: the stream cannot go on without the rest. */
        r = err_errno(err, ENOMEM, "queueing %zu bytes", len - sent);
        struct err failure = ERR_INIT;
        err_errno(&failure, ENOMEM, "queueing %zu bytes", len - sent);
        transport_abort(t, &failure);
        return r;
    }
    memcpy(p, (const uint8_t *)buf + sent, len - sent);
    outq_commit(&t->queue, len - sent);
    return 0;
}

/* The peer takes nothing any more, but what it said before is still to be heard (an answer, then the end). */
static void plain_write_failed(struct transport *t, const struct err *err) {
    for (int i = 0; i < TRANSPORT_READS_MAX; i++)
        if (plain_read(t) == 0)
            break;
    transport_close(t, err);
}

static void plain_rejected(struct transport *t, const struct err *err) {
    transport_close(t, err);
}

static const struct transport_kind plain_kind = {
    .input = plain_input,
    .send = plain_send,
    .write_failed = plain_write_failed,
    .rejected = plain_rejected,
};

int transport_new_plain(sd_event *event, int fd, const struct transport_ops *ops, void *userdata,
                        struct transport **ret, struct err *err) {
    struct transport *t = calloc(1, sizeof(*t));
    if (!t) {
        fd_close(fd);
        return err_errno(err, ENOMEM, "transport");
    }
    int r = transport_init(t, &plain_kind, event, fd, ops, userdata, err);
    if (r < 0) {
        transport_unref(t);
        return r;
    }
    t->ready = true;
    t->announce = true;
    defer(t);
    *ret = t;
    return 0;
}
