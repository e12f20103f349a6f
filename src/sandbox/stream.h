/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One stream of a process: bytes between an fd of the host and the agent.
 *
 * Theory of operation. The daemon pulls: it asks the agent for output only when it has written all it got before, and
 * reads input only when the agent has taken all it was sent before. So at most one buffer per stream is held here, the
 * rest waits in the guest's pipe or on the host's side, and a slow reader slows the process down as a pipe would. What
 * happens when the host's end is gone depends on what that is (enum stdio_kind): a caller's fd stands for the caller,
 * so its process gets SIGPIPE or end of file; a FIFO is a place where readers and writers come and go, and the process
 * notices nothing; what a dead logger does not take is dropped. Once the process has exited nobody waits for a FIFO's
 * reader or a logger longer than its bound, for its exit is told only when its output is out.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/err.h"
#include "proto/agent.pb-c.h"
#include "ttrpc/client.h"

#define STREAM_CHUNK ((size_t)256 << 10) /* output asked for in one call */
#define STREAM_INPUT_CHUNK ((size_t)64 << 10)
#define STREAM_CLOSE_MAX ((size_t)1 << 20) /* of a pipe's or socket's input, delivered after CloseIO */

/* After the exit of the process, for STDIO_FIFO and STDIO_LOG: how long output waits for a reader to open the FIFO, and
 * for a reader (or logger) that takes nothing. */
#define STREAM_ABSENT_USEC (UINT64_C(2) * 1000000)
#define STREAM_STALL_USEC (UINT64_C(30) * 1000000)

/* What the host's end of a stream is. */
enum stdio_kind {
    STDIO_FD,     /* an open file of the caller: when its reader has gone, so has the process's */
    STDIO_FIFO,   /* a FIFO (fifo_open()) that others open and close at will */
    STDIO_CLIENT, /* as STDIO_FD, of one who may leave and come back (process_attach()): then the stream is detached */
    STDIO_LOG,    /* output only; a file or a logger's pipe: errors drop output and never reach the process */
};

struct stream;

struct stream_spec {
    sd_event *event;
    struct ttrpc_client *agent;         /* must outlive the stream */
    const char *container_id, *exec_id; /* of the process; must outlive the stream */
    Stasis__Agent__V1__Stream which;
    enum stdio_kind kind;
    bool reopen; /* input of kind STDIO_FIFO: when the writers have left, wait for the next one; else that is its end */
    uint64_t absent_usec, stall_usec; /* 0: STREAM_ABSENT_USEC, STREAM_STALL_USEC */
    /* An output stream is over: everything the process wrote was written to the fd, or that is given up (kind), or the
     * agent failed. Called once, from the loop. */
    void (*done)(void *userdata);
    void (*detached)(void *userdata); /* stream_detach(), or a STDIO_CLIENT left. May be NULL */
    void *userdata;
};

/* Takes fd (also on failure); one of kind STDIO_FIFO must not block. Nothing moves before stream_start(). */
int stream_new(const struct stream_spec *spec, int fd, struct stream **ret, struct err *err);
void stream_start(struct stream *s);

/* Input only (CloseIO): what is there now is still delivered, then the process sees end of file, though the writer goes
 * on. Only a regular file is read to its end. */
void stream_close_input(struct stream *s);

/* Output only: the agent is gone, and will not be used again. What was read from it is still delivered, within the
 * bounds above whatever the kind. Accepts NULL. */
void stream_lost(struct stream *s);

/* Output only: the process has exited; the bounds above hold from now on. Accepts NULL. */
void stream_process_exited(struct stream *s);

/* The host's end is closed; what the process writes from now on, and what was read and is not written yet, waits for
 * stream_attach(), which gives the stream another end. It is no end of file for the process. */
void stream_detach(struct stream *s);                                               /* accepts NULL */
int stream_attach(struct stream *s, int fd, enum stdio_kind kind, struct err *err); /* takes fd, also on failure */
bool stream_is_detached(const struct stream *s);

bool stream_is_done(const struct stream *s);

/* Stops and closes; done is not called. Accepts NULL; returns NULL. */
struct stream *stream_free(struct stream *s);
