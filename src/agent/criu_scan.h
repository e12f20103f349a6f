/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What CRIU cannot dump and can be seen beforehand, in /proc, without touching the container: open files that have no
 * picture in its images. What is not found here CRIU finds, after it has stopped the processes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define CRIU_SCAN_FDS_MAX 65536 /* open files that are looked at; the others are left to CRIU */
#define CRIU_SCAN_NAMED_MAX 8   /* findings named in the message; the others are counted */

/* What kind of thing an open file is, as far as it matters; sizes and links count for deleted files. */
struct criu_file {
    const char *target; /* where /proc/PID/fd/N points */
    mode_t mode;
    unsigned major, minor; /* of a device */
    uint64_t size;
    unsigned links;
    bool on_mount; /* on a mount of the container: not a memfd or the like */
};

/* Why it cannot be dumped, or NULL. */
const char *criu_scan_judge(const struct criu_file *f);

/* The mount's number in the text of /proc/PID/fdinfo/N; -1 if it has none. */
int criu_scan_mount_id(const char *fdinfo);

/* True if the text of a mountinfo has a mount of this number. */
bool criu_scan_has_mount(const char *mountinfo, int id);

/* Looks at the open files of n processes. -EBUSY with pids, paths and reasons when there is something; a process
 * that has ended meanwhile is none. */
int criu_scan(const pid_t *pids, size_t n, struct err *err);
