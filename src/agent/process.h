/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One process the host knows by name: a container's init, an exec, or a debug console. Its streams, its end, and those
 * who wait for it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "agent/children.h"
#include "agent/stream.h"
#include "base/err.h"
#include "base/path.h"

#define PROCESS_WAITERS_MAX 16
#define PROCESS_EXIT_LOST 255 /* exit code when the status could not be had */

enum process_state { PROCESS_CREATING, PROCESS_RUNNING, PROCESS_EXITED };

struct process;

struct process_exit {
    uint32_t code; /* 128 + signal when killed by one */
    uint64_t wall_usec;
    bool oom_killed;
};

/* err: abandoned, or the process was forgotten. */
typedef void (*process_wait_fn)(void *userdata, const struct process_exit *ex, const struct err *err);
/* The process has ended: called before those who wait are answered, and may set p->exit.oom_killed. May not free p. */
typedef void (*process_exited_fn)(struct process *p, void *userdata);

struct process_streams {
    bool terminal;
    bool in, out, err; /* of a process without terminal: false is /dev/null */
    uint32_t width, height;
    bool relayed; /* what the terminal says goes to another one, or to none: it leaves newlines as they are */
};

struct process_waiter {
    process_wait_fn fn;
    void *userdata;
};

struct process {
    sd_event *event;
    struct children *children;
    char exec_id[ID_MAX + 1]; /* "": init */
    enum process_state state;
    struct process_streams streams;
    struct reader out, err_out;
    struct writer in;
    pid_t pid;
    int pidfd;    /* -1: not started, or ended */
    int tty_peer; /* the process's end of its terminal; -1: none, or ended */
    struct child child;
    struct process_exit exit; /* once PROCESS_EXITED */
    process_exited_fn exited;
    void *userdata;
    struct process_waiter waiters[PROCESS_WAITERS_MAX];
    size_t n_waiters;
    bool held;
    bool abandoned;       /* nobody asks for it any more: killed, and forgotten once it has ended */
    struct process *next; /* its owner's list */
};

int process_new(sd_event *event, struct children *children, const char *exec_id, const struct process_streams *streams,
                process_exited_fn exited, void *userdata, struct process **ret, struct err *err);

/* Closes the streams and answers everything under way; the process itself is left alone. Accepts NULL; returns NULL. */
struct process *process_free(struct process *p);

/* Makes the pipes. fds become the process's ends (-1: /dev/null), which the caller closes when they have been passed
 * on. With a terminal all three are -1. */
int process_pipes(struct process *p, int fds[3], struct err *err);
void process_close_fds(int fds[3]);

/* The process runs as pid, a child of ours, and has this terminal (taken, also on failure; -1 without). If it has ended
 * already, exited() is called from within. */
int process_started(struct process *p, pid_t pid, int tty, struct err *err);

/* Errors: -ESRCH when it has ended, -EBUSY when it has not started. */
int process_signal(struct process *p, int signal, struct err *err);

/* Calls fn when it has ended; at once, from within, if it has. -EBUSY when too many wait. */
int process_wait(struct process *p, process_wait_fn fn, void *userdata, struct err *err);

int process_resize(struct process *p, uint32_t width, uint32_t height, struct err *err);

/* A terminal's input has no end of its own: nothing happens. */
void process_close_stdin(struct process *p);

/* stream: 1 or 2. NULL if there is no such number. */
struct reader *process_reader(struct process *p, int stream);

/* Nobody reads this stream any more. A terminal hangs up. */
void process_close_output(struct process *p, int stream);

/* While held, nobody is answered: streams stand still, and an end is kept for later. */
void process_hold(struct process *p, bool on);

/* Abandons all calls under way. */
void process_void(struct process *p);
