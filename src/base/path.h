/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths and ids.
 *
 * Below a directory that another party can write (a container's root, an archive, the share) nothing is opened by a
 * plain path: path_open_beneath() neither leaves the directory nor follows a symbolic link.
 */
#pragma once

#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/err.h"

#define ID_MAX 128 /* bytes; longer ids would not fit a socket's path */

/* A container, exec or sandbox id: 1 to ID_MAX bytes of [A-Za-z0-9_+.-], not "." or "..", not starting with "-".
 * These are runc's characters. `what` names the kind of id in the message. Errors: -EINVAL. */
int id_validate(const char *what, const char *id, struct err *err);

/* malloc'd "a/b" without doubled slashes; b may not be NULL. NULL when out of memory. */
char *path_join(const char *a, const char *b);

/* True if path is absolute and has no "." or ".." component, no empty one and no trailing slash ("/" itself is normal).
 */
bool path_is_normal(const char *path);

/* Opens path relative to dirfd with openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS).
 * Returns the fd (O_CLOEXEC) or -errno: -EXDEV or -ELOOP when the path tries to leave or is a symbolic link. */
int path_open_beneath(int dirfd, const char *path, int flags, mode_t mode, struct err *err);

/* Creates path and its parents (trusted path). Directories that exist are left as they are. */
int path_mkdirs(const char *path, mode_t mode, struct err *err);

/* As path_mkdirs, below dirfd, never through a symbolic link. Returns an O_PATH fd of the directory, or -errno. */
int path_mkdirs_beneath(int dirfd, const char *path, mode_t mode, struct err *err);

/* Removes name below dirfd with everything in it. Never follows a symbolic link, never crosses into another mount.
 * It is no error if name is not there. */
int path_remove_tree(int dirfd, const char *name, struct err *err);

/* The directory that this program's executable is in (malloc'd), links resolved. */
int path_own_dir(char **ret, struct err *err);
