/* SPDX-License-Identifier: Apache-2.0 */
/* Mount points of a container that is restored: crun makes what is missing of them when it creates a container, but not
 * when CRIU mounts. */
#pragma once

#include <stddef.h>

#include "base/err.h"

/* Makes those that would be in the root or in a bind mount of the share at `share` (INIT_SHARE_DIR in the
 * specification): a volume that is empty, or a root that is not the one of the checkpoint. What is on a tmpfs comes
 * back with it. Nothing is made through a symbolic link, which is left to CRIU. */
int mount_points_make(const char *share, const char *spec, size_t len, struct err *err);
