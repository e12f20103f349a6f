/* SPDX-License-Identifier: Apache-2.0 */
/* Loop devices: a file as a block device, for as long as it is mounted. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

#define LOOP_NAME_MAX 32 /* "/dev/loop1048575" */

/* Attaches the file to a free loop device, whose path goes to name. Returns a fd of the device, owned by the caller:
 * the kernel detaches the file when the last user is gone, so mount the device, then close the fd. Needs root. Errors:
 * those of opening the file; -ENOENT when this kernel has no loop devices; -EBUSY when others take every one first. */
int loop_attach(const char *file, bool read_only, char name[LOOP_NAME_MAX], struct err *err);
