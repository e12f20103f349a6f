/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What CRIU keeps of a tmpfs, in and out, in the place of tar.
 *
 * Theory of operation. For each tmpfs of a container, CRIU runs tar and that gzip, at a checkpoint while the container
 * stands still; where CPUs are emulated the start of the two takes longer than all they do. But most of these file
 * systems are empty (masked directories, /dev/shm), or have a few devices and links (/dev). Such a one is written here,
 * as an archive that tar reads and writes as well (POSIX ustar; RFC 1952 with the stored blocks of RFC 1951), and such
 * an archive is read. All else is left to tar: files with data, hard links, sockets, long names, other archives.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Each returns 1 when it is done, 0 when it is a case for tar, nothing having been touched, and -errno on failure. */

/* The tree of directory fd `dir` to fd `out`. */
int criu_tmpfs_save(int dir, int out);
/* The archive in fd `in` (a file; its offset stays when this is a case for tar) into the directory. */
int criu_tmpfs_load(int in, const char *directory);

/* The same for an archive in memory. */
int criu_tmpfs_extract(const unsigned char *archive, size_t len, const char *directory);
