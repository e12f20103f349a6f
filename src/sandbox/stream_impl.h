/* SPDX-License-Identifier: Apache-2.0 */
/* Internal: the stream object, shared by stream.c, stream_input.c and stream_output.c. */
#pragma once

#include "sandbox/fifo.h"
#include "sandbox/stream.h"

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
    bool started, done, detached;
    bool closing; /* input ends when close_left bytes have been read, or there are none */
    size_t close_left;
};

/* The next thing to be done, if anything can be. */
void stream_step(struct stream *s);
void stream_step_input(struct stream *s);
void stream_step_output(struct stream *s);

/* The stream is over: done() is called, once. */
void stream_finish(struct stream *s);
/* The agent is told that nobody reads any more; the stream is over for us. */
void stream_reader_gone(struct stream *s);
void stream_watch(struct stream *s, uint32_t events);
/* Output that is held is held as long as this allows. */
void stream_set_limit(struct stream *s);
Stasis__Agent__V1__ProcessId stream_process_id(const struct stream *s);
const char *stream_process_name(const struct stream *s);
