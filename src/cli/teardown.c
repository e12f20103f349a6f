/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/teardown.h"

#include "base/config.h"
#include "base/log.h"
#include "cli/task.h"
#include "oci/remains.h"

#define SHUTDOWN_TIMEOUT (5 * USEC_PER_SEC) /* the answer comes before anything is done */
#define END_TIMEOUT (10 * USEC_PER_SEC)

/* False when the daemon, which hangs, did not take it. */
static bool ask_to_end(const struct sandbox_dir *dir, struct session *session) {
    struct err problem = ERR_INIT;
    session->interrupt = 0;
    int r = task_shutdown(session, dir->id, true, SHUTDOWN_TIMEOUT, &problem);
    /* A daemon that ends before it has answered is as good as one that answers. */
    if (r < 0 && !session->closed)
        log_warn("cannot shut the sandbox %s down: %s", dir->id, problem.msg);
    return r == 0 || session->closed;
}

int teardown_sandbox(const struct sandbox_dir *dir, struct session *session, pid_t daemon_pid, uint64_t daemon_start,
                     struct err *err) {
    cleanup_sandbox_state struct oci_sandbox_state st = {0};
    char path[40];
    int r = 0;
    /* One that has closed the connection is ending. */
    if (session && session->client && (session->closed || ask_to_end(dir, session)))
        (void)sandbox_await_daemon(daemon_pid, daemon_start, END_TIMEOUT);
    /* By the directory that was opened: another sandbox may have its name by now. One that ended in order is gone. */
    snprintf(path, sizeof(path), "/proc/self/fd/%d", dir->fd);
    if (oci_sandbox_state_load(path, &st, NULL) < 0)
        st = (struct oci_sandbox_state){.daemon_pid = daemon_pid, .daemon_start = daemon_start};
    if (st.daemon_pid > 0)
        r = sandbox_remains_clear(&st, err);
    return r < 0 ? r : sandbox_dir_remove(dir, err);
}
