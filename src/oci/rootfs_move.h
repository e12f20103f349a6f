/* SPDX-License-Identifier: Apache-2.0 */
/* Moving files and trees within one file system, also where directories cannot be renamed: those that an overlay has
 * from a lower layer. Never through a symbolic link. */
#pragma once

#include "base/err.h"

#define ROOTFS_MOVE_DEPTH_MAX 512 /* directories below each other */

/* Moves `name` of the directory `from` to `to_name` of the directory `to`, where there is nothing. On failure a tree
 * may be in both places, in parts. Errors: -EXDEV (another file system), -ELOOP (too deep), the kernel's. */
int rootfs_move(int from, const char *name, int to, const char *to_name, struct err *err);

/* The same back: what is in the way is removed, but two directories become one. Also for a tree that is in parts. */
int rootfs_move_back(int from, const char *name, int to, const char *to_name, struct err *err);
