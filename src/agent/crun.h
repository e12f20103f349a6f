/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crun: one process per operation, its log turned into an error.
 *
 * Theory of operation. An operation N has its small files in a directory on tmpfs: N.log (crun's JSON log), N.pid, N.in
 * (a process or resources object), N.sock (where a terminal arrives). They are gone when it is over. Operations run
 * side by side; their order per container is the caller's business.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "agent/children.h"
#include "agent/tty_setup.h"
#include "base/err.h"

#define CRUN_PATH "/usr/bin/crun"
#define CRUN_DIR "/run/stasis/op"
#define CRUN_TIMEOUT_USEC (UINT64_C(60) * 1000000) /* of an operation whose caller sets no deadline */
#define CRUN_TIMEOUT_MAX_USEC (UINT64_C(3600) * 1000000)
#define CRUN_ARGS_MAX 24
#define CRUN_PARALLEL_MAX 64 /* operations under way, beyond which no new process is made: each costs memory */

struct crun {
    sd_event *event;
    struct children *children;
    const char *path; /* the program; tests put their own here */
    const char *dir;  /* must exist */
    uint64_t counter;
    unsigned running;
};

/* What came of an operation. */
struct crun_result {
    const struct err *err; /* NULL: it worked */
    pid_t pid;             /* of the process it made, if it was to make one; else 0 */
    int tty;               /* its terminal, if one was asked for, else -1; the callback takes it (sets it to -1) */
    int status;            /* of crun, as waitpid() gives it; 0 when timed_out */
    bool timed_out;        /* crun had to be killed: half of its work may be left */
};

/* Called once from the loop. Until it returns, children_watch() finds result->pid even if it has ended. */
typedef void (*crun_done_fn)(void *userdata, struct crun_result *result);

struct crun_request {
    const char *args[CRUN_ARGS_MAX]; /* the command and its options, NULL-terminated; not the id */
    const char *id;                  /* of the container */
    bool makes_process;              /* --pid-file, and with terminal --console-socket */
    bool terminal;
    int stdio[3];       /* of crun, and of the process it makes; -1: /dev/null. Not taken */
    const char *option; /* "--process" or "--resources": gets a file with `data`; NULL: none */
    const void *data;
    size_t len;
    uint64_t timeout_usec;    /* 0: CRUN_TIMEOUT_USEC */
    const char *preload;      /* a library that crun and what it runs load first; NULL: none */
    char tty[TTY_SETUP_SIZE]; /* for that library: how a new terminal is set up (tty_setup.h); "": as it comes */
};

#define CRUN_REQUEST_INIT                                                                                              \
    {                                                                                                                  \
        .stdio = { -1, -1, -1 }                                                                                        \
    }

/* Starts it. On failure `done` is not called. -ENOSPC: see CRUN_PARALLEL_MAX. */
int crun_run(struct crun *crun, const struct crun_request *req, crun_done_fn done, void *userdata, struct err *err);
