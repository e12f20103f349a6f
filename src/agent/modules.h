/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel modules, loaded when something of ours needs them. (What programs in the guest need, the kernel asks
 * /sbin/modprobe for.) modules.dep is depmod's: "path: path path", each path relative, the last dependency to be loaded
 * first.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "base/util.h"

#define MODULES_DIR "/lib/modules"
#define MODULES_DEP_MAX ((size_t)4 << 20)

/* Finds `name` ('-' and '_' are the same) in the text of modules.dep and adds to ret the paths to load, in order.
 * -ENOENT when there is no such module. */
int modules_parse_dep(const char *dep, const char *name, struct strv *ret, struct err *err);

/* Loads them and what they need, from MODULES_DIR/<kernel release>; one that is loaded or built in is no error. */
int modules_load(const char *const *names, size_t n, struct err *err);
