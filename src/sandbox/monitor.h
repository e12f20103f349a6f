/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor of a container (base/host_process.h), made by the daemon: for engines that take the pid from the answer
 * to Create, as containerd does.
 *
 * Theory of operation. It is a child of the daemon and dies with it. It passes on the signals that it gets, over a
 * socket, and exits with the status that it is given there. It holds no other file.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/err.h"
#include "base/util.h"

struct monitor;

/* A signal that the monitor got; from the loop. */
typedef void (*monitor_signal_fn)(void *userdata, int sig);

/* title: process.args of the container, for `ps`; borrowed. */
int monitor_start(sd_event *event, const json_t *title, monitor_signal_fn fn, void *userdata, struct monitor **ret,
                  struct err *err);

pid_t monitor_pid(const struct monitor *m);

/* The container has exited: so does the monitor, with the same status. It stays a zombie until monitor_free(). */
void monitor_exit(struct monitor *m, uint32_t status);

/* Kills and reaps it. Accepts NULL; returns NULL. */
struct monitor *monitor_free(struct monitor *m);
