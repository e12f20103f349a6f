/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process has and CRIU's images have no place for, kept beside them.
 *
 * Theory of operation. CRIU calls a plugin for each process: in a dump when all have been stopped, in a restore when
 * all are complete and still stopped. The first writes what is not as in a new process to the file
 * ATTRIBUTES_FILE in the image directory, the second applies it, so no instruction of the process runs without it. Kept
 * are, of a process, that it may gain no executable memory (PR_SET_MDWE) and the coredump filter; of a thread its
 * personality, timer slack, I/O priority and CPUs. A restore that finds no file applies nothing.
 *
 * The file comes with a checkpoint and is as little trusted: numbers only, bounded, each applied by the kernel's rules
 * to the processes of the checkpoint alone. A file that is not of this form fails the restore before anything is made.
 * So does a restriction that cannot be applied end the process; for the rest a warning in CRIU's log will do.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define ATTRIBUTES_FILE "stasis-attributes"
#define ATTRIBUTES_MAX 65536   /* lines: threads that have something of their own */
#define ATTRIBUTES_CPU_WORDS 4 /* of 64 CPUs each */

/* One thread, and with its leader the process. 0 in a field: as in a new process. */
struct attributes {
    int pid, tid;  /* as the process sees them */
    unsigned mdwe; /* bits of PR_SET_MDWE; with the leader */
    unsigned personality;
    int ioprio;
    bool has_coredump_filter; /* with the leader */
    unsigned coredump_filter;
    uint64_t timer_slack; /* nanoseconds */
    uint64_t cpus[ATTRIBUTES_CPU_WORDS];
};

/* Writes one line. Returns a negative number on failure. */
int attributes_write(FILE *f, const struct attributes *a);

/* Reads all lines into a malloc'd array. Returns 0, -EINVAL when it is not of the form, -EFBIG, -ENOMEM. */
int attributes_read(FILE *f, struct attributes **ret, size_t *n);
