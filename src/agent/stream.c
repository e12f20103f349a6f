/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/stream.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"

#define TTY_CHUNK 4096 /* a terminal hands out at most its line buffer */

int stream_pipe(int fds[2], struct err *err) {
    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_errno(err, errno, "cannot make a pipe");
    /* Fewer round trips for bulk output; the default size works as well. */
    (void)fcntl(fds[0], F_SETPIPE_SZ, STREAM_PIPE_SIZE);
    return 0;
}

/* A source that is off until something is awaited. */
static int watch(sd_event *event, sd_event_source **ret, int fd, uint32_t events, sd_event_io_handler_t handler,
                 void *userdata, struct err *err) {
    int r = fd_set_nonblock(fd, true);
    if (r >= 0)
        r = sd_event_add_io(event, ret, fd, events, handler, userdata);
    if (r >= 0)
        r = sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
    return r < 0 ? err_errno(err, -r, "cannot watch a stream") : 0;
}

static int abandoned(struct err *err) {
    return err_set(err, ECANCELED, "the call was abandoned");
}

/* Reading. */

static void reader_answer(struct reader *r, const uint8_t *data, size_t len, const struct err *err) {
    reader_fn fn = r->fn;
    void *userdata = r->userdata;
    r->fn = NULL;
    if (r->source)
        (void)sd_event_source_set_enabled(r->source, SD_EVENT_OFF);
    if (fn)
        fn(userdata, data, len, err);
}

static void reader_shut(struct reader *r) {
    r->source = sd_event_source_disable_unref(r->source);
    r->fd = fd_close(r->fd);
}

/* Reads what is there and answers; if nothing is, waits for more. */
static void reader_try(struct reader *r) {
    if (r->held)
        return;
    int there = 0;
    if (ioctl(r->fd, FIONREAD, &there) < 0 || there <= 0)
        there = TTY_CHUNK;
    size_t size = MIN(r->max, (size_t)there);
    cleanup_free uint8_t *buf = malloc(size);
    struct err err = ERR_INIT;
    if (!buf) {
        err_set(&err, ENOMEM, "out of memory");
        reader_answer(r, NULL, 0, &err);
        return;
    }
    ssize_t n;
    do
        n = read(r->fd, buf, size);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN && !r->ended) {
        (void)sd_event_source_set_enabled(r->source, SD_EVENT_ON);
        return;
    }
    if (n < 0 && errno != EIO && errno != EAGAIN) {
        err_errno(&err, errno, "cannot read");
        reader_answer(r, NULL, 0, &err);
        return;
    }
    /* EIO: the last process that had the terminal is gone, which is a terminal's end of file. */
    if (n <= 0)
        reader_shut(r);
    reader_answer(r, buf, (size_t)MAX(n, 0), NULL);
}

static int on_readable(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
    (void)fd;
    (void)revents;
    struct reader *r = userdata;
    if (r->fn)
        reader_try(r);
    else
        (void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
    return 0;
}

int reader_open(struct reader *r, sd_event *event, int fd, struct err *err) {
    *r = (struct reader){.fd = fd, .open = true};
    int ret = watch(event, &r->source, fd, EPOLLIN, on_readable, r, err);
    if (ret < 0)
        reader_shut(r);
    return ret;
}

int reader_read(struct reader *r, size_t max, reader_fn fn, void *userdata, struct err *err) {
    if (!r->open)
        return err_set(err, EINVAL, "the process has no such stream");
    if (max == 0 || max > STREAM_CHUNK_MAX)
        return err_set(err, EINVAL, "cannot read %zu bytes at once, only 1 to %zu", max, STREAM_CHUNK_MAX);
    if (r->fn)
        return err_set(err, EBUSY, "a read of this stream is under way");
    r->max = max;
    r->fn = fn;
    r->userdata = userdata;
    if (r->fd < 0)
        reader_answer(r, NULL, 0, NULL);
    else
        reader_try(r);
    return 0;
}

void reader_end(struct reader *r) {
    r->ended = true;
    if (r->fn && r->fd >= 0)
        reader_try(r);
}

void reader_hold(struct reader *r, bool on) {
    r->held = on;
    if (on && r->source)
        (void)sd_event_source_set_enabled(r->source, SD_EVENT_OFF);
    if (!on && r->fn && r->fd >= 0)
        reader_try(r);
}

void reader_void(struct reader *r) {
    struct err err = ERR_INIT;
    if (!r->fn)
        return;
    abandoned(&err);
    reader_answer(r, NULL, 0, &err);
}

void reader_close(struct reader *r) {
    reader_shut(r);
    reader_answer(r, NULL, 0, NULL);
}

/* Writing. */

static void writer_shut(struct writer *w) {
    w->source = sd_event_source_disable_unref(w->source);
    w->fd = fd_close(w->fd);
}

static void writer_answer(struct writer *w, const struct err *err) {
    writer_fn fn = w->fn;
    void *userdata = w->userdata;
    w->fn = NULL;
    w->data = NULL;
    if (w->closing)
        writer_shut(w);
    if (w->source)
        (void)sd_event_source_set_enabled(w->source, SD_EVENT_OFF);
    if (fn)
        fn(userdata, w->done, err);
}

static void writer_try(struct writer *w) {
    if (w->held)
        return;
    while (w->done < w->len) {
        ssize_t n = write(w->fd, w->data + w->done, w->len - w->done);
        if (n >= 0) {
            w->done += (size_t)n;
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN) {
            (void)sd_event_source_set_enabled(w->source, SD_EVENT_ON);
            return;
        }
        /* EPIPE, or a terminal's EIO: nobody will read it. What was written is the whole answer. */
        writer_shut(w);
        break;
    }
    writer_answer(w, NULL);
}

static int on_writable(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
    (void)fd;
    (void)revents;
    struct writer *w = userdata;
    if (w->fn)
        writer_try(w);
    else
        (void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
    return 0;
}

int writer_open(struct writer *w, sd_event *event, int fd, struct err *err) {
    *w = (struct writer){.fd = fd, .open = true};
    int ret = watch(event, &w->source, fd, EPOLLOUT, on_writable, w, err);
    if (ret < 0)
        writer_shut(w);
    return ret;
}

int writer_write(struct writer *w, const void *data, size_t len, writer_fn fn, void *userdata, struct err *err) {
    if (!w->open)
        return err_set(err, EINVAL, "the process has no stdin");
    if (len > STREAM_CHUNK_MAX)
        return err_set(err, EINVAL, "cannot write %zu bytes at once, only %zu", len, STREAM_CHUNK_MAX);
    if (w->fn)
        return err_set(err, EBUSY, "a write to this process is under way");
    if (w->closing)
        return err_set(err, EPIPE, "the process's stdin was closed");
    w->data = data;
    w->len = len;
    w->done = 0;
    w->fn = fn;
    w->userdata = userdata;
    if (w->fd < 0)
        writer_answer(w, NULL);
    else
        writer_try(w);
    return 0;
}

void writer_end(struct writer *w) {
    w->closing = true;
    if (!w->fn)
        writer_shut(w);
}

void writer_hold(struct writer *w, bool on) {
    w->held = on;
    if (on && w->source)
        (void)sd_event_source_set_enabled(w->source, SD_EVENT_OFF);
    if (!on && w->fn && w->fd >= 0)
        writer_try(w);
}

void writer_void(struct writer *w) {
    struct err err = ERR_INIT;
    if (!w->fn)
        return;
    abandoned(&err);
    writer_answer(w, &err);
}

void writer_close(struct writer *w) {
    w->closing = true;
    writer_shut(w);
    writer_answer(w, NULL);
}
