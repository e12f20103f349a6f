/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What crun says when it fails, as a code and a message in the words of the OCI runtimes. containerd, Podman and our
 * CLI look for runc's words ("executable file not found in $PATH") to tell exit code 127 from 126 from the rest.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"

#define CRUN_LOG_MAX ((size_t)256 << 10) /* of its log, bytes; what is beyond is not read */

/* Takes crun's log (JSON objects; anything else is skipped), of len bytes, and sets err from its first error that is
 * not copied from CRIU's log. Without one: -EIO "no message". Never returns 0. */
int crun_error_from_log(const char *log, size_t len, struct err *err);

/* The same for one message. */
int crun_error_from_message(const char *msg, struct err *err);
