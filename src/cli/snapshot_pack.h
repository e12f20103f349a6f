/* SPDX-License-Identifier: Apache-2.0 */
/* Directory trees to and from entries of a snapshot's archive (snapshot_archive.h). */
#pragma once

#include "base/err.h"
#include "cli/snapshot_archive.h"
#include "oci/archive_put.h"

/* Adds the directory dirfd as `name`, and all in it: type, mode, owner, time, extended attributes, hard links within
 * it, holes. -EFBIG beyond SNAPSHOT_LINKS_MAX or SNAPSHOT_PATH_MAX. */
int snapshot_pack_tree(struct archive_put *put, int dirfd, const char *name, struct err *err);
