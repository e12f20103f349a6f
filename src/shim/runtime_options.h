/* SPDX-License-Identifier: Apache-2.0 */
/* The options that containerd keeps for a runtime and gives to a sandbox when it is made. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "base/err.h"

#define RUNTIME_OPTIONS_MAX (CONFIG_FILE_MAX + ((size_t)64 << 10)) /* bytes of the message */

/*
 * Applies the options in data, a message of type type_url: what stands before its last '/' is not looked at.
 *
 * ""                            nothing
 * runtimeoptions.v1.Options     (ctr --runtime-config-path, CRI, Docker) config_path, an absolute path, is read in the
 *                               place of the host's stasis.conf; config_body (config_body.h) over that. Its own
 * type_url says what the configuration is: empty, or io.containerd.stasis.v2.options containerd.runc.v1.Options    what
 * has a meaning for runc only is ignored and logged
 *
 * config holds the host's configuration and is unchanged on failure. Errors, naming the container and the type or file:
 * -EINVAL (another type, a damaged message, a bad configuration), -EFBIG, and those of config_load().
 */
int runtime_options_apply(const char *container_id, const char *type_url, const uint8_t *data, size_t len,
                          struct config *config, struct err *err);
