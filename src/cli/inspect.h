/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

/* Prints what a checkpoint (an archive, or a directory of images) holds: the container and its engine, CRIU's version,
 * the processes with their memory and open files, sizes, and whether it can be restored here. */
int inspect_checkpoint(const char *path, bool json, struct err *err);
