/* SPDX-License-Identifier: Apache-2.0 */
/* CRIU's own account of a dump or a restore. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define CRIU_STATS_DUMP "stats-dump"
#define CRIU_STATS_RESTORE "stats-restore"

struct criu_stats {
    bool has_dump, has_restore;
    struct {
        uint32_t freezing_usec, frozen_usec, memdump_usec, memwrite_usec, irmap_resolve_usec;
        uint64_t pages_scanned, pages_skipped_parent, pages_written, pages_lazy;
        uint64_t page_pipes, page_pipe_bufs;
        uint64_t shpages_scanned, shpages_skipped_parent, shpages_written; /* of shared memory */
    } dump;
    struct {
        uint32_t forking_usec, restore_usec;
        uint64_t pages_compared, pages_skipped_cow, pages_restored;
    } restore;
};

/* Reads CRIU_STATS_DUMP or CRIU_STATS_RESTORE below dirfd. Errors: criu_image_open()'s, -EINVAL when it is damaged. */
int criu_stats_read(int dirfd, const char *name, struct criu_stats *ret, struct err *err);
