/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/new_sandbox.h"

#include "base/fd.h"
#include "base/log.h"
#include "cli/teardown.h"

int new_sandbox_start(struct new_sandbox *n, const struct cli *cli, const char *bundle, uint64_t timeout,
                      struct err *err) {
    int connection = -1;
    int r = sandbox_start_daemon(&n->dir, cli, bundle, &n->daemon, &connection, err);
    if (r < 0)
        return r;
    if (proc_start_time(n->daemon.pid, &n->daemon_start) < 0)
        n->daemon_start = 0; /* died already: the session will tell */
    return session_open_fd(&n->session, &n->dir, connection, timeout, err);
}

void new_sandbox_remove(struct new_sandbox *n) {
    struct err problem = ERR_INIT;
    if (teardown_sandbox(&n->dir, &n->session, n->daemon.pid, n->daemon_start, &problem) < 0)
        log_error("%s", problem.msg);
    if (n->daemon.pid > 0)
        proc_kill(&n->daemon); /* it has ended; this reaps it */
}

void new_sandbox_close(struct new_sandbox *n) {
    session_close(&n->session);
    fd_close(n->daemon.pidfd);
    sandbox_dir_close(&n->dir);
    *n = NEW_SANDBOX_NONE;
}
