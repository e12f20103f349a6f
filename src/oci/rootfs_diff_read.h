/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a rootfs-diff.tar entry by entry, each checked as far as that does not depend on what the root holds. */
#pragma once

#include "base/err.h"
#include "base/util.h"
#include "oci/archive_tar.h"
#include "oci/rootfs_diff.h"

enum rootfs_diff_kind {
    ROOTFS_DIFF_NOTHING, /* the root itself, or a mark of older union file systems */
    ROOTFS_DIFF_REMOVE,  /* path goes */
    ROOTFS_DIFF_EMPTY,   /* all goes that is in the directory path */
    ROOTFS_DIFF_FILE,
    ROOTFS_DIFF_DIR,
    ROOTFS_DIFF_SPECIAL, /* a symbolic link or a FIFO */
    ROOTFS_DIFF_LINK,    /* a hard link to target */
};

struct rootfs_diff_entry {
    enum rootfs_diff_kind kind;
    struct archive_entry *e;             /* of the reader, until the next one */
    char path[ROOTFS_DIFF_PATH_MAX + 1]; /* from the root, without a leading slash */
    char target[ROOTFS_DIFF_PATH_MAX + 1];
};

struct rootfs_diff_reader {
    struct archive_tar *tar;
    void *filled; /* a tree (tsearch) of the paths of directories that got entries */
};

/* Zero-initialise *r. fd is not owned. */
int rootfs_diff_reader_open(struct rootfs_diff_reader *r, int fd, struct err *err);

/* Returns 1, or 0 at the end. Errors: rootfs_diff_apply()'s. */
int rootfs_diff_reader_next(struct rootfs_diff_reader *r, struct rootfs_diff_entry *ret, struct err *err);

void rootfs_diff_reader_close(struct rootfs_diff_reader *r); /* accepts a zeroed one */
#define cleanup_rootfs_diff_reader CLEANUP(rootfs_diff_reader_close)

/* True for an attribute that is taken over to a regular file, or to another. */
bool rootfs_diff_xattr_allowed(const char *name, size_t len, bool regular);
