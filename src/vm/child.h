/* SPDX-License-Identifier: Apache-2.0 */
/* A jailed program of the VM: its process, its error output in the log, and how it ended. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/err.h"
#include "base/proc.h"
#include "vm/jail.h"

struct child;

struct child_spec {
    const char *name; /* "QEMU", for messages; static */
    uint64_t log_max; /* bytes of its error output in the log; what comes after that is for child_describe_end() only */
    const struct jail_spec *jail;
    const struct proc_spec *proc; /* its fds must not name 2, which becomes the error output */
};

/* Starts it. ended() is called once, from the event loop, when it has ended by itself. */
int child_start(sd_event *event, const struct child_spec *spec, void (*ended)(void *userdata), void *userdata,
                struct child **ret, struct err *err);

/* Kills it, waits for its end and frees it. ended() is not called. Accepts NULL; returns NULL. */
struct child *child_free(struct child *c);

/* SIGKILL, without waiting. */
void child_kill(struct child *c);

/* True if it has ended; asks the kernel, does not wait for the event loop to notice. */
bool child_has_ended(struct child *c);

/* Of an ended one: its exit code is not 0; a signal killed it. */
bool child_failed(const struct child *c);
bool child_was_killed(const struct child *c);

/* Sets err to how it ended: "QEMU was killed by signal 9", "virtiofsd exited with 1: <last line of its errors>". The
 * code is -ECANCELED when somebody killed it (SIGKILL), else -EIO. */
void child_describe_end(struct child *c, struct err *err);

pid_t child_pid(const struct child *c); /* also of one that has ended */
