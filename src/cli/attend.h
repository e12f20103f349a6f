/* SPDX-License-Identifier: Apache-2.0 */
/* Attaching to a process that runs: what `attach` and `snapshot restore --attach` share. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "cli/cli.h"

struct attend_options {
    const char *exec_id;     /* NULL: the container's init; else find_exec's `wanted` */
    const char *detach_keys; /* NULL: DETACH_KEYS_DEFAULT */
    bool no_stdin, no_sig_proxy;
};

/* Before anything else is done: -EINVAL. */
int attend_check(const struct attend_options *o, struct err *err);

/*
 * Connects our stdio to the process and stays until it ends, or the keys are typed. Returns its exit code;
 * *ret_detached is set when it goes on without us (then the code is 0, or 128 + the signal that came). Errors: -ENOENT,
 * -EBUSY when its stdio is connected already.
 */
int attend(const struct cli *cli, const char *id, const struct attend_options *o, bool *ret_detached, struct err *err);

/* Connects a container's outputs to a log file (opened for appending, made with mode 0600) and leaves. */
int attend_log(const struct cli *cli, const char *id, const char *path, struct err *err);
