/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "sandbox/call.h"
#include "sandbox/stream_impl.h"

static void end_input(struct stream *s) {
    Stasis__Agent__V1__ProcessId id = stream_process_id(s);
    struct err err = ERR_INIT;
    if (ttrpc_client_call(s->spec.agent, &stasis__agent__v1__agent__descriptor, "CloseStdin", &id.base,
                          TTRPC_NO_DEADLINE, call_ignore, NULL, NULL, &err) < 0)
        log_debug("%s", err.msg);
    stream_finish(s);
}

static void on_written(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct stream *s = userdata;
    s->call = NULL;
    if (err) {
        log_debug("container %s: input ends: %s", s->spec.container_id, err->msg);
        stream_finish(s);
        return;
    }
    Stasis__Agent__V1__WriteResponse *r = (void *)*reply;
    if (r->written < s->out_len) { /* the process closed its end */
        stream_finish(s);
        return;
    }
    s->out_len = 0;
    stream_step(s);
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
                 stream_process_name(s), strerror(-r));
        fd_close(fd);
        return r;
    }
    fd_close(s->fd); /* not before the new one is open: what the next writer has written already stays */
    s->fd = fd;
    return 0;
}

void stream_step_input(struct stream *s) {
    if (s->call)
        return;
    if (!s->in && !(s->in = malloc(STREAM_INPUT_CHUNK))) {
        stream_finish(s);
        return;
    }
    ssize_t n = get(s);
    if (n == 0 && s->spec.reopen && !s->closing && await_writer(s) == 0)
        n = -EAGAIN;
    if (n == -EAGAIN && !s->closing) {
        /* Nothing is expected for a while: an idle stream keeps no buffer. */
        free(s->in);
        s->in = NULL;
        stream_watch(s, EPOLLIN);
        return;
    }
    stream_watch(s, 0);
    if (n > 0 && s->closing)
        s->close_left -= (size_t)n;
    if (n <= 0 && s->spec.kind == STDIO_CLIENT && !s->closing) {
        stream_detach(s);
        return;
    }
    if (n <= 0) { /* a terminal whose other end is gone reads EIO: that is its end of file */
        end_input(s);
        return;
    }
    Stasis__Agent__V1__ProcessId id = stream_process_id(s);
    Stasis__Agent__V1__WriteRequest req = STASIS__AGENT__V1__WRITE_REQUEST__INIT;
    req.id = &id;
    req.data.data = s->in;
    req.data.len = (size_t)n;
    s->out_len = (size_t)n;
    struct err err = ERR_INIT;
    if (ttrpc_client_call(s->spec.agent, &stasis__agent__v1__agent__descriptor, "Write", &req.base, TTRPC_NO_DEADLINE,
                          on_written, s, &s->call, &err) < 0) {
        log_debug("container %s: %s", s->spec.container_id, err.msg);
        stream_finish(s);
    }
}
