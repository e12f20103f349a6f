/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What /proc tells of processes, for `ps`.
 *
 * Theory of operation. A command line is memory of the process, and the kernel reads it when no one changes what is
 * mapped there; a process in the middle of a fork can keep a reader waiting until its next turn, and one of thousands
 * has few. So a child process does the reading, first what the kernel has at hand, then the command lines, into memory
 * that it shares with the agent. When its time is up, the agent takes what is there.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/children.h"
#include "base/err.h"

#define PS_COMMAND_MAX 512
#define PS_LIST_MAX 4096 /* processes in one answer */
#define PS_TIMEOUT_USEC (5 * USEC_PER_SEC)

struct ps_entry {
    pid_t pid, ppid;
    uint32_t uid;                 /* real */
    char tty[16];                 /* "pts/0", "?" */
    uint64_t start_ticks;         /* since boot, in clock ticks */
    uint64_t cpu_ticks;           /* user and system */
    char command[PS_COMMAND_MAX]; /* the command line, or "[name]" without one; well-formed UTF-8, one line */
};

/* /proc/PID/stat; fills all but uid and, unless the name is all there is, the command. -EINVAL if it is none. */
int ps_parse_stat(const char *text, struct ps_entry *ret);

/* The real uid in /proc/PID/status. */
int ps_parse_uid(const char *text, uint32_t *ret);

/* /proc/PID/cmdline: arguments that end with NUL, len bytes. */
void ps_format_command(const char *cmdline, size_t len, char out[PS_COMMAND_MAX]);

/* All but the command line, which is "[name]". -ESRCH when the process is gone. */
int ps_read(pid_t pid, struct ps_entry *ret);

/* The command line; "" when it has none, or is gone. */
void ps_read_command(pid_t pid, char out[PS_COMMAND_MAX]);

/* The list is the callee's for the call. */
typedef void (*ps_fn)(void *userdata, const struct ps_entry *list, size_t n, const struct err *err);

/* All processes of a cgroup (fd of its directory, needed for the call only) and below, at most PS_LIST_MAX. Within
 * timeout_usec fn is called; command lines that took longer are missing. */
int ps_list(sd_event *event, struct children *children, int cgroup_fd, uint64_t timeout_usec, ps_fn fn, void *userdata,
            struct err *err);

uint64_t ps_ticks_to_usec(uint64_t ticks);
