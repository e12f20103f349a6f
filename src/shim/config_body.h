/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A configuration that containerd hands over as text (runtimeoptions.v1.Options.config_body).
 *
 * The CRI plugin (containerd 1.7 on) and Docker write it: the table `options` of the runtime in their own
 * configuration, as TOML, all of it. For the keys of stasis.conf that is nearly the file's form: only the quotes of
 * strings differ, and that the options of containerd itself (TypeUrl and the like) stand before the first section. Both
 * forms are read.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "base/err.h"

#define CONFIG_BODY_NAME "runtime options (config_body)" /* stands for the file in messages */

/* Reads body over what config holds. Errors, with the line and without a change: -EINVAL, -EFBIG (CONFIG_FILE_MAX),
 * -ENOMEM. */
int config_body_parse(const uint8_t *body, size_t len, struct config *config, struct err *err);
