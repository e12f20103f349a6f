/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Destinations of bind mounts without symbolic links. crun follows links when it mounts, but names the mounts to CRIU
 * in a checkpoint and a restore by a path that is not always the one where they are (an absolute link, as /var/run is
 * one in most images, makes a double slash). So it gets a specification whose destinations are real.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

#define MOUNT_PATHS_LINKS_MAX 40 /* in one path */

/* Follows the links of the root file system (root.path of the specification) in mounts[].destination of bind mounts; a
 * path is left alone from the mount point of an earlier mount on, whose content is not looked at. What cannot be
 * followed stays as it is, for crun to refuse. *ret_changed: the specification was changed. */
int mount_paths_resolve(json_t *spec, bool *ret_changed, struct err *err);
