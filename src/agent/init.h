/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a system out of a kernel and a read-only root: mounts, cgroups, the loopback interface, the share. All of it
 * is on the way of every boot, so nothing is here that could wait.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "base/log.h"

#define INIT_SHARE_TAG "share"
#define INIT_SHARE_DIR "/share"
#define INIT_PORT_NAME "agent"
#define INIT_PORT_TIMEOUT_USEC (UINT64_C(30) * 1000000)

/* What the agent finds in the kernel's command line. */
struct init_options {
    enum log_level log_level; /* agent.log=error|warn|info|debug; error if it is not there */
};

/* Unknown words are other programs', and are skipped; a value that is none is an error. */
int init_parse_cmdline(const char *cmdline, struct init_options *ret, struct err *err);

/* proc first of all: the rest and the log level need it. */
int init_mount_proc(struct err *err);
int init_read_options(struct init_options *ret, struct err *err);

/* Everything else. What the agent can live without is logged. */
int init_system(struct err *err);

/* cgroup v2 has one set of options for all its mounts, and crun clears it when it mounts one for a container. This sets
 * ours again. root: where it is mounted. */
int init_restore_cgroup_options(const char *root, struct err *err);

/* Has all CPUs run: under TCG the kernel starts with one (vm/qemu.c). When all drivers are there. */
void init_online_cpus(void);

/* Mounts the share. */
int init_share(struct err *err);

/* Opens the port of the agent's channel, waiting for it to appear. Returns a non-blocking fd. A port can be opened
 * once: while we have it, nobody else in the guest can. */
int init_open_port(const char *name, uint64_t timeout_usec, struct err *err);

/* An empty or invalid name is refused. */
int init_set_hostname(const char *name, struct err *err);
int init_set_clock(uint64_t wall_usec, struct err *err);
