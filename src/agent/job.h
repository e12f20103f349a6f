/* SPDX-License-Identifier: Apache-2.0 */
/* A program that runs to its end beside the loop, with a deadline. */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "agent/children.h"
#include "base/err.h"
#include "base/proc.h"

struct job;

/* The program has ended. `status` as waitpid() gives it; -ETIMEDOUT when it was killed because its time was up. The job
 * is freed after the call. */
typedef void (*job_done_fn)(void *userdata, int status);

/* Starts spec->path; its standard fds are as in proc_spawn. ret may be NULL. */
int job_start(sd_event *event, struct children *children, const struct proc_spec *spec, uint64_t timeout_usec,
              job_done_fn fn, void *userdata, struct job **ret, struct err *err);

/* The same with a function of ours in a child of its own; what it returns, 0 to 255, is the exit code. It sees all that
 * this process has, and changes nothing of it. */
int job_fork(sd_event *event, struct children *children, int (*run)(void *arg), void *arg, uint64_t timeout_usec,
             job_done_fn fn, void *userdata, struct job **ret, struct err *err);

/* Kills the program and frees the job; fn is not called. Accepts NULL; returns NULL. */
struct job *job_cancel(struct job *job);

/* For proc_spec.setup: gives the child back what PID 1 took for itself (OOM protection, number of files). */
int job_setup_child(void *userdata, struct err *err);
