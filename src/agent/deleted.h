/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the share that have lost their name and are still in use: open, mapped, run, or the directory a process is
 * in. A copy of the machine finds its files by their paths, and so does not find these.
 *
 * What counts is on a file system of the share's type (each mount below the share is one of its own), and either has no
 * link left by the word of the host, or had its last known name taken away. The second is for what an overlay on the
 * host tells of a file of its lower layer: that file keeps its link when the overlay's name for it is gone. A file with
 * a second name somewhere is found by that one and does not count; a link count of 1 after a name was taken away may
 * mean either, and counts.
 *
 * In a copy, before anything in it runs on: what the file server has not found again has no link by its word. A file
 * that another one has taken the name of is known by the number of its inode, which this kernel remembers. That is
 * looked at on a container's volumes only, as roots of copies have other numbers, and of those only where the volume's
 * own directory has the number it had: else it is another volume, as on another host. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "agent/agent.h"
#include "base/err.h"
#include "base/path.h"

#define DELETED_MAX 64          /* findings that are listed */
#define DELETED_NAMED_MAX 8     /* of those, in a message */
#define DELETED_FILES_MAX 65536 /* different files that are looked at */
#define DELETED_FSTYPE "virtiofs"

struct deleted_file {
    char container_id[ID_MAX + 1]; /* "": of none */
    pid_t pid;
    char command[17]; /* at most 15 bytes and an end, printable */
    char path[PATH_MAX];
    bool replaced; /* another file has its name */
};

struct deleted_list {
    size_t n, more; /* more: found and not listed */
    struct deleted_file v[DELETED_MAX];
};

struct deleted_stat {
    const char *link; /* as the kernel names the file; "…(deleted)" */
    bool is_directory;
    unsigned links;
    uint64_t known_ino, ino; /* its number as it was, and as it is; 0: not compared */
};

bool deleted_judge(const struct deleted_stat *s);
bool deleted_is_replaced(const struct deleted_stat *s);

/* Looks at all processes of the guest, those of containers first. list must be zeroed. fstype: DELETED_FSTYPE. This
 * asks the host about each file once, so it belongs in a child process. */
int deleted_scan(const struct agent *a, const char *fstype, struct deleted_list *list, struct err *err);

/* The same in a copy, of the processes of containers. `known` (NULL: none) may be missing: what the scan before the
 * copy was made has found; all may be if that had more than it could list. */
int deleted_scan_copy(const struct agent *a, const char *fstype, const struct deleted_list *known,
                      struct deleted_list *list, struct err *err);

/* -EBUSY with the list in the message. For one that is not empty. The second is for what was found in a copy. */
int deleted_refuse(const struct deleted_list *list, struct err *err);
int deleted_refuse_copy(const struct deleted_list *list, struct err *err);
