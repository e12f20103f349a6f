/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacking a checkpoint archive of any engine. The archive is not trusted: of its entries only the files named in
 * oci/archive_create.h and flat files below checkpoint/ are written, as new files of mode 0600 in a directory of ours;
 * their owners, modes, times, links and attributes mean nothing. What the files say is still to be checked by who reads
 * them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/util.h"
#include "oci/archive_create.h"
#include "oci/archive_tar.h"

#define ARCHIVE_ENTRIES_MAX (ARCHIVE_IMAGES_MAX + 4096)
#define ARCHIVE_BYTES_MAX ((uint64_t)64 << 30) /* unless the options say otherwise */
#define ARCHIVE_NAME_MAX 1024
#define ARCHIVE_NOTES_MAX 32

struct archive_extract_options {
    uint64_t bytes_max; /* of all entries, without holes; 0: ARCHIVE_BYTES_MAX */
    bool inspect;       /* the bulk (pages of memory, rootfs-diff.tar) is not written: files of its size, all hole */
    int (*stop)(void);  /* as in struct archive_limits */
};

struct archive_contents {
    enum archive_compression compression;
    bool flat; /* containerd's form: images at the top, no checkpoint/ */
    bool has_config, has_spec, has_rootfs_diff, has_deleted, has_stats, has_log;
    unsigned n_images;     /* files now in checkpoint/ */
    uint64_t images_bytes; /* of them all */
    uint64_t pages_bytes;  /* of those that hold memory */
    uint64_t rootfs_diff_bytes;
    struct strv notes; /* what was skipped, for the log; at most ARCHIVE_NOTES_MAX lines */
};

void archive_contents_clear(struct archive_contents *c);
#define cleanup_archive_contents CLEANUP(archive_contents_clear)

/*
 * Unpacks the archive at path into the directory dirfd, which must be empty and nobody else's. Images go to
 * checkpoint/, also those of a flat archive. Files that other engines put beside ours (volumes, network.status, …) are
 * skipped with a note. On failure the directory is empty again. Refused, with the entry's name (-EINVAL): absolute
 * names, "..", names that are no UTF-8 or too long; symbolic and hard links, devices, FIFOs; directories below
 * checkpoint/; a name that comes twice; an archive without an inventory.img. -EFBIG beyond the bounds above, -ENOSPC as
 * archive_tar_save(), -EINVAL for a damaged or cut off archive.
 */
int archive_extract(const char *path, int dirfd, const struct archive_extract_options *options,
                    struct archive_contents *ret, struct err *err);
