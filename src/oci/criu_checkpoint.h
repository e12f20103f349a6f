/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a checkpoint holds, read from CRIU's images: the process tree with memory and open files. For showing it and for
 * judging whether it can be restored; CRIU itself reads the images again, in the guest.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/util.h"
#include "oci/criu_files.h"

#define CRIU_PROCESSES_MAX 16384
#define CRIU_THREADS_MAX 65536  /* of all processes together */
#define CRIU_FDS_MAX (1U << 20) /* likewise */
#define CRIU_PAGE_SIZE 4096
#define CRIU_VERSION_MAX 64

struct criu_fd {
    uint32_t fd, file_id;
};

struct criu_process {
    uint32_t pid, ppid, pgid, sid; /* in the container's pid namespace; ppid 0: the root */
    size_t parent;                 /* its index; its own for the root */
    uint32_t n_threads;            /* with the first; 0: a zombie */
    const char *state;             /* static: "alive", "stopped", "zombie", "dead", … "unknown" */
    char *comm;                    /* owned, printable */
    uint64_t pages;                /* in these images, of CRIU_PAGE_SIZE bytes */
    uint64_t pages_parent;         /* in the parent checkpoint's */
    uint64_t pages_lazy;           /* of `pages`, may be fetched later */
    uint32_t exe_file_id;          /* a criu_file's id; 0: not known */
    struct criu_fd *fds;           /* owned */
    size_t n_fds;
};

struct criu_checkpoint {
    uint32_t img_version;
    const char *arch;               /* static: "x86_64", "aarch64", … "unknown" */
    uint32_t root_files_id;         /* 0: not known */
    uint64_t dump_uptime_usec;      /* the guest's uptime at the dump; 0: not known */
    bool tcp_close;                 /* connections were closed for the dump */
    struct criu_process *processes; /* parents before children, the root first; owned */
    size_t n_processes;
    struct criu_files files;
};

/* Reads the images below dirfd. -EINVAL, with the file's name, when one is damaged, or they contradict each other: a
 * process without a parent, two with one pid, a descriptor of a file that is not there. -EFBIG beyond the bounds above.
 * -ENOENT when inventory.img or pstree.img is not there. */
int criu_checkpoint_read(int dirfd, struct criu_checkpoint *ret, struct err *err);

void criu_checkpoint_clear(struct criu_checkpoint *c);
#define cleanup_criu_checkpoint CLEANUP(criu_checkpoint_clear)

/* The version of CRIU that wrote the log `name` below dirfd ("4.1.1"). The images do not say. Returns 1, or 0 when the
 * log does not say either. Errors: open's, -EINVAL when it is no regular file. */
int criu_log_version(int dirfd, const char *name, char ret[CRIU_VERSION_MAX], struct err *err);
