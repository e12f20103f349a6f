/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/pump.h"

#include <limits.h>
#include <string.h>
#include <sys/epoll.h>
#include <termios.h>
#include <unistd.h>

#include "base/log.h"

/* One side. A regular file is always ready and epoll refuses it: a deferred source stands in. */
struct side {
    int fd;
    sd_event_source *source;
};

struct pump {
    struct side from, to;
    const struct pump_ops *ops;
    void *userdata;
    size_t at, len; /* unwritten: buf[at] … buf[len - 1] */
    bool done;
    char buf[PUMP_BUFFER + PUMP_ROOM];
};

static void enable(struct side *s, bool on) {
    (void)sd_event_source_set_enabled(s->source, on ? SD_EVENT_ON : SD_EVENT_OFF);
}

static void finish(struct pump *p) {
    if (p->done)
        return;
    p->done = true;
    enable(&p->from, false);
    enable(&p->to, false);
    if (p->ops->done)
        p->ops->done(p, p->userdata);
}

/* Either the buffer is being filled, or it is being emptied. */
static void turn(struct pump *p) {
    bool full = p->at < p->len;
    enable(&p->from, !full);
    enable(&p->to, full);
}

/* True if fd is our session's terminal and another process group has it: reading is then refused, for a while. */
static bool in_background(int fd) {
    pid_t session = tcgetsid(fd), group = tcgetpgrp(fd);
    return session == getsid(0) && group >= 0 && group != getpgrp();
}

static void fill(struct pump *p) {
    ssize_t n = read(p->from.fd, p->buf, PUMP_BUFFER);
    int error = n < 0 ? errno : 0;
    if (error == EAGAIN || error == EINTR)
        return;
    if (error == EIO && in_background(p->from.fd)) {
        enable(&p->from, false); /* until pump_retry() */
        return;
    }
    /* EIO of a pty: its other side was closed, the usual end. */
    if (error && error != EIO && error != ECONNRESET)
        log_warn("cannot read from fd %d: %s", p->from.fd, strerror(error));
    size_t len = n > 0 ? (size_t)n : 0;
    if (n <= 0 || (p->ops->filter && p->ops->filter(p->buf, &len, p->userdata))) {
        finish(p);
        return;
    }
    p->at = 0;
    p->len = len;
    turn(p);
}

static void empty(struct pump *p) {
    ssize_t n = write(p->to.fd, p->buf + p->at, MIN(p->len - p->at, (size_t)PIPE_BUF));
    if (n < 0) {
        if (errno == EAGAIN || errno == EINTR)
            return;
        if (errno != EPIPE && errno != ECONNRESET)
            log_warn("cannot write to fd %d: %m", p->to.fd);
        finish(p);
        return;
    }
    p->at += (size_t)n;
    if (p->at == p->len)
        turn(p);
}

static int on_from(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
    (void)s;
    (void)fd;
    (void)revents;
    fill(userdata);
    return 0;
}

static int on_to(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
    (void)s;
    (void)fd;
    (void)revents;
    empty(userdata);
    return 0;
}

static int on_from_file(sd_event_source *s, void *userdata) {
    (void)s;
    fill(userdata);
    return 0;
}

static int on_to_file(sd_event_source *s, void *userdata) {
    (void)s;
    empty(userdata);
    return 0;
}

static int add_side(sd_event *event, struct side *s, int fd, uint32_t events, sd_event_io_handler_t io,
                    sd_event_handler_t file, struct pump *p) {
    s->fd = fd;
    int r = sd_event_add_io(event, &s->source, fd, events, io, p);
    if (r == -EPERM)
        r = sd_event_add_defer(event, &s->source, file, p);
    return r;
}

int pump_new(sd_event *event, int from, int to, const struct pump_ops *ops, void *userdata, struct pump **ret,
             struct err *err) {
    struct pump *p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(err, ENOMEM, "out of memory");
    p->ops = ops;
    p->userdata = userdata;
    int r = add_side(event, &p->from, from, EPOLLIN, on_from, on_from_file, p);
    if (r >= 0)
        r = add_side(event, &p->to, to, EPOLLOUT, on_to, on_to_file, p);
    if (r < 0) {
        pump_free(p);
        return err_errno(err, -r, "cannot relay from fd %d to fd %d", from, to);
    }
    turn(p);
    *ret = p;
    return 0;
}

struct pump *pump_free(struct pump *p) {
    if (!p)
        return NULL;
    sd_event_source_disable_unref(p->from.source);
    sd_event_source_disable_unref(p->to.source);
    free(p);
    return NULL;
}

const bool *pump_done(const struct pump *p) {
    return &p->done;
}

void pump_retry(struct pump *p) {
    if (p && !p->done && p->at >= p->len)
        enable(&p->from, true);
}
