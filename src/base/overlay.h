/* SPDX-License-Identifier: Apache-2.0 */
/* The directories of an overlay that somebody else has mounted, from its mount options. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/util.h"

struct overlay {
    char *upper;  /* owned, as the other; NULL: it has none, or there is no overlay */
    char *lower;  /* as mount(2) takes it: one after the other, colons between them, a backslash before one in a name */
    bool special; /* its layers cannot be mounted again by these two alone: overlay_is_special() */
};

/* Whether a mount option changes what the files in the layers mean: data in other layers (metacopy, datadir+, verity),
 * attributes under other names (userxattr). */
bool overlay_is_special(const char *option, size_t len);

/* Looks whether an overlay, the whole of it, is mounted at path; it is no error if none is. */
int overlay_find(const char *path, struct overlay *ret, struct err *err);
void overlay_clear(struct overlay *o);
#define cleanup_overlay CLEANUP(overlay_clear)

/*
 * Opens the lower directories as one tree: itself if there is one; if there are several, an overlay of them without an
 * upper one, which lives as long as the fd. It is mounted for a moment on `dir`, an empty directory (trusted). Errors:
 * -EOPNOTSUPP for names that are relative, to a directory that only who mounted it knows; -E2BIG for more names than
 * mount(2) takes; mount's.
 */
int overlay_open_lower(const struct overlay *o, const char *dir, struct err *err);
