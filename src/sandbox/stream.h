/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One stream of a process: bytes between an fd of the host and the agent.
 *
 * Theory of operation. The daemon pulls: it asks the agent for output only when it has written all it got before, and
 * reads input only when the agent has taken all it was sent before. So at most one buffer per stream is held here, the
 * rest waits in the guest's pipe or on the host's side, and a slow reader slows the process down as a pipe would. When
 * the host's reader is gone the agent closes its end and the process gets SIGPIPE.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/err.h"
#include "proto/agent.pb-c.h"
#include "ttrpc/client.h"

#define STREAM_CHUNK ((size_t)256 << 10) /* output asked for in one call */
#define STREAM_INPUT_CHUNK ((size_t)64 << 10)

struct stream;

struct stream_spec {
    sd_event *event;
    struct ttrpc_client *agent;         /* must outlive the stream */
    const char *container_id, *exec_id; /* of the process; must outlive the stream */
    Stasis__Agent__V1__Stream which;
    /* An output stream is over: everything the process wrote was written to the fd, or the fd's reader is gone, or the
     * agent failed. Called once, from the loop. */
    void (*done)(void *userdata);
    void *userdata;
};

/* Takes fd (also on failure). Nothing moves before stream_start(). */
int stream_new(const struct stream_spec *spec, int fd, struct stream **ret, struct err *err);
void stream_start(struct stream *s);

/* Input only (CloseIO): what can be read now is still delivered, then the process sees end of file. */
void stream_close_input(struct stream *s);

bool stream_is_done(const struct stream *s);

/* Stops and closes; done is not called. Accepts NULL; returns NULL. */
struct stream *stream_free(struct stream *s);
