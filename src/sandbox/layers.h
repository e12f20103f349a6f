/* SPDX-License-Identifier: Apache-2.0 */
/* The directories of an overlay that is a container's root: what a snapshot copies, and what it stands on. */
#pragma once

#include "base/err.h"
#include "base/util.h"
#include "sandbox/rootfs.h"

struct layers {
    char *upper;        /* NULL: the root is no overlay with an upper directory */
    struct strv lowers; /* topmost first */
};

void layers_clear(struct layers *l); /* accepts a zeroed one */

/* Of a mount that was made: stays empty unless it is an overlay at the top of the root with an upper directory and
 * absolute lower ones, and no option that overlay_is_special() names. */
int layers_of_mount(const struct rootfs_mount *m, struct layers *ret, struct err *err);

/* Of an overlay that somebody else has mounted at the root directory `dir` (Podman's, a bundle's own): stays empty in
 * the same cases, for a directory below the overlay's top, and for lower directories that no second mount would take.
 */
int layers_of_dir(const char *dir, struct layers *ret, struct err *err);

/* Mounts an overlay at `at` (made if missing): `upper` and `work` are directories on one file system, lowers topmost
 * first. -EINVAL for paths that its option cannot hold. */
int layers_mount(const struct strv *lowers, const char *upper, const char *work, const char *at, struct err *err);
