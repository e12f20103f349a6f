/* SPDX-License-Identifier: Apache-2.0 */
/* What /proc tells of one process, for `ps`. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define PS_COMMAND_MAX 512
#define PS_LIST_MAX 4096 /* processes in one answer */

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

/* All of it. -ESRCH when the process is gone. */
int ps_read(pid_t pid, struct ps_entry *ret);

/* All processes of a cgroup (fd of its directory) and below, at most PS_LIST_MAX. *ret is malloc'd. */
int ps_list(int cgroup_fd, struct ps_entry **ret, size_t *ret_n, struct err *err);

uint64_t ps_ticks_to_usec(uint64_t ticks);
