/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/caches.h"

#include <fcntl.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/proc.h"
#include "base/util.h"

#define BARRIER_CALLS 3
#define GRACE_PERIODS 8 /* what one frees may free more: a network namespace takes several */
#define WARM_TIMEOUT_USEC (20 * USEC_PER_SEC)
#define ATTEMPT "stasis-attempt"
#define ATTEMPT_DIR AGENT_RUN_DIR "/" ATTEMPT

void caches_sync(void) {
    sync();
}

int caches_tell_host(const char *share, struct err *err) {
    /* That an inode is forgotten is said to the host by messages without answer. They are on their way before this
     * question, and the server takes what came in one after the other. */
    for (int i = 0; i < BARRIER_CALLS; i++) {
        struct statx sx;
        if (statx(AT_FDCWD, share, AT_STATX_FORCE_SYNC, STATX_MODE, &sx) < 0)
            return err_errno(err, errno, "the share does not answer");
    }
    return 0;
}

int caches_drop(const char *share, struct err *err) {
    int r = file_write_at(AT_FDCWD, "/proc/sys/vm/drop_caches", "3", err);
    return r < 0 ? r : caches_tell_host(share, err);
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

/* Its program need not run, only be there. */
static const char attempt[] =
    "{\"ociVersion\":\"1.0.2\",\"process\":{\"args\":[\"/none\"],\"cwd\":\"/\",\"user\":{\"uid\":0,\"gid\":0}},"
    "\"root\":{\"path\":\"root\"},\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\"},"
    "{\"destination\":\"/dev\",\"type\":\"tmpfs\",\"source\":\"tmpfs\"}],\"linux\":{\"cgroupsPath\":\"/" ATTEMPT "\","
    "\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"mount\"},{\"type\":\"ipc\"},{\"type\":\"uts\"}]}}";

static int write_bundle(struct err *err) {
    if (mkdir(ATTEMPT_DIR, 0700) < 0 || mkdir(ATTEMPT_DIR "/root", 0700) < 0)
        return err_errno(err, errno, "cannot make " ATTEMPT_DIR);
    cleanup_fd int program = open(ATTEMPT_DIR "/root/none", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    cleanup_fd int config = open(ATTEMPT_DIR "/config.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int r = program < 0 || config < 0 ? -errno : fd_write_all(config, attempt, strlen(attempt));
    return r < 0 ? err_errno(err, -r, "cannot write in " ATTEMPT_DIR) : 0;
}

static int run_crun(const char *crun, const char *command, const char *option, struct err *err) {
    char *const argv[] = {
        (char *)crun, (char[]){"--cgroup-manager=cgroupfs"}, (char *)command, (char *)option, (char[]){ATTEMPT}, NULL};
    struct proc_spec spec = {.path = crun, .argv = argv};
    return proc_run(&spec, WARM_TIMEOUT_USEC, err);
}

void caches_warm(const char *crun) {
    struct err err = ERR_INIT;
    int r = write_bundle(&err);
    if (r == 0)
        r = run_crun(crun, "create", "--bundle=" ATTEMPT_DIR, &err);
    if (r == 0)
        r = run_crun(crun, "delete", "--force", &err);
    if (r < 0)
        log_warn("what starts need is not read ahead: %s", err.msg);
    (void)path_remove_tree(AT_FDCWD, ATTEMPT_DIR, NULL);
}
