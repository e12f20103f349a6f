/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/delete.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "cli/task.h"
#include "cli/teardown.h"
#include "snapshot/store.h"

#define KILL_TIMEOUT (10 * USEC_PER_SEC)

static int kill_and_wait(struct session *s, const char *id, struct err *err) {
    uint32_t status;
    /* It may end by itself meanwhile; whether it has ended is what the wait tells. */
    struct err ignored = ERR_INIT;
    if (task_kill(s, id, "", SIGKILL, true, &ignored) < 0)
        log_debug("kill: %s", ignored.msg);
    int r = task_wait(s, id, "", KILL_TIMEOUT, &status, err);
    return r < 0 ? err_wrap(err, "container %s does not end after SIGKILL", id) : 0;
}

static int delete_live(struct lookup *l, struct session *s, const char *id, bool force, struct err *err) {
    int r = 0;
    const char *status = l->container->status;
    bool own_sandbox = strcmp(l->dir.id, id) == 0;
    /* One that is being created cannot be killed or deleted yet, only its machine be switched off. */
    if (own_sandbox && strcmp(status, "creating") == 0)
        return teardown_sandbox(&l->dir, s, l->state.daemon_pid, l->state.daemon_start, err);
    /* One that was never started is simply deleted. */
    if (strcmp(status, "stopped") != 0 && strcmp(status, "created") != 0)
        r = kill_and_wait(s, id, err);
    if (r == 0) {
        r = task_delete(s, id, "", NULL, err);
        if (r == -ENOENT)
            r = 0; /* another delete was faster */
    }
    if (r < 0 && force && own_sandbox) {
        /* Its machine is switched off instead: nothing in it outlives that. */
        log_warn("%s; the sandbox is ended all the same", err->msg);
        r = 0;
    }
    /* A pod's sandbox lives as long as its manager wants it to. */
    if (r < 0 || !own_sandbox)
        return r;
    return teardown_sandbox(&l->dir, s, l->state.daemon_pid, l->state.daemon_start, err);
}

/* A directory without a container: its maker was killed, or is still at work. */
static int delete_stateless(const struct cli *cli, const char *id, bool force, struct err *err) {
    cleanup_sandbox_dir struct sandbox_dir dir = SANDBOX_DIR_NONE;
    cleanup_session struct session s = {0};
    int r = sandbox_dir_open(cli->root, id, &dir, err);
    if (r == -ENOENT && force)
        return 0;
    if (r < 0)
        return r;
    if (!force)
        return err_set(err, EBUSY, "container %s is being created, or its creation was cut off (use --force)", id);
    r = session_open(&s, &dir, KILL_TIMEOUT, NULL);
    return teardown_sandbox(&dir, r == 0 ? &s : NULL, 0, 0, err);
}

/* The daemon is dead, or does not answer. */
static int delete_dead(const struct cli *cli, const struct lookup *l, struct err *err) {
    int r = teardown_sandbox(&l->dir, NULL, l->state.daemon_pid, l->state.daemon_start, err);
    struct config config;
    if (r < 0 || cli_load_config(cli, &config, NULL) < 0)
        return r;
    store_tidy(config.snapshot_dir); /* a snapshot that it was making, what a copy of one has written */
    store_tidy(config.template_dir);
    return 0;
}

int delete_container(const struct cli *cli, const char *id, bool force, struct err *err) {
    cleanup_lookup struct lookup l = LOOKUP_NONE;
    cleanup_session struct session s = {0};
    int r = lookup_container(cli, id, &l, err);
    if (r == -ENOENT || (r < 0 && force && r != -ENOMEM))
        return delete_stateless(cli, id, force, err);
    if (r < 0)
        return r;
    if (!oci_sandbox_daemon_alive(&l.state))
        return delete_dead(cli, &l, err);
    const char *status = l.container->status;
    if (!force && strcmp(status, "stopped") != 0 && strcmp(status, "created") != 0)
        return err_set(err, EBUSY, "cannot delete container %s that is not stopped: %s", id, status);
    if (l.silent && !force)
        return err_set(err, ETIMEDOUT, "cannot delete container %s: its daemon (pid %d) does not answer (use --force)",
                       id, (int)l.state.daemon_pid);
    if (l.silent && strcmp(l.dir.id, id) == 0)
        return delete_dead(cli, &l, err);
    r = lookup_connect(cli, &l, &s, err);
    if (r == 0)
        r = delete_live(&l, &s, id, force, err);
    if (r < 0 && s.closed) /* it died under our hands */
        r = delete_dead(cli, &l, err);
    return r;
}

/* Its socket is where containerd looks for it. */
static bool is_containerds(const struct lookup *l) {
    struct stat st;
    return fstatat(l->dir.fd, "api.sock", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
}

int delete_ended(struct lookup *l, struct session *s, const char *id, struct err *err) {
    struct err e = ERR_INIT;
    if (is_containerds(l))
        return 0;
    l->container->status = "stopped"; /* by now, whatever it was when it was looked up */
    int r = delete_live(l, s, id, true, &e);
    if (r < 0 && s->closed) /* a `run` in the foreground has ended it, or it died */
        return teardown_sandbox(&l->dir, s, l->state.daemon_pid, l->state.daemon_start, err);
    return r < 0 ? err_copy(err, &e) : 0;
}
