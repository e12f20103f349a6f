/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rootfs-diff.tar: what a container changed in its root file system. Two forms are read: that of Podman and CRI-O (the
 * tar has what was added or changed, a JSON list beside it, deleted.files, has what was deleted) and that of OCI layers
 * (containerd; deletions are ".wh." entries in the tar). Written is the first, with ".wh." entries only for what it
 * cannot say.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/util.h"
#include "oci/archive_put.h"
#include "oci/rootfs_undo.h"

#define ROOTFS_DIFF_ENTRIES_MAX (1U << 20)
#define ROOTFS_DIFF_DELETED_MAX (1U << 16)
#define ROOTFS_DIFF_BYTES_MAX ((uint64_t)64 << 30) /* of all files, without holes */
#define ROOTFS_DIFF_DEPTH_MAX 256                  /* directories below each other */
#define ROOTFS_DIFF_PATH_MAX 4096
#define ROOTFS_DIFF_XATTR_MAX ((size_t)64 << 10) /* one value */
#define ROOTFS_DIFF_XATTRS_MAX 64                /* of one file */

struct rootfs_diff_source {
    int upper_fd; /* an overlay's upper directory, open for reading */
    int lower_fd; /* the same overlay's lower layers as one tree; -1: not known. With it, deletions below a directory
                   * that hides the lower one can be listed by name; without, they become an OCI opaque marker, which
                   * Podman and CRI-O do not understand */
};

/*
 * Writes the tar, plain, to sink. dry: the contents of files are not read and zeros are written, which has the same
 * length: for knowing the length first. deleted (may be NULL) gets the deleted paths, from the root ("/etc/x").
 * notes (may be NULL) gets what could not be taken along: sockets, devices, extended attributes other than user.* and
 * security.capability.
 * Errors: -EFBIG, -ELOOP beyond the bounds above; -EOPNOTSUPP for an overlay that renames or splits files
 * (redirect_dir, metacopy); read's; the sink's. Each names the path.
 */
int rootfs_diff_write(const struct rootfs_diff_source *src, bool dry, archive_sink_fn sink, void *userdata,
                      struct strv *deleted, struct strv *notes, struct err *err);

/*
 * Reads a whole rootfs-diff.tar and its list of deleted files, and changes nothing: refuses what rootfs_diff_apply()
 * and rootfs_diff_delete() would refuse whatever the root holds. ret_privileged (owned by the caller) is the path of
 * the first file that would give its rights to who runs it (setuid, setgid, capabilities), NULL if there is none.
 */
int rootfs_diff_check(int fd, char **ret_privileged, struct err *err);
int rootfs_diff_check_deleted(const char *json, size_t len, struct err *err);

/*
 * Applies a rootfs-diff.tar, read from fd, to the directory root_fd, for which nobody else may be at work meanwhile.
 * The tar is not trusted, nor is what is in the directory: every component of every path is opened below root_fd and
 * never through a symbolic link; what an entry replaces is removed first and never written through. Symbolic links,
 * FIFOs, owners (numbers) and modes with setuid and setgid are made as they stand there; of extended attributes user.*
 * (but user.overlay.*) and security.capability; times of files, not of directories. Refused: devices but overlay's
 * whiteout, absolute names, "..", hard links to anything but a regular file below root_fd, an opaque marker behind
 * entries of its directory, and all beyond the bounds above (free space as archive_tar_save()). Errors: -EINVAL,
 * -EFBIG, -ENOSPC and the kernel's, each with the entry's name. What was applied before stays, for `undo` to take back;
 * undo may be NULL.
 */
int rootfs_diff_apply(int fd, int root_fd, struct rootfs_undo *undo, struct strv *notes, struct err *err);

/* Removes the paths of a deleted.files text (a JSON list of strings) below root_fd, never through a symbolic link; one
 * that is not there is no error. Errors: -EINVAL, -EFBIG, removal's. undo as above. */
int rootfs_diff_delete(const char *json, size_t len, int root_fd, struct rootfs_undo *undo, struct err *err);

/* The JSON text of such a list; malloc'd. -EFBIG when it is larger than JSON_TEXT_MAX. */
int rootfs_diff_deleted_json(const struct strv *deleted, char **ret, struct err *err);
