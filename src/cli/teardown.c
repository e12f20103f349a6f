/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/teardown.h"

#include "base/log.h"
#include "cli/task.h"

#define SHUTDOWN_TIMEOUT (10 * USEC_PER_SEC)

int teardown_sandbox(const struct sandbox_dir *dir, struct session *session, pid_t daemon_pid, uint64_t daemon_start,
                     struct err *err) {
    struct err problem = ERR_INIT;
    if (session && session->client && !session->closed) {
        session->interrupt = 0;
        /* A daemon that ends before it has answered is as good as one that answers. */
        if (task_shutdown(session, dir->id, true, SHUTDOWN_TIMEOUT, &problem) < 0 && !session->closed)
            log_warn("cannot shut the sandbox %s down: %s", dir->id, problem.msg);
    }
    sandbox_await_daemon(daemon_pid, daemon_start, SHUTDOWN_TIMEOUT);
    return sandbox_dir_remove(dir, err);
}
