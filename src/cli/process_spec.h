/* SPDX-License-Identifier: Apache-2.0 */
/* The OCI process object of `exec`: from a file, or from the container's own with the command line's changes. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/util.h"

struct process_options {
    const char *file; /* --process; the options below are then ignored but `tty` */
    const char *cwd, *user, *apparmor, *label;
    struct strv env, caps, additional_gids;
    bool tty, no_new_privs;
};

/* "UID" or "UID:GID", decimal, at most 2^32 - 2. Without GID *ret_gid stays as it was. Errors name the text. */
int process_parse_user(const char *text, uint32_t *ret_uid, uint32_t *ret_gid, struct err *err);

/* "CAP_NET_ADMIN", in any case and with or without "CAP_"; buf gets it in the specification's form. */
int process_parse_cap(const char *text, char *buf, size_t size, struct err *err);

/*
 * Builds the object, as runc does: `container` (the process object of the container's config.json, not changed) with
 * the arguments replaced and the options applied; --env and --additional-gids add, --cap adds to all sets. Owned by the
 * caller. Without file there must be arguments.
 */
int process_spec_build(const json_t *container, const struct process_options *o, int n_args, char *const *args,
                       json_t **ret, struct err *err);

/* Reads --process FILE. */
int process_spec_load(const struct process_options *o, json_t **ret, struct err *err);
