/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process in the guest as the daemon sees it: a container's init, an exec, or a debug console.
 *
 * Theory of operation. A process is created with the fds of its stdio; once the agent has started it, process_watch()
 * keeps one Wait call open. Its exit is told to the waiters when its output has been delivered: what a process wrote
 * before it ended is never overtaken by its exit status. It may have a monitor on the host
 * (base/host_process.h), made by the CLI or here; if that one is killed first, so is the process in the guest.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/util.h"
#include "proto/agent.pb-c.h"
#include "sandbox/lifecycle.h"
#include "sandbox/stream.h"

struct sandbox;
struct container;
struct process;

/* Fds are taken; -1: none. A terminal uses in and out. */
struct process_stdio {
    int in, out, err;
    bool terminal;
    uint32_t width, height; /* of the terminal; 0: unknown */
    bool relayed;           /* the caller relays the terminal: its output has no CR before newlines */
    enum stdio_kind in_kind, out_kind, err_kind;
};
#define PROCESS_STDIO_NONE                                                                                             \
    (struct process_stdio) {                                                                                           \
        .in = -1, .out = -1, .err = -1                                                                                 \
    }
void process_stdio_close(struct process_stdio *io);

/* The size of a terminal that the caller did not give one: consoleSize of the OCI process object. */
int process_default_size(struct process_stdio *io, const json_t *process, struct err *err);

struct process_exit {
    uint32_t status; /* 128 + signal if killed by one; 137 when the sandbox died */
    uint64_t wall_usec;
    bool oom_killed;
};

/* Which streams the process was created with, and how its terminal was set up. */
struct process_streams {
    bool in, out, err;
    uint32_t width, height;
    bool relayed;
};

typedef void (*process_exit_fn)(void *userdata, const struct process_exit *exit);

/* What kind of process it is decides what happens when it exits. */
struct process_ops {
    /* The process has exited and its output was delivered; before the waiters are told. May be NULL. */
    void (*exited)(struct process *p);
};

/* container: NULL for a console. exec_id: "" for an init. host_pid: its monitor, made by the caller; 0:
 * none. Takes the fds of io, also on failure. */
int process_new(struct sandbox *sb, struct container *container, const char *exec_id, pid_t host_pid,
                struct process_stdio *io, const struct process_ops *ops, struct process **ret, struct err *err);

/* One that has none gets a monitor that is a child of this daemon. args: process.args, shown as its command line; may
 * be NULL. */
int process_make_monitor(struct process *p, const json_t *args, struct err *err);

/* False: there is no monitor, or it has ended. Else fn is called when it has; it is killed when the time is over, and
 * at once if the process has never run. */
bool process_await_host(struct process *p, uint64_t timeout_usec, void (*fn)(void *userdata), void *userdata);

/* Frees it; waiters are told with status 137 if it has not exited. Accepts NULL; returns NULL. */
struct process *process_free(struct process *p);

/* Of a snapshot: it exists in the guest already. Its streams are as they were, but nobody has their host's ends before
 * process_attach(). ex (NULL: it has not ended) is taken for its exit. process_watch() is to follow when it runs. */
void process_adopt(struct process *p, const struct process_streams *streams, bool terminal, enum process_state state,
                   uint32_t guest_pid, const struct process_exit *ex);

/* Gives the streams that nobody has these ends. Takes the fds of io, also on failure. -EBUSY when one has an end. */
int process_attach(struct process *p, struct process_stdio *io, struct err *err);
void process_detach(struct process *p);

/* After the agent made it: moves its streams and waits for its exit. guest_pid is the agent's word, only for display.
 */
int process_watch(struct process *p, uint32_t guest_pid, struct err *err);

/* The VM is gone: the process counts as killed. */
void process_lost(struct process *p);

/* fn is called when the process has exited (from the loop, also when it has already). userdata identifies
 * the waiter for process_wait_cancel(). */
int process_wait(struct process *p, process_exit_fn fn, void *userdata, struct err *err);
void process_wait_cancel(struct process *p, void *userdata);

int process_move(struct process *p, enum process_state to, struct err *err);
enum process_state process_get_state(const struct process *p);
const struct process_exit *process_get_exit(const struct process *p); /* NULL: has not exited */
pid_t process_host_pid(const struct process *p);                      /* of its monitor; 0: it has none */
int process_host_pidfd(const struct process *p);                      /* likewise; not owned; -1: none */
bool process_host_is_gone(const struct process *p);                   /* there was one, and it has ended */
const char *process_exec_id(const struct process *p);
struct container *process_container(const struct process *p);
bool process_is_terminal(const struct process *p);

void process_describe_stdio(const struct process *p, struct process_streams *ret);

/* What the request called its stdin, stdout and stderr, for its answers to State; copied. */
int process_set_uris(struct process *p, const char *in, const char *out, const char *err_out, struct err *err);
const char *process_uri(const struct process *p, int fd); /* fd: 0, 1, 2; "" when there is none */

/* The id as the agent wants it; points into the process. */
Stasis__Agent__V1__ProcessId process_agent_id(const struct process *p);

/* The pid the agent gave for it; 0: not started. For display and comparison only. */
uint32_t process_guest_pid(const struct process *p);

/* CloseIO: see stream_close_input(). Kept when the process does not run yet. */
void process_close_input(struct process *p);
