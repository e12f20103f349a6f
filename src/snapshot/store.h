/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory of all snapshots (or of all templates): STORE/<name>/, root's alone.
 *
 * A snapshot is made in STORE/.new-<name>-XXXXXX and renamed when all in it is on the disk, so one that can be seen is
 * whole. Whoever uses one holds a shared lock (flock) on its directory as long as something stands on it (an overlay's
 * lower directory); removing takes an exclusive one and renames it to STORE/.old-<name>-XXXXXX first, so it is gone at
 * once. What an interrupted maker or remover left (its lock is free) is removed by the next maker. The store's own lock
 * is held for the moments between the making of such a directory and its lock.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/util.h"

struct store {
    int fd; /* of the directory; owned */
    char *dir;
};

/* Opens it, and makes it (0700, with its parents 0755) if `make`. -EPERM when it is not root's or others may write to
 * it (threats.md 32); -ENOENT. */
int store_open(const char *dir, bool make, struct store *ret, struct err *err);
void store_close(struct store *s); /* accepts a zeroed one with fd -1 or 0 */

/* How long store_use() waits for a maker that has just committed, or a remover, to let go. */
#define STORE_WAIT_USEC (500 * 1000)

/* Names are ids (id_validate) that do not begin with a dot: what would name a path or a directory of the store's own is
 * refused (-EINVAL). */

/* A new one, not visible yet: ret_fd is its directory, exclusively locked until the caller closes it or, after the
 * commit, makes the lock shared (flock LOCK_SH); ret_tmp its name (malloc'd). -EEXIST when the name is taken. Removes
 * leftovers of others; a failure of that is logged. */
int store_begin(const struct store *s, const char *name, int *ret_fd, char **ret_tmp, struct err *err);

/* Syncs everything in it (if sync), renames it to its name (-EEXIST, without replacing), syncs the store. Blocks. */
int store_commit(const struct store *s, const char *tmp, const char *name, bool sync, struct err *err);

/* After a commit that was cut off: one that has its name already, and is the directory `dir_fd`, gets its unfinished
 * one back. 0 also when there is nothing to do. */
int store_take_back(const struct store *s, int dir_fd, const char *name, const char *tmp, struct err *err);

/* Throws an unfinished one away; a failure is logged. */
void store_abort(const struct store *s, const char *tmp);

/* Removes the leftovers of makers and removers that died, as store_begin() does; no store is no harm. */
void store_tidy(const char *dir);

/* Opens one with a shared lock; -ENOENT "there is no snapshot NAME in STORE". -EBUSY when its maker does not let go. */
int store_use(const struct store *s, const char *name, int *ret_fd, struct err *err);

/* Removes one. Blocks. -ENOENT, -EBUSY "snapshot NAME is in use" when somebody holds its lock. */
int store_remove(const struct store *s, const char *name, struct err *err);

/* The names, sorted, added to *ret. What is not a snapshot's directory is passed over. */
int store_list(const struct store *s, struct strv *ret, struct err *err);
