/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes to a root file system that can be taken back.
 *
 * Theory of operation. Before each change a record of how to take it back is appended to a journal, which is outside of
 * the root and of mode 0600. What is replaced or removed is moved into a directory of mode 0700 at the top of the root
 * (it is the one place that is on the root's file system whatever that is, also an overlay). Taking back reads the
 * journal from its end; each record is cut off when it has been dealt with. So a process that is killed at any point
 * leaves a journal from which the next one can go back: rootfs_undo_recover().
 *
 * The root may be hostile while it is taken back (a container has run in it): every path is opened below the root and
 * never through a symbolic link.
 */
#pragma once

#include "base/err.h"
#include "base/util.h"

#define ROOTFS_UNDO_JOURNAL ".stasis-restore" /* in the directory of the caller */
#define ROOTFS_UNDO_ASIDE ".stasis-restore."  /* and 16 hex digits: at the top of the root */

struct rootfs_undo;

/* Makes and locks the journal in dirfd, and the directory in root_fd (neither is owned; both must stay open). Errors:
 * -EBUSY when another process has the journal, -EEXIST when there is one of a process that was killed. */
int rootfs_undo_begin(int dirfd, int root_fd, struct rootfs_undo **ret, struct err *err);

/*
 * Before a change. `path` is from the root, without a leading slash; `parent` is open at its directory. All accept NULL
 * for u, a change that cannot be taken back.
 */

/* Something will be made at path, where there is nothing. */
int rootfs_undo_creating(struct rootfs_undo *u, const char *path, int parent, struct err *err);

/* Removes what is at path, with everything in it (u: moves it away); no error if nothing is. */
int rootfs_undo_remove(struct rootfs_undo *u, const char *path, int parent, struct err *err);

/* The owner, mode and times of the directory fd at path will be changed; its extended attribute will be set. */
int rootfs_undo_changing(struct rootfs_undo *u, const char *path, int fd, struct err *err);
int rootfs_undo_setting(struct rootfs_undo *u, const char *path, int fd, const char *attribute, struct err *err);

/* The changes stay. What they replaced is removed. */
int rootfs_undo_keep(struct rootfs_undo *u, struct err *err);

/* Takes all changes back. What failed stays in the journal for another attempt. -ENOENT: all is back but what has no
 * place any more, because a container has removed the directory that it was in; that stays in the directory at the top
 * of the root. */
int rootfs_undo_back(struct rootfs_undo *u, struct err *err);

/* Takes back (or removes what is left of) the changes of a process that was killed. Returns 1 if there were any, 2 if
 * they are of another root than the one that is there now (they are forgotten), 0 if there were none; -EBUSY when that
 * process lives, rootfs_undo_back()'s errors, -EINVAL when the journal is damaged or not a file of ours alone. */
int rootfs_undo_recover(int dirfd, int root_fd, struct err *err);

/* Closes it; changes that were neither kept nor taken back can still be recovered. Accepts NULL; returns NULL. */
struct rootfs_undo *rootfs_undo_free(struct rootfs_undo *u);
DEFINE_CLEANUP(struct rootfs_undo *, rootfs_undo_free);
#define cleanup_rootfs_undo CLEANUP(rootfs_undo_freep)
