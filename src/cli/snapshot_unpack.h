/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The roots of an archive that somebody else made, entry by entry.
 *
 * Theory of operation. Entries come depth first, a directory before what is in it: the directories from the top to the
 * last entry's are open, and an entry is made in one of them by its last name, as a new file. So no path is ever walked
 * again, and nothing can be placed through a link. What does not come in that order, or twice, is refused.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/err.h"
#include "cli/snapshot_archive.h"
#include "snapshot/tree_socket.h"

struct snapshot_unpack_level;

struct snapshot_unpack {
    struct archive_tar *tar;
    int dirfd;      /* of the snapshot; not owned */
    size_t n_roots; /* roots/0 … are allowed */
    bool allow_devices;
    size_t lost_sockets; /* names of sockets that are there and lead nowhere in a copy: the result */
    /* The rest is snapshot_unpack.c's. */
    int roots_fd, sockets_fd;
    struct tree_sockets sockets;
    struct snapshot_unpack_level *levels; /* the open directories: levels[0] is roots/<n> */
    size_t n, room;
};

/* Makes roots/ in u->dirfd, and something that is gone at the end. Fill in the public fields first. */
int snapshot_unpack_begin(struct snapshot_unpack *u, struct err *err);

/* Takes the entry whose path from the archive's top is `path`: "roots", or below it. Changes path. */
int snapshot_unpack_entry(struct snapshot_unpack *u, struct archive_entry *e, char *path, struct err *err);

/* Behind the last entry: what the directories that are open are still to get. */
int snapshot_unpack_end(struct snapshot_unpack *u, struct err *err);
void snapshot_unpack_clear(struct snapshot_unpack *u);
#define cleanup_snapshot_unpack CLEANUP(snapshot_unpack_clear)
