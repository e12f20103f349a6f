/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies of directory trees: a container's root or writable layer.
 *
 * Theory of operation. The source is a guest's: it may hold anything, and whoever serves it may change it meanwhile.
 * The walk goes from directory fd to directory fd without ever following a symbolic link or crossing a mount, so what
 * it reads is below the source and what it writes below the target. Kept are type, mode, owner, times (of nanoseconds),
 * extended attributes (all namespaces, so the marks of an overlay's upper directory too), symbolic links, device nodes
 * (an overlay's whiteouts), FIFOs, sockets (with the low byte of their inode number, by which a kernel finds who
 * listens there), hard links within the tree, holes. File contents are shared with the source where the file system can
 * (FICLONE), else copied in the kernel (copy_file_range).
 *
 * Every entry is opened with O_PATH, looked at, and only if it is a file or directory opened to be read, through that
 * fd: what was checked is what is read. Held at a time are the names of the directories from the top to the current
 * one, in bounds, and the inodes that have several names.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TREE_DEPTH_MAX 240 /* directories; what path_remove_tree() can remove again, and two fds each */
#define TREE_ENTRIES_MAX 10000000
#define TREE_NAMES_MAX ((size_t)256 << 20) /* bytes of names held at a time */
#define TREE_LINKS_MAX 1000000             /* inodes with several names */

struct tree_totals {
    uint64_t entries; /* without the top */
    uint64_t bytes;   /* of regular files' data without blocks of zeros (4 KiB), hard links once */
    uint8_t sha256[32];
};

/* Copies the contents of src_fd (and the attributes of the top) into dst_fd, an empty directory that nobody else writes
 * to. Neither fd may be O_PATH. *ret_lost_sockets (may be NULL) is how many names of sockets are there but lead nowhere
 * in a copied VM (snapshot/tree_socket.h). ret (may be NULL; then nothing is digested, and shared contents are not even
 * read) is what tree_digest() says of the copy. Not synced. What vanishes meanwhile is left out. Errors name the path:
 * -ENOSPC, -EIO, -ELOOP (too deep), -E2BIG (too many), -EXDEV (a mount), … What was copied stays for the caller to
 * remove. */
int tree_copy(int src_fd, int dst_fd, size_t *ret_lost_sockets, struct tree_totals *ret, struct err *err);

/* A digest over everything that tree_copy() keeps, but the times of directories (which the copy of a snapshot changes
 * when it is looked at by an overlay), times of access, and the attributes trusted.overlay.{origin,impure,uuid,nlink},
 * which hold for one file system only. Entries go in byte order of their names; holes are zeros. */
int tree_digest(int fd, struct tree_totals *ret, struct err *err);
