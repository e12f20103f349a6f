/* SPDX-License-Identifier: Apache-2.0 */
/* Whether users of this host other than root can come to a directory. */
#pragma once

#include "base/err.h"

/* 1: they can, or one could who owns a directory above; 0: a directory above keeps them out. */
int reach_by_others(const char *path, struct err *err);
