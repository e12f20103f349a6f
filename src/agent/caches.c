/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/caches.h"

#include <fcntl.h>
#include <linux/membarrier.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/proc.h"
#include "base/util.h"

#define BARRIER_CALLS 3
#define GRACE_PERIODS 8 /* what one frees may free more: a network namespace takes several */
#define WARM_TIMEOUT_USEC (10 * USEC_PER_SEC)

void caches_sync(void) {
    sync();
}

int caches_drop(const char *share, struct err *err) {
    int r = file_write_at(AT_FDCWD, "/proc/sys/vm/drop_caches", "3", err);
    if (r < 0)
        return r;
    /* That an inode is forgotten is said to the host by messages without answer. They are on their way before this
     * question, and the server takes what came in one after the other. */
    for (int i = 0; i < BARRIER_CALLS; i++) {
        struct statx sx;
        if (statx(AT_FDCWD, share, AT_STATX_FORCE_SYNC, STATX_MODE, &sx) < 0)
            return err_errno(err, errno, "the share does not answer");
    }
    return 0;
}

int caches_shrink(struct err *err) {
    return file_write_at(AT_FDCWD, "/proc/sys/vm/compact_memory", "1", err);
}

void caches_settle(void) {
    /* With one CPU the call does not wait; and what was put off runs a little after it. */
    const struct timespec tick = {.tv_nsec = 10 * 1000 * 1000};
    for (int i = 0; i < GRACE_PERIODS; i++) {
        (void)syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
        (void)nanosleep(&tick, NULL);
    }
}

void caches_warm(const char *crun) {
    char *const argv[] = {(char *)crun, (char[]){"--version"}, NULL};
    struct proc_spec spec = {.path = crun, .argv = argv};
    (void)proc_run(&spec, WARM_TIMEOUT_USEC, NULL);
}
