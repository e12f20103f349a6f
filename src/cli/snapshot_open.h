/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot, or a template, that is looked at or used: locked, with its manifest read. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/err.h"
#include "base/util.h"
#include "snapshot/manifest.h"
#include "snapshot/store.h"

/* An empty file beside the manifest of what came from elsewhere. Only this host makes it, so no archive can be without.
 */
#define SNAPSHOT_IMPORTED "imported"

enum snapshot_kind { SNAPSHOT_KIND_SNAPSHOT, SNAPSHOT_KIND_TEMPLATE };

const char *snapshot_kind_name(enum snapshot_kind kind);                             /* "snapshot", "template" */
const char *snapshot_kind_dir(enum snapshot_kind kind, const struct config *config); /* of the store */

struct snapshot {
    int fd; /* of its directory, with a shared lock; owned */
    bool imported;
    struct manifest manifest;
};
#define SNAPSHOT_NONE                                                                                                  \
    (struct snapshot) {                                                                                                \
        .fd = -1                                                                                                       \
    }

/* Errors: -ENOENT "there is no …", also when there is no store; -EPERM, -EBADMSG as of store.h and manifest.h. */
int snapshot_open(enum snapshot_kind kind, const char *dir, const char *name, struct snapshot *ret, struct err *err);

/* Compares all of it with its digests, with a line of progress. -EBADMSG names the item that differs. */
int snapshot_verify(const struct snapshot *s, const char *name, struct err *err);

void snapshot_close(struct snapshot *s); /* accepts SNAPSHOT_NONE */
#define cleanup_snapshot CLEANUP(snapshot_close)

/* What all files of it take on the disk, bytes. */
uint64_t snapshot_disk_usage(int fd);
