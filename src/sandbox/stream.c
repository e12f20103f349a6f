/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <linux/major.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "sandbox/call.h"
#include "sandbox/stream_impl.h"

Stasis__Agent__V1__ProcessId stream_process_id(const struct stream *s) {
    Stasis__Agent__V1__ProcessId id = STASIS__AGENT__V1__PROCESS_ID__INIT;
    id.container_id = (char *)(uintptr_t)s->spec.container_id;
    id.exec_id = (char *)(uintptr_t)s->spec.exec_id;
    return id;
}

static void close_fd(struct stream *s) {
    s->source = sd_event_source_disable_unref(s->source);
    s->kick = sd_event_source_disable_unref(s->kick);
    s->gather = sd_event_source_disable_unref(s->gather);
    s->limit = sd_event_source_disable_unref(s->limit);
    s->readers = fifo_watch_free(s->readers);
    s->fd = fd_close(s->fd);
}

void stream_finish(struct stream *s) {
    if (s->done)
        return;
    s->done = true;
    close_fd(s);
    if (s->reply)
        protobuf_c_message_free_unpacked(s->reply, NULL);
    s->reply = NULL;
    free(s->in);
    s->in = NULL;
    if (s->spec.done)
        s->spec.done(s->spec.userdata);
}

void stream_watch(struct stream *s, uint32_t events) {
    if (!s->source)
        return;
    (void)sd_event_source_set_io_events(s->source, events);
    /* That the other end is gone is reported unasked and without end; only a caller's fd is watched for it. */
    if (s->spec.kind != STDIO_FD && s->spec.kind != STDIO_CLIENT)
        (void)sd_event_source_set_enabled(s->source, events ? SD_EVENT_ON : SD_EVENT_OFF);
}

const char *stream_process_name(const struct stream *s) {
    return *s->spec.exec_id ? s->spec.exec_id : "init";
}

void stream_reader_gone(struct stream *s) {
    Stasis__Agent__V1__ProcessId id = stream_process_id(s);
    Stasis__Agent__V1__ReadRequest req = STASIS__AGENT__V1__READ_REQUEST__INIT;
    req.id = &id;
    req.stream = s->spec.which;
    struct err err = ERR_INIT;
    if (s->spec.agent && ttrpc_client_call(s->spec.agent, &stasis__agent__v1__agent__descriptor, "CloseOutput",
                                           &req.base, 10 * USEC_PER_SEC, call_ignore, NULL, NULL, &err) < 0)
        log_debug("%s", err.msg);
    stream_finish(s);
}

void stream_step(struct stream *s) {
    if (s->done || !s->started || s->detached)
        return;
    if (s->spec.which == STASIS__AGENT__V1__STREAM__STDIN)
        stream_step_input(s);
    else
        stream_step_output(s);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
    (void)fd;
    struct stream *s = userdata;
    uint32_t wanted = 0;
    (void)sd_event_source_get_io_events(source, &wanted);
    if (wanted == 0 && (revents & (EPOLLERR | EPOLLHUP))) {
        /* These are reported unasked. An output stream whose reader has gone ends now, not at the next output, so that
         * `… | head` ends a process that is silent as soon as a local process would learn of it: at its next write. */
        s->source = sd_event_source_disable_unref(s->source);
        if (s->spec.which != STASIS__AGENT__V1__STREAM__STDIN && s->spec.kind == STDIO_CLIENT && (revents & EPOLLERR)) {
            stream_detach(s);
        } else if (s->spec.which != STASIS__AGENT__V1__STREAM__STDIN && (revents & EPOLLERR)) {
            ttrpc_call_cancel(s->call);
            s->call = NULL;
            stream_reader_gone(s);
        }
        return 0;
    }
    stream_step(s);
    return 0;
}

static int on_kick(sd_event_source *source, void *userdata) {
    (void)source;
    stream_step(userdata);
    return 0;
}

/* Finds the way to use fd, replacing it by a description of our own where that can be had. */
static enum fd_kind prepare_fd(int *fd, enum stdio_kind kind, bool input) {
    struct stat st;
    if (kind == STDIO_FIFO)
        return FD_NONBLOCK; /* opened for us */
    if (fstat(*fd, &st) < 0 || S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))
        return FD_FILE;
    if (S_ISSOCK(st.st_mode))
        return FD_SOCKET;
    /* Opening a pty's master again would make another pty. */
    if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(TTYAUX_MAJOR, 2))
        return FD_SHARED;
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", *fd);
    int own = open(path, (input ? O_RDONLY : O_WRONLY) | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (own < 0)
        return FD_SHARED;
    fd_close(*fd);
    *fd = own;
    return FD_NONBLOCK;
}

/* Makes fd (taken) the host's end. */
static int connect_fd(struct stream *s, int fd_taken, struct err *err) {
    cleanup_fd int fd = fd_taken;
    bool input = s->spec.which == STASIS__AGENT__V1__STREAM__STDIN;
    s->kind = prepare_fd(&fd, s->spec.kind, input);
    int r = 0;
    if (s->kind != FD_FILE) {
        r = sd_event_add_io(s->spec.event, &s->source, fd, 0, on_io, s);
        if (r == -EPERM) { /* not pollable, so it never blocks: /dev/null and its like */
            s->kind = FD_FILE;
            r = 0;
        }
    }
    if (r >= 0)
        r = sd_event_add_defer(s->spec.event, &s->kick, on_kick, s);
    if (r >= 0)
        r = sd_event_source_set_enabled(s->kick, SD_EVENT_OFF);
    if (r < 0)
        return err_errno(err, -r, "cannot watch a stream");
    s->fd = TAKE_FD(fd);
    stream_watch(s, 0);
    return 0;
}

int stream_new(const struct stream_spec *spec, int fd, struct stream **ret, struct err *err) {
    struct stream *s = calloc(1, sizeof(*s));
    if (!s) {
        fd_close(fd);
        return err_set(err, ENOMEM, "out of memory");
    }
    s->spec = *spec;
    s->fd = -1;
    int r = connect_fd(s, fd, err);
    if (r < 0) {
        stream_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

void stream_detach(struct stream *s) {
    if (!s || s->done || s->detached)
        return;
    s->detached = true;
    close_fd(s);
    s->held = HELD_NOT;
    if (s->spec.detached)
        s->spec.detached(s->spec.userdata);
}

int stream_attach(struct stream *s, int fd, enum stdio_kind kind, struct err *err) {
    s->spec.kind = kind;
    s->spec.reopen = s->discard = s->warned = false;
    int r = connect_fd(s, fd, err);
    if (r < 0) {
        close_fd(s);
        return r;
    }
    s->detached = false;
    (void)sd_event_source_set_enabled(s->kick, SD_EVENT_ONESHOT);
    return 0;
}

bool stream_is_detached(const struct stream *s) {
    return s && s->detached && !s->done;
}

void stream_start(struct stream *s) {
    if (!s || s->started)
        return;
    s->started = true;
    if (!s->done)
        (void)sd_event_source_set_enabled(s->kick, SD_EVENT_ONESHOT);
}

/* What is still read after CloseIO: a writer that never stops does not keep the input open. */
static size_t input_left(const struct stream *s) {
    struct stat st;
    int n = 0;
    if (fstat(s->fd, &st) == 0 && S_ISREG(st.st_mode))
        return SIZE_MAX;
    if (ioctl(s->fd, FIONREAD, &n) < 0)
        return STREAM_INPUT_CHUNK; /* a device that does not tell */
    return n < 0 ? 0 : MIN((size_t)n, STREAM_CLOSE_MAX);
}

void stream_close_input(struct stream *s) {
    if (!s || s->done || s->closing)
        return;
    s->closing = true;
    s->close_left = input_left(s);
    stream_step(s);
}

void stream_process_exited(struct stream *s) {
    if (!s || s->done || s->exited)
        return;
    s->exited = true;
    s->held_since_usec = now_usec();
    stream_set_limit(s);
}

void stream_lost(struct stream *s) {
    if (!s || s->done || !s->spec.agent) /* lost already */
        return;
    ttrpc_call_cancel(s->call);
    s->call = NULL;
    s->spec.agent = NULL;
    s->eof = true;
    if (!s->out_len || s->detached || !s->started) {
        stream_finish(s);
        return;
    }
    s->exited = false; /* if it had: a caller's fd, which was waited for, has a bound now too */
    stream_process_exited(s);
    stream_step(s);
}

bool stream_is_done(const struct stream *s) {
    return !s || s->done;
}

struct stream *stream_free(struct stream *s) {
    if (!s)
        return NULL;
    ttrpc_call_cancel(s->call);
    close_fd(s);
    if (s->reply)
        protobuf_c_message_free_unpacked(s->reply, NULL);
    free(s->in);
    free(s);
    return NULL;
}
