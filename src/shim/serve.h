/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/err.h"
#include "shim/cmdline.h"

/*
 * The sandbox daemon, one per VM. The listening socket is fd 3, the sandbox's directory ROOT/ID. It ends on Shutdown,
 * on SIGTERM, and by itself when it has no container and nobody is connected: then whoever started it is gone.
 */
int shim_serve(const struct cmdline *c, struct err *err);
