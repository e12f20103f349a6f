/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots as archives, to move them to another host.
 *
 *   manifest.json   first, as on the disk (roots that are overlays of this host become whole ones)
 *   device, memory  as on the disk, memory with its holes
 *   roots/<n>/      of each container, depth first, a directory before what is in it. A socket, for which a tar has no
 *                   kind, is a FIFO with the extended attribute SNAPSHOT_SOCKET: its number (snapshot/tree_socket.h)
 *
 * Export streams: nothing is staged, and memory stays below 32 MiB whatever the size. Import believes nothing: what it
 * writes is below a directory that nobody sees yet, each path is opened component by component, and it becomes visible
 * only when all of it has the digests that its manifest says. Digests prove that nothing was damaged on the way; they
 * do not say who made it, so what is imported is marked (snapshot_open.h).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/snapshot_open.h"
#include "oci/archive_create.h"
#include "oci/archive_tar.h"

#define SNAPSHOT_PATH_MAX 16384               /* bytes of an entry's name */
#define SNAPSHOT_LINKS_MAX (1U << 16)         /* files with several names that the others are not yet seen of */
#define SNAPSHOT_SOCKET "stasis.socket"       /* no file system has attributes outside of a few name spaces */
#define SNAPSHOT_XATTRS_MAX 128               /* of one file */
#define SNAPSHOT_XATTR_MAX ((size_t)64 << 10) /* bytes of one */

/* Unless the options say otherwise. */
#define SNAPSHOT_BYTES_MAX ((uint64_t)256 << 30)
#define SNAPSHOT_ENTRIES_MAX (4U << 20)

/* Writes all of it. s->manifest is changed to what the archive's says. */
int snapshot_export(struct snapshot *s, struct archive_writer *w, struct err *err);

struct snapshot_import {
    uint64_t bytes_max;   /* of all files in it, without holes but those of the memory; 0: SNAPSHOT_BYTES_MAX */
    uint32_t entries_max; /* 0: SNAPSHOT_ENTRIES_MAX */
    bool allow_devices;   /* device nodes in roots are made; else refused, but for whiteouts */
    const char *rename;   /* NULL: it keeps its name */
    /* Refuses a name before much is unpacked; NULL: any is right. */
    int (*check_name)(void *userdata, const char *name, struct err *err);
    void *userdata;
};

/* Unpacks the archive that is read from fd into dirfd, an empty directory of ours, and verifies it with `processes`
 * processes. ret_name is its name, owned by the caller. Errors name the entry: -EINVAL for what is not allowed, -EFBIG
 * beyond a bound, -ENOSPC, -EBADMSG for a digest that does not fit. What was written stays for the caller to remove. */
int snapshot_import(int fd, const char *file, int dirfd, const struct snapshot_import *o, unsigned processes,
                    char **ret_name, struct err *err);

/* Makes room for one descriptor per directory of a deep tree. */
void snapshot_archive_raise_limits(void);
