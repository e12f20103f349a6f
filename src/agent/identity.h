/* SPDX-License-Identifier: Apache-2.0 */
/* What makes a copied machine one of its own: random numbers, machine ids, host names; and the boot id (boot_id.h). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "agent/agent.h"
#include "base/err.h"

#define IDENTITY_RANDOM "/dev/urandom"
#define IDENTITY_ENTROPY_MIN 32 /* bytes */
#define IDENTITY_ENTROPY_MAX 4096
#define IDENTITY_UUID_LEN 36

struct identity_name {
    const char *id;       /* of a container */
    const char *hostname; /* "" leaves it */
};

/* Feeds the kernel's generator, and makes all who draw from it begin anew. device: IDENTITY_RANDOM. -EINVAL when there
 * are fewer than IDENTITY_ENTROPY_MIN bytes, or too many. */
int identity_reseed(const char *device, const void *entropy, size_t len, struct err *err);

/* A random UUID (version 4). */
int identity_uuid(char ret[IDENTITY_UUID_LEN + 1], struct err *err);

/* A new machine id in the file etc/machine-id below root, if it holds one: a regular file of the root's own file system
 * with 32 hexadecimal digits. 1: written; 0: there is none, or it cannot be written, which is logged with `who`. */
int identity_machine_id(int root, const char *who, struct err *err);

/* New machine ids for all containers, and host names for those named. Is in their uts namespaces meanwhile; after an
 * error perhaps for good. */
int identity_renew(const struct agent *a, const struct identity_name *names, size_t n, struct err *err);
