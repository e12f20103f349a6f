/* SPDX-License-Identifier: Apache-2.0 */
/* Long work that blocks, with a line of progress on the terminal (progress.h) while it lasts. */
#pragma once

#include "base/err.h"

/* Calls fn: on a terminal in a child process, so that its effects are those on files alone; else here. The child ends
 * with us. Returns what fn does, with its error. */
int background_run(const char *what, int (*fn)(void *userdata, struct err *err), void *userdata, struct err *err);
