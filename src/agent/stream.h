/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One stream between the agent and a process: our end of a pipe, or of a terminal. The host pulls output and pushes
 * input, one call at a time for each stream, so what is in flight is bounded by what the host takes and gives; what
 * nobody asks for stays in the kernel's pipe and stops the process that writes it.
 *
 * A call that is abandoned (reader_void, writer_void: a new session) takes nothing with it: output is read from the
 * pipe only in the moment it is answered. But a read under way goes on until the new session begins, and what it
 * answers into a session whose host is gone is lost, as is the knowledge of how much of a write was taken. The host,
 * which alone can end a session, must not do so with calls under way if it cares.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/err.h"

#define STREAM_CHUNK_MAX ((size_t)1 << 20) /* bytes of one read or write */
#define STREAM_PIPE_SIZE (256 << 10)       /* of a pipe, bytes: what one call can carry */

/* data is valid during the call. len 0 means end of file, or err (ECANCELED: abandoned). */
typedef void (*reader_fn)(void *userdata, const uint8_t *data, size_t len, const struct err *err);
/* written < len: nobody reads any more. */
typedef void (*writer_fn)(void *userdata, size_t written, const struct err *err);

/* Both live in their owner; STREAM_NONE to begin with. */
struct reader {
    int fd; /* owned; -1: none, or over */
    sd_event_source *source;
    bool open;  /* there is, or was, such a stream */
    bool ended; /* the process has ended: an empty pipe is the end of file */
    bool held;
    size_t max;
    reader_fn fn; /* of the read under way */
    void *userdata;
};

struct writer {
    int fd;
    sd_event_source *source;
    bool open;
    bool closing; /* close when the write under way is over */
    bool held;
    const uint8_t *data;
    size_t len, done;
    writer_fn fn;
    void *userdata;
};

#define READER_NONE                                                                                                    \
    { .fd = -1 }
#define WRITER_NONE                                                                                                    \
    { .fd = -1 }

/* Take fd (also on failure), which becomes non-blocking. */
int reader_open(struct reader *r, sd_event *event, int fd, struct err *err);
int writer_open(struct writer *w, sd_event *event, int fd, struct err *err);

/* Close and answer what is under way (a read with end of file, a write with what was taken). May be called twice. */
void reader_close(struct reader *r);
void writer_close(struct writer *w);

/* Answers fn at once (from within) or when there is something. Errors, without calling fn: -EBUSY when a read is under
 * way, -EINVAL (max is 0 or above STREAM_CHUNK_MAX, no such stream). */
int reader_read(struct reader *r, size_t max, reader_fn fn, void *userdata, struct err *err);

/* Answers fn when all is in the pipe. data must stay until then. Errors as above; -EPIPE after writer_end(). */
int writer_write(struct writer *w, const void *data, size_t len, writer_fn fn, void *userdata, struct err *err);

/* No more writes: the fd is closed as soon as the write under way is over. */
void writer_end(struct writer *w);

/* The process has ended. What it wrote is in the pipe and is still delivered; after that reads answer with end of file
 * instead of waiting for children of it that hold the pipe's other end. */
void reader_end(struct reader *r);

/* While held, nothing is taken from the pipe or put into it, and a call under way waits. */
void reader_hold(struct reader *r, bool on);
void writer_hold(struct writer *w, bool on);

/* Abandons what is under way: fn is called with ECANCELED. */
void reader_void(struct reader *r);
void writer_void(struct writer *w);

/* A pipe for a process's stream: [0] reads, [1] writes, both close-on-exec and blocking, as large as may be. */
int stream_pipe(int fds[2], struct err *err);
