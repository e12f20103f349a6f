/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/stream.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/major.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "proto/agent.pb-c.h"
#include "sandbox/call.h"
#include "sandbox/fifo.h"

#define BULK_GAP_USEC 5000            /* answers closer than this are a stream */
#define BULK_SMALL ((size_t)64 << 10) /* bytes; larger answers need no pause */
#define BULK_PAUSE_USEC 2000

/* How an fd that is shared with strangers is used without blocking and without changing it for them. */
enum fd_kind {
    FD_FILE,     /* regular file, or a device that never blocks: always ready */
    FD_NONBLOCK, /* our own open file description, O_NONBLOCK */
    FD_SOCKET,   /* MSG_DONTWAIT */
    FD_SHARED,   /* polled, then at most PIPE_BUF bytes, which do not block */
};

/* Why output that was read is not written. */
enum held {
    HELD_NOT,
    HELD_FULL,   /* the reader takes nothing */
    HELD_ABSENT, /* the FIFO has no reader */
};

struct stream {
    struct stream_spec spec;
    int fd;
    enum fd_kind kind;
    sd_event_source *source; /* of fd; NULL for FD_FILE */
    sd_event_source *kick;   /* deferred first step and steps of FD_FILE input */
    sd_event_source *gather; /* output: the pause in which the process writes more (BULK_*) */
    uint64_t last_read_usec; /* output: when the last answer came */
    bool bulk;               /* output: it came soon after the one before, and was small */
    struct ttrpc_call *call; /* Read or Write under way */
    ProtobufCMessage *reply; /* output: the last ReadResponse, whose data is being written */
    const uint8_t *out;      /* output: what is left of it */
    size_t out_len;
    enum held held;
    struct fifo_watch *readers; /* while HELD_ABSENT */
    sd_event_source *limit;     /* while held after the exit */
    uint64_t held_since_usec;   /* since then nothing was written; not before the exit */
    bool exited;                /* the process, so `limit` holds */
    bool eof;                   /* output: there will be no more */
    bool warned, discard;       /* output was dropped; all is */
    uint8_t *in;                /* input buffer, STREAM_INPUT_CHUNK; allocated while needed */
    bool started, done;
    bool closing; /* input ends when close_left bytes have been read, or there are none */
    size_t close_left;
};

static void step(struct stream *s);

static Stasis__Agent__V1__ProcessId process_id(const struct stream *s) {
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

static void finish(struct stream *s) {
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

static void watch(struct stream *s, uint32_t events) {
    if (!s->source)
        return;
    (void)sd_event_source_set_io_events(s->source, events);
    /* That the other end is gone is reported unasked and without end; only a caller's fd is watched for it. */
    if (s->spec.kind != STDIO_FD)
        (void)sd_event_source_set_enabled(s->source, events ? SD_EVENT_ON : SD_EVENT_OFF);
}

static const char *process_name(const struct stream *s) {
    return *s->spec.exec_id ? s->spec.exec_id : "init";
}

/* The agent is told that nobody reads any more; the stream is over for us. */
static void reader_gone(struct stream *s) {
    Stasis__Agent__V1__ProcessId id = process_id(s);
    Stasis__Agent__V1__ReadRequest req = STASIS__AGENT__V1__READ_REQUEST__INIT;
    req.id = &id;
    req.stream = s->spec.which;
    struct err err = ERR_INIT;
    if (ttrpc_client_call(s->spec.agent, &stasis__agent__v1__agent__descriptor, "CloseOutput", &req.base,
                          10 * USEC_PER_SEC, call_ignore, NULL, NULL, &err) < 0)
        log_debug("%s", err.msg);
    finish(s);
}

/* Output. */

static void on_read(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct stream *s = userdata;
    s->call = NULL;
    if (err) {
        log_debug("container %s: stream %d ends: %s", s->spec.container_id, s->spec.which, err->msg);
        finish(s);
        return;
    }
    Stasis__Agent__V1__ReadResponse *r = (void *)*reply;
    if (r->eof || r->data.len == 0) {
        s->eof = true;
        step(s);
        return;
    }
    uint64_t now = now_usec();
    s->bulk = now - s->last_read_usec < BULK_GAP_USEC && r->data.len < BULK_SMALL;
    s->last_read_usec = now;
    s->reply = TAKE_PTR(*reply);
    s->out = r->data.data;
    s->out_len = r->data.len;
    step(s);
}

static void ask_output(struct stream *s) {
    Stasis__Agent__V1__ProcessId id = process_id(s);
    Stasis__Agent__V1__ReadRequest req = STASIS__AGENT__V1__READ_REQUEST__INIT;
    req.id = &id;
    req.stream = s->spec.which;
    req.max = STREAM_CHUNK;
    struct err err = ERR_INIT;
    if (ttrpc_client_call(s->spec.agent, &stasis__agent__v1__agent__descriptor, "Read", &req.base, TTRPC_NO_DEADLINE,
                          on_read, s, &s->call, &err) < 0) {
        log_debug("container %s: %s", s->spec.container_id, err.msg);
        finish(s);
    }
}

static int on_gathered(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)source;
    (void)usec;
    struct stream *s = userdata;
    if (!s->call && !s->out_len && !s->done)
        ask_output(s);
    return 0;
}

/* A process that writes without end is asked a little later when its answers are small: each costs a round trip through
 * the VM, in which the CPU it would write with is ours. The first bytes after a silence are never late. */
static void ask_next_output(struct stream *s) {
    if (!s->bulk) {
        ask_output(s);
        return;
    }
    int r;
    if (s->gather) {
        r = sd_event_source_set_time_relative(s->gather, BULK_PAUSE_USEC);
        if (r >= 0)
            r = sd_event_source_set_enabled(s->gather, SD_EVENT_ONESHOT);
    } else {
        r = sd_event_add_time_relative(s->spec.event, &s->gather, CLOCK_MONOTONIC, BULK_PAUSE_USEC, 100, on_gathered,
                                       s);
    }
    if (r < 0)
        ask_output(s);
}

static ssize_t put(struct stream *s) {
    ssize_t n;
    do {
        if (s->kind == FD_SOCKET)
            n = send(s->fd, s->out, s->out_len, MSG_DONTWAIT | MSG_NOSIGNAL);
        else if (s->kind == FD_SHARED && !(fd_wait(s->fd, POLLOUT, 0) & (POLLOUT | POLLERR)))
            return -EAGAIN;
        else
            n = write(s->fd, s->out, s->kind == FD_SHARED ? MIN(s->out_len, (size_t)PIPE_BUF) : s->out_len);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* How long output is held after the exit. */

static void give_up(struct stream *s, const char *why) {
    log_warn("container %s: the rest of the output of %s, which has exited, is dropped: %s", s->spec.container_id,
             process_name(s), why);
    reader_gone(s);
}

#define NOT_READ "it is not read"

static int on_limit(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)source;
    (void)usec;
    struct stream *s = userdata;
    give_up(s, s->held == HELD_ABSENT ? "nobody has its FIFO open" : NOT_READ);
    return 0;
}

/* A reader that comes and goes without reading is not waited for longer than one that stays. */
static void set_limit(struct stream *s) {
    s->limit = sd_event_source_disable_unref(s->limit);
    if (!s->exited || s->held == HELD_NOT || s->spec.kind == STDIO_FD)
        return;
    uint64_t now = now_usec(), at = s->held_since_usec + (s->spec.stall_usec ? s->spec.stall_usec : STREAM_STALL_USEC);
    if (s->held == HELD_ABSENT)
        at = MIN(at, now + (s->spec.absent_usec ? s->spec.absent_usec : STREAM_ABSENT_USEC));
    if (at <= now) {
        give_up(s, NOT_READ);
        return;
    }
    int r = sd_event_add_time(s->spec.event, &s->limit, CLOCK_MONOTONIC, at, 0, on_limit, s);
    if (r < 0) /* better incomplete output than an exit that is never told */
        give_up(s, strerror(-r));
}

static void hold(struct stream *s, enum held why) {
    if (s->held == why)
        return;
    if (s->held == HELD_NOT)
        s->held_since_usec = now_usec();
    s->held = why;
    if (why != HELD_ABSENT)
        s->readers = fifo_watch_free(s->readers);
    set_limit(s);
}

static void moved(struct stream *s, size_t n) {
    s->out += n;
    s->out_len -= n;
    hold(s, HELD_NOT);
}

static void on_fifo_opened(void *userdata) {
    step(userdata);
}

/* What we have stays until somebody opens the FIFO. */
static void await_reader(struct stream *s) {
    struct err err = ERR_INIT;
    watch(s, 0);
    if (!s->readers && fifo_watch_new(s->spec.event, s->fd, on_fifo_opened, s, &s->readers, &err) < 0) {
        log_warn("container %s: the output of %s is dropped: %s", s->spec.container_id, process_name(s), err.msg);
        s->discard = true;
    } else {
        hold(s, HELD_ABSENT);
    }
    if (!s->done && (s->discard || fifo_has_reader(s->fd))) /* it came before the watch */
        (void)sd_event_source_set_enabled(s->kick, SD_EVENT_ONESHOT);
}

/* True: what could not be written was dropped and the stream goes on. */
static bool write_failed(struct stream *s, int code) {
    if (s->spec.kind == STDIO_FD) {
        if (code != EPIPE)
            log_warn("container %s: cannot write the output of %s: %s", s->spec.container_id, process_name(s),
                     strerror(code));
        reader_gone(s);
        return false;
    }
    if (!s->warned)
        log_warn("container %s: output of %s is dropped: %s", s->spec.container_id, process_name(s),
                 code == EPIPE ? "its logger has ended" : strerror(code));
    s->warned = true;
    s->discard = code == EPIPE;
    moved(s, s->out_len);
    return true;
}

/* The process will write no more. What is left in a FIFO would be lost with our end of it. */
static void end_output(struct stream *s) {
    if (s->spec.kind == STDIO_FIFO && !s->discard && fifo_pending(s->fd) > 0 && !fifo_has_reader(s->fd))
        await_reader(s);
    else
        finish(s);
}

static void step_output(struct stream *s) {
    while (s->out_len) {
        ssize_t n = s->discard ? (ssize_t)s->out_len : put(s);
        if (n == -EAGAIN) {
            watch(s, EPOLLOUT);
            hold(s, HELD_FULL);
            return;
        }
        if (n == -EPIPE && s->spec.kind == STDIO_FIFO) {
            await_reader(s);
            return;
        }
        if (n < 0 && !write_failed(s, (int)-n))
            return;
        if (n >= 0)
            moved(s, (size_t)n);
    }
    watch(s, 0);
    if (s->reply)
        protobuf_c_message_free_unpacked(s->reply, NULL);
    s->reply = NULL;
    if (s->eof)
        end_output(s);
    else if (!s->call)
        ask_next_output(s);
}

/* Input. */

static void end_input(struct stream *s) {
    Stasis__Agent__V1__ProcessId id = process_id(s);
    struct err err = ERR_INIT;
    if (ttrpc_client_call(s->spec.agent, &stasis__agent__v1__agent__descriptor, "CloseStdin", &id.base,
                          TTRPC_NO_DEADLINE, call_ignore, NULL, NULL, &err) < 0)
        log_debug("%s", err.msg);
    finish(s);
}

static void on_written(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct stream *s = userdata;
    s->call = NULL;
    if (err) {
        log_debug("container %s: input ends: %s", s->spec.container_id, err->msg);
        finish(s);
        return;
    }
    Stasis__Agent__V1__WriteResponse *r = (void *)*reply;
    if (r->written < s->out_len) { /* the process closed its end */
        finish(s);
        return;
    }
    s->out_len = 0;
    step(s);
}

static ssize_t get(struct stream *s) {
    size_t max = s->closing ? MIN(STREAM_INPUT_CHUNK, s->close_left) : STREAM_INPUT_CHUNK;
    ssize_t n;
    if (max == 0)
        return 0;
    do {
        if (s->kind == FD_SOCKET)
            n = recv(s->fd, s->in, max, MSG_DONTWAIT);
        else if ((s->kind == FD_SHARED || s->spec.kind == STDIO_FIFO) &&
                 !(fd_wait(s->fd, POLLIN, 0) & (POLLIN | POLLHUP | POLLERR)))
            return -EAGAIN; /* a FIFO that had no writer yet would read as ended, but does not poll so */
        else
            n = read(s->fd, s->in, max);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* The FIFO's writers have left. The old end would report that for ever. */
static int await_writer(struct stream *s) {
    int fd = fifo_reopen_input(s->fd);
    int r = fd < 0 ? fd : sd_event_source_set_io_fd(s->source, fd);
    if (r < 0) {
        log_warn("container %s: input of %s ends: cannot open its FIFO again: %s", s->spec.container_id,
                 process_name(s), strerror(-r));
        fd_close(fd);
        return r;
    }
    fd_close(s->fd); /* not before the new one is open: what the next writer has written already stays */
    s->fd = fd;
    return 0;
}

static void step_input(struct stream *s) {
    if (s->call)
        return;
    if (!s->in && !(s->in = malloc(STREAM_INPUT_CHUNK))) {
        finish(s);
        return;
    }
    ssize_t n = get(s);
    if (n == 0 && s->spec.reopen && !s->closing && await_writer(s) == 0)
        n = -EAGAIN;
    if (n == -EAGAIN && !s->closing) {
        /* Nothing is expected for a while: an idle stream keeps no buffer. */
        free(s->in);
        s->in = NULL;
        watch(s, EPOLLIN);
        return;
    }
    watch(s, 0);
    if (n > 0 && s->closing)
        s->close_left -= (size_t)n;
    if (n <= 0) { /* a terminal whose other end is gone reads EIO: that is its end of file */
        end_input(s);
        return;
    }
    Stasis__Agent__V1__ProcessId id = process_id(s);
    Stasis__Agent__V1__WriteRequest req = STASIS__AGENT__V1__WRITE_REQUEST__INIT;
    req.id = &id;
    req.data.data = s->in;
    req.data.len = (size_t)n;
    s->out_len = (size_t)n;
    struct err err = ERR_INIT;
    if (ttrpc_client_call(s->spec.agent, &stasis__agent__v1__agent__descriptor, "Write", &req.base, TTRPC_NO_DEADLINE,
                          on_written, s, &s->call, &err) < 0) {
        log_debug("container %s: %s", s->spec.container_id, err.msg);
        finish(s);
    }
}

static void step(struct stream *s) {
    if (s->done || !s->started)
        return;
    if (s->spec.which == STASIS__AGENT__V1__STREAM__STDIN)
        step_input(s);
    else
        step_output(s);
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
        if (s->spec.which != STASIS__AGENT__V1__STREAM__STDIN && (revents & EPOLLERR)) {
            ttrpc_call_cancel(s->call);
            s->call = NULL;
            reader_gone(s);
        }
        return 0;
    }
    step(s);
    return 0;
}

static int on_kick(sd_event_source *source, void *userdata) {
    (void)source;
    step(userdata);
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

int stream_new(const struct stream_spec *spec, int fd_taken, struct stream **ret, struct err *err) {
    cleanup_fd int fd = fd_taken;
    struct stream *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(err, ENOMEM, "out of memory");
    s->spec = *spec;
    s->fd = -1;
    bool input = spec->which == STASIS__AGENT__V1__STREAM__STDIN;
    s->kind = prepare_fd(&fd, spec->kind, input);
    int r = 0;
    if (s->kind != FD_FILE) {
        r = sd_event_add_io(spec->event, &s->source, fd, 0, on_io, s);
        if (r == -EPERM) { /* not pollable, so it never blocks: /dev/null and its like */
            s->kind = FD_FILE;
            r = 0;
        }
    }
    if (r >= 0)
        r = sd_event_add_defer(spec->event, &s->kick, on_kick, s);
    if (r >= 0)
        r = sd_event_source_set_enabled(s->kick, SD_EVENT_OFF);
    if (r < 0) {
        stream_free(s);
        return err_errno(err, -r, "cannot watch a stream");
    }
    s->fd = TAKE_FD(fd);
    watch(s, 0);
    *ret = s;
    return 0;
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
    step(s);
}

void stream_process_exited(struct stream *s) {
    if (!s || s->done || s->exited)
        return;
    s->exited = true;
    s->held_since_usec = now_usec();
    set_limit(s);
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
