/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "sandbox/stream_impl.h"

#define BULK_GAP_USEC 5000            /* answers closer than this are a stream */
#define BULK_SMALL ((size_t)64 << 10) /* bytes; larger answers need no pause */
#define BULK_PAUSE_USEC 2000

static void on_read(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct stream *s = userdata;
    s->call = NULL;
    if (err) {
        log_debug("container %s: stream %d ends: %s", s->spec.container_id, s->spec.which, err->msg);
        stream_finish(s);
        return;
    }
    Stasis__Agent__V1__ReadResponse *r = (void *)*reply;
    if (r->eof || r->data.len == 0) {
        s->eof = true;
        stream_step(s);
        return;
    }
    uint64_t now = now_usec();
    s->bulk = now - s->last_read_usec < BULK_GAP_USEC && r->data.len < BULK_SMALL;
    s->last_read_usec = now;
    s->reply = TAKE_PTR(*reply);
    s->out = r->data.data;
    s->out_len = r->data.len;
    stream_step(s);
}

static void ask_output(struct stream *s) {
    Stasis__Agent__V1__ProcessId id = stream_process_id(s);
    Stasis__Agent__V1__ReadRequest req = STASIS__AGENT__V1__READ_REQUEST__INIT;
    req.id = &id;
    req.stream = s->spec.which;
    req.max = STREAM_CHUNK;
    struct err err = ERR_INIT;
    if (ttrpc_client_call(s->spec.agent, &stasis__agent__v1__agent__descriptor, "Read", &req.base, TTRPC_NO_DEADLINE,
                          on_read, s, &s->call, &err) < 0) {
        log_debug("container %s: %s", s->spec.container_id, err.msg);
        stream_finish(s);
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
             stream_process_name(s), why);
    stream_reader_gone(s);
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
void stream_set_limit(struct stream *s) {
    s->limit = sd_event_source_disable_unref(s->limit);
    bool waits = s->spec.kind == STDIO_FD || s->spec.kind == STDIO_CLIENT;
    if (!s->exited || s->held == HELD_NOT || (waits && s->spec.agent))
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
    stream_set_limit(s);
}

static void moved(struct stream *s, size_t n) {
    s->out += n;
    s->out_len -= n;
    hold(s, HELD_NOT);
}

static void on_fifo_opened(void *userdata) {
    stream_step(userdata);
}

/* What we have stays until somebody opens the FIFO. */
static void await_reader(struct stream *s) {
    struct err err = ERR_INIT;
    stream_watch(s, 0);
    if (!s->readers && fifo_watch_new(s->spec.event, s->fd, on_fifo_opened, s, &s->readers, &err) < 0) {
        log_warn("container %s: the output of %s is dropped: %s", s->spec.container_id, stream_process_name(s),
                 err.msg);
        s->discard = true;
    } else {
        hold(s, HELD_ABSENT);
    }
    if (!s->done && (s->discard || fifo_has_reader(s->fd))) /* it came before the watch */
        (void)sd_event_source_set_enabled(s->kick, SD_EVENT_ONESHOT);
}

/* True: what could not be written was dropped and the stream goes on. */
static bool write_failed(struct stream *s, int code) {
    if (s->spec.kind == STDIO_CLIENT) {
        stream_detach(s);
        return false;
    }
    if (s->spec.kind == STDIO_FD) {
        if (code != EPIPE)
            log_warn("container %s: cannot write the output of %s: %s", s->spec.container_id, stream_process_name(s),
                     strerror(code));
        stream_reader_gone(s);
        return false;
    }
    if (!s->warned)
        log_warn("container %s: output of %s is dropped: %s", s->spec.container_id, stream_process_name(s),
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
        stream_finish(s);
}

void stream_step_output(struct stream *s) {
    while (s->out_len) {
        ssize_t n = s->discard ? (ssize_t)s->out_len : put(s);
        if (n == -EAGAIN) {
            stream_watch(s, EPOLLOUT);
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
    stream_watch(s, 0);
    if (s->reply)
        protobuf_c_message_free_unpacked(s->reply, NULL);
    s->reply = NULL;
    if (s->eof)
        end_output(s);
    else if (!s->call)
        ask_next_output(s);
}
