/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/criu_stats.h"

#include "oci/criu_image.h"
#include "proto/criu.pb-c.h"

int criu_stats_read(int dirfd, const char *name, struct criu_stats *ret, struct err *err) {
    cleanup_criu_message ProtobufCMessage *m = NULL;
    int r = criu_image_read_one(dirfd, name, CRIU_STATS, &criu__stats__descriptor, &m, err);
    if (r < 0)
        return r;
    const Criu__Stats *stats = (const Criu__Stats *)m;
    struct criu_stats s = {.has_dump = stats->dump, .has_restore = stats->restore};
    if (stats->dump) {
        const Criu__DumpStats *d = stats->dump;
        s.dump.freezing_usec = d->freezing_time;
        s.dump.frozen_usec = d->frozen_time;
        s.dump.memdump_usec = d->memdump_time;
        s.dump.memwrite_usec = d->memwrite_time;
        s.dump.irmap_resolve_usec = d->irmap_resolve;
        s.dump.pages_scanned = d->pages_scanned;
        s.dump.pages_skipped_parent = d->pages_skipped_parent;
        s.dump.pages_written = d->pages_written;
        s.dump.pages_lazy = d->pages_lazy;
        s.dump.page_pipes = d->page_pipes;
        s.dump.page_pipe_bufs = d->page_pipe_bufs;
        s.dump.shpages_scanned = d->shpages_scanned;
        s.dump.shpages_skipped_parent = d->shpages_skipped_parent;
        s.dump.shpages_written = d->shpages_written;
    }
    if (stats->restore) {
        const Criu__RestoreStats *d = stats->restore;
        s.restore.forking_usec = d->forking_time;
        s.restore.restore_usec = d->restore_time;
        s.restore.pages_compared = d->pages_compared;
        s.restore.pages_skipped_cow = d->pages_skipped_cow;
        s.restore.pages_restored = d->pages_restored;
    }
    *ret = s;
    return 0;
}
