/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/restore.h"

#include <fcntl.h>
#include <string.h>

#include "agent/cgroup.h"
#include "agent/criu_job.h"
#include "agent/criu_left.h"
#include "agent/mount_points.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"

struct restore {
    struct container *c;
    struct criu_job job;
    agent_pid_fn fn;
    void *userdata;
    uint64_t timeout_usec;
};

/* Where the host's rewriting of the specification puts every container; malloc'd. */
static char *cgroup_path(const struct restore *k) {
    return str_printf("%s/" CGROUP_PARENT "/%s", k->job.agent->cgroup_root, k->job.id);
}

/* A CRIU that failed, or lost its crun, may have left processes behind. */
static void kill_remains(const struct restore *k) {
    cleanup_free char *path = cgroup_path(k);
    cleanup_fd int fd = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    struct err err = ERR_INIT;
    (void)criu_left_kill();
    if (fd >= 0 && cgroup_kill(fd, &err) < 0)
        log_warn("container %s: %s", k->job.id, err.msg);
}

/* The container may be gone. crun removes no cgroup of a container that it does not know, as after a failed restore. */
static void on_answer(void *userdata, pid_t pid, const struct err *err) {
    struct restore *k = userdata;
    cleanup_free char *path = err ? cgroup_path(k) : NULL;
    struct err remove_err = ERR_INIT;
    if (path && cgroup_remove(path, &remove_err) < 0)
        log_warn("container %s: %s", k->job.id, remove_err.msg);
    k->fn(k->userdata, pid, err);
    criu_job_clear(&k->job);
    free(k);
}

/* CRIU's words for a pid that another process has, in the namespace of a pod. */
static void explain_pid(struct err *err) {
    static const char words[] = "Can't fork for ";
    const char *p = strstr(err->msg, words);
    int pid;
    /* NOLINTNEXTLINE(cert-err34-c): only for a message */
    if (p && strstr(p, "File exists") && sscanf(p + strlen(words), "%d", &pid) == 1)
        err_append(err, "; pid %d is taken in the pid namespace that it shares", pid);
}

static void on_restored(void *userdata, struct crun_result *result) {
    struct restore *k = userdata;
    struct crun_result failed = *result; /* then without a terminal */
    struct err err = ERR_INIT;
    (void)FAULT(AGENT_RESTORED);
    k->job.status = result->status;
    criu_job_collect(&k->job);
    if (!result->err) {
        criu_job_read_mounts(&k->job, result->pid);
        criu_job_report(&k->job, NULL);
        container_created(k->c, result, CONTAINER_RUNNING, true, on_answer, k);
        return;
    }
    err_copy(&err, result->err);
    criu_job_explain(&k->job, &err);
    explain_pid(&err);
    err_wrap(&err, "cannot restore container %s", k->job.id);
    criu_job_report(&k->job, &err);
    kill_remains(k);
    failed.err = &err;
    container_created(k->c, &failed, CONTAINER_RUNNING, true, on_answer, k);
}

/* crun was not run: as if it had failed, with nothing left. */
static void give_up(struct restore *k, struct err *err) {
    err_wrap(err, "cannot restore container %s", k->c->id);
    struct crun_result result = {.err = err, .tty = -1};
    criu_job_report(&k->job, err);
    container_created(k->c, &result, CONTAINER_RUNNING, false, on_answer, k);
}

static void on_turn(void *userdata) {
    struct restore *k = userdata;
    struct container *c = k->c;
    struct err err = ERR_INIT;
    if (c->state != CONTAINER_RESTORING) {
        err_set(&err, ECANCELED, "it is %s", container_state_name(c->state));
        give_up(k, &err);
        return;
    }
    struct crun_request req = CRUN_REQUEST_INIT;
    criu_job_args(&k->job, &req);
    req.timeout_usec = k->timeout_usec;
    int r = criu_job_begin(&k->job, &err);
    if (r == 0)
        r = container_run_crun(c, &req, on_restored, k, &err);
    if (r < 0)
        give_up(k, &err);
}

static int prepare(struct restore *k, struct agent *a, const struct restore_request *req, struct err *err) {
    int r =
        criu_job_init(&k->job, a, req->container.id, CRIU_RESTORE, req->image_dir, req->work_dir, &req->options, err);
    if (r < 0)
        return r;
    r = strv_add(&k->job.argv, "--detach");
    r |= strv_addf(&k->job.argv, "--bundle=%s/%s", a->bundle_dir, req->container.id);
    if (r)
        return err_set(err, ENOMEM, "out of memory");
    r = FAULT(AGENT_POINTS) ? err_errno(err, errno, "cannot make the mount points")
                            : mount_points_make(a->share_dir, req->container.spec, req->container.len, err);
    if (r < 0)
        return r;
    return container_new(a, &req->container, CONTAINER_RESTORING, &k->c, err);
}

int container_restore(struct agent *a, const struct restore_request *req, agent_pid_fn fn, void *userdata,
                      struct err *err) {
    const char *id = req->container.id;
    /* container_new() would find the same, but only after the files of another attempt have been touched. */
    int r = id_validate("container id", id, err);
    if (r < 0)
        return r;
    if (container_find(a, id))
        return err_set(err, EEXIST, "cannot restore container %s: it already exists in the guest", id);
    struct restore *k = calloc(1, sizeof(*k));
    if (!k)
        return err_set(err, ENOMEM, "out of memory");
    struct err cause = ERR_INIT;
    r = prepare(k, a, req, &cause);
    if (r < 0) {
        err_wrap(&cause, "cannot restore container %s", id);
        criu_job_report(&k->job, &cause);
        criu_job_clear(&k->job);
        free(k);
        return err_copy(err, &cause);
    }
    k->fn = fn;
    k->userdata = userdata;
    k->timeout_usec = req->container.timeout_usec;
    container_op_begin(k->c);
    criu_enter(&a->criu, &k->job.turn, on_turn, k);
    return 0;
}
