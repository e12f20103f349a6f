/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the mock share (mock_daemon.c says what it is): the daemon, the processes of its one container, and
 * the calls that are answered in another file than the one with the table of them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/types.h>

#include <jansson.h>
#include <systemd/sd-event.h>

#include "base/err.h"
#include "cli/pump.h"
#include "ttrpc/server.h"

#define PROCESSES_MAX 8
#define WAITERS_MAX 8
#define TEXT(s) ((char *)(s))

struct process {
    struct mock *mock;
    bool used, terminal, started, exited;
    char exec_id[64];
    json_t *spec;
    int fds[3]; /* stdin, stdout, stderr */
    int master;
    struct winsize size;
    struct pump *in, *out;
    /* Of a restored one: the ends that are ours of its stdio, and what an attached client gave for each. */
    int hold[3], client[3];
    struct pump *relay[3];
    pid_t pid, host_pid;
    uint32_t status;
    sd_event_source *child, *host;
    struct ttrpc_request *waiters[WAITERS_MAX];
    size_t n_waiters;
};

struct mock {
    sd_event *event;
    struct ttrpc_server *server;
    const char *root, *id, *log;
    char *dir, *bundle, *rootfs;
    bool nodump, nostart, stall;
    struct process processes[PROCESSES_MAX]; /* [0] is the container's init */
    const char *status;
};

/* mock_daemon.c */

/* Writes the state file, from which the CLI knows what is there. */
void mock_save(struct mock *m);

void mock_fail(struct ttrpc_request *req, int code, const char *msg);

/* Into the bundle, for the test to look at. */
void mock_leave_text(const struct mock *m, const char *name, const char *text);

/* mock_process.c */

/* Of a pump that carries the output of the process that is its userdata: that end is waited for by process_tell(). */
extern const struct pump_ops process_output_ops;

/* Takes the spec. An init has the exec id "". Aborts when there are PROCESSES_MAX. When host_pid ends, as a client that
 * is killed does, the process is killed; 0 is none. */
struct process *process_add(struct mock *m, const char *exec_id, json_t *spec, bool terminal, uint32_t host_pid,
                            uint32_t width, uint32_t height);

/* NULL when there is none, and then the request is answered. */
struct process *process_find_or_fail(struct mock *m, const char *exec_id, struct ttrpc_request *req);

/* Takes from the request an fd for each that is "fd://". */
void process_take_stdio(struct process *p, struct ttrpc_request *req, const char *in, const char *out, const char *err);

/* 0 or a negative errno. What it got of fds is closed in this program, unless it has a terminal: its output has to end
 * with it. */
int process_start(struct process *p, struct err *err);

/* Answers those that wait, once the process has ended and its output is out. */
void process_tell(struct process *p);

/* Forgets the client that is attached. */
void process_let_go(struct process *p);

/* Kills it if it runs, answers those that wait, and makes room for another. */
void process_drop(struct process *p);

/* mock_snapshot.c */

void handle_snapshot(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata);
void handle_restore_snapshot(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata);
void handle_attach(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata);
void handle_detach(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata);
void handle_build_template(struct ttrpc_request *req, const ProtobufCMessage *msg, void *userdata);
