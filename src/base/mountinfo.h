/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's mount table, /proc/PID/mountinfo (proc_pid_mountinfo(5)), entry by entry. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define MOUNTINFO_SELF "/proc/self/mountinfo"
#define MOUNTINFO_MAX ((size_t)64 << 20) /* bytes: far more than the kernel's default of 100,000 mounts takes */

struct mountinfo {
    char *text;
    char *next;
};

struct mountinfo_entry {
    const char *dev;           /* "MAJOR:MINOR" of the file system */
    const char *root;          /* the directory of it that is mounted */
    const char *mount_point;   /* as this process sees it, without the kernel's escapes */
    const char *type;          /* of the file system, "ext4" */
    const char *super_options; /* "rw,name=systemd" */
};

/* Reads the table at path. On success the caller owns *ret. Errors: -EFBIG, and those of reading. */
int mountinfo_open(const char *path, struct mountinfo *ret, struct err *err);
void mountinfo_close(struct mountinfo *m); /* accepts a zeroed one */

/* The next entry; its strings live until mountinfo_close. Lines that are no entry are passed over. False at the end. */
bool mountinfo_next(struct mountinfo *m, struct mountinfo_entry *ret);
