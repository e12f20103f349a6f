/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A task's root file system as containerd hands it over: CreateTaskRequest.rootfs, a list of mounts that a snapshotter
 * made up. They are mounted in this process's mount namespace, which must already be the daemon's own.
 *
 * Options mean what they mean to containerd (mount/mount_linux.go of 1.6): the names of fstab(5) set flags, a later one
 * overrides an earlier one; "loop" attaches the source, a file, to a loop device that goes with the mount; everything
 * else is for the file system. Different from containerd:
 * - the flags of a bind mount (ro, nosuid, noatime, …) all apply, and with "rbind" to every mount below it too; the
 *   mount is never visible without them;
 * - the type "bind" alone is a bind mount;
 * - private, shared, slave, unbindable and the recursive r… forms set the propagation after mounting;
 * - options that begin with "X-containerd." are for containerd's own mount managers and are passed over;
 * - refused are "remount", since it could not be taken back, the types "fuse.*" and "fuse3.*", which need a helper
 *   program, and "uidmap=" and "gidmap=" of containerd 2: id-mapped mounts are not made here.
 * containerd is host root: any file system of the kernel may be named, from any source.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"

#define ROOTFS_MOUNTS_MAX 64                  /* of one list */
#define ROOTFS_OPTIONS_MAX 256                /* of one mount */
#define ROOTFS_OPTION_MAX ((size_t)128 << 10) /* bytes of one option; a lowerdir names up to 500 directories */
#define ROOTFS_UNMOUNTS_MAX 1024              /* mounts that rootfs_unmount takes away */

struct rootfs_mount {
    const char *type, *source; /* NULL is "" */
    const char *target;        /* a path below dir, which must be there; NULL, "" or "/" is dir itself */
    char *const *options;
    size_t n_options;
};

/* Mounts all of them in order at dir (absolute; made with mode 0711 if missing) or below it, or none: on failure what
 * was mounted is unmounted again. A target is resolved without following symbolic links, in what the mounts before it
 * brought. Options of an overlay that do not fit a page have their lower directories made relative to their common
 * parent; for that one call the working directory is changed (there are no threads) and changed back by fchdir().
 * Errors: -EINVAL (dir, an option, a bound), -EXDEV or -ELOOP (a target that leaves dir or is a symbolic link), -E2BIG
 * (options longer than a page), -ENODEV (no such file system), mount's. The message names the mount. */
int rootfs_mount(const struct rootfs_mount *mounts, size_t n, const char *dir, struct err *err);

/* Unmounts (lazily) everything that is mounted at dir or below it, also what is stacked. Never follows a symbolic link
 * at dir. It is no error if there is nothing, nor if dir is missing. Errors: -ELOOP when ROOTFS_UNMOUNTS_MAX were not
 * enough. */
int rootfs_unmount(const char *dir, struct err *err);
