/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/err.h"
#include "proto/agent.pb-c.h"

/* A copy for the agent that the caller frees with …__free_unpacked(); NULL of NULL. The log level is not the guest's
 * affair (image_dir_collect_work()) and left out. -ENOMEM. */
int criu_options_copy(const Stasis__Agent__V1__CriuOptions *in, Stasis__Agent__V1__CriuOptions **ret, struct err *err);
