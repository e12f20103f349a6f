/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/crun.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "agent/crun_error.h"
#include "agent/job.h"
#include "agent/tty.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"

#define PID_FILE_MAX 16

struct op {
    struct crun *crun;
    crun_done_fn done;
    void *userdata;
    char base[128]; /* "<dir>/<n>" */
    const char *command;
    char id[64]; /* the beginning of the container's, for the log */
    bool makes_process;
    int listen_fd;
    uint64_t started;
};

static const char *const files[] = {"log", "pid", "in", "sock"};

static const char *file_of(const struct op *op, const char *kind, char buf[160]) {
    snprintf(buf, 160, "%s.%s", op->base, kind);
    return buf;
}

static void op_free(struct op *op) {
    char path[160];
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        (void)unlink(file_of(op, files[i], path)); /* most operations have only some of them */
    fd_close(op->listen_fd);
    children_release(op->crun->children);
    op->crun->running--;
    free(op);
}

static int read_pid(const struct op *op, pid_t *ret, struct err *err) {
    char path[160];
    cleanup_free char *text = NULL;
    uint64_t pid;
    int r = file_read_at(AT_FDCWD, file_of(op, "pid", path), PID_FILE_MAX, &text, NULL, err);
    if (r < 0)
        return err_wrap(err, "crun left no pid");
    text[strcspn(text, "\n")] = '\0';
    if (parse_u64(text, INT32_MAX, &pid) < 0 || pid <= 1)
        return err_set(err, EIO, "crun left \"%s\" as pid", text);
    *ret = (pid_t)pid;
    return 0;
}

static int failure(const struct op *op, int status, struct err *err) {
    if (status == -ETIMEDOUT)
        return err_set(err, ETIMEDOUT, "crun %s did not end in time", op->command);
    char path[160];
    cleanup_fd int fd = open(file_of(op, "log", path), O_RDONLY | O_CLOEXEC);
    cleanup_free char *text = malloc(CRUN_LOG_MAX);
    ssize_t n = fd >= 0 && text ? read(fd, text, CRUN_LOG_MAX) : 0;
    int r = crun_error_from_log(text ? text : "", n > 0 ? (size_t)n : 0, err);
    if (n <= 0)
        err_append(err, " (%s %s, %s %d)", "crun", op->command, WIFSIGNALED(status) ? "signal" : "exit code",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    return r;
}

static void on_end(void *userdata, int status) {
    struct op *op = userdata;
    struct err err = ERR_INIT;
    struct crun_result result = {.tty = -1, .status = MAX(status, 0), .timed_out = status == -ETIMEDOUT};
    int r = 0;
    if (status != 0)
        r = failure(op, status, &err);
    if (r == 0 && op->makes_process)
        r = read_pid(op, &result.pid, &err);
    if (r == 0 && op->listen_fd >= 0) {
        result.tty = tty_take(op->listen_fd, &err);
        r = MIN(result.tty, 0);
    }
    if (r < 0)
        result.err = &err;
    log_debug("crun %s %s: %s, %.1f ms", op->command, op->id, r < 0 ? err.msg : "done",
              (double)(now_usec() - op->started) / (double)USEC_PER_MSEC);
    op->done(op->userdata, &result);
    fd_close(result.tty);
    op_free(op);
}

static int make_argv(const struct op *op, const struct crun_request *req, struct strv *argv, struct err *err) {
    char path[160];
    int r = strv_add(argv, "crun");
    r |= strv_add(argv, "--cgroup-manager=cgroupfs");
    r |= strv_add(argv, "--log-format=json");
    r |= strv_addf(argv, "--log=file:%s", file_of(op, "log", path));
    for (size_t i = 0; i < CRUN_ARGS_MAX && req->args[i]; i++)
        r |= strv_add(argv, req->args[i]);
    if (req->makes_process)
        r |= strv_addf(argv, "--pid-file=%s", file_of(op, "pid", path));
    if (req->terminal)
        r |= strv_addf(argv, "--console-socket=%s", file_of(op, "sock", path));
    if (req->option)
        r |= strv_addf(argv, "%s=%s", req->option, file_of(op, "in", path));
    r |= strv_add(argv, req->id);
    return r ? err_set(err, ENOMEM, "out of memory") : 0;
}

static int write_input(const struct op *op, const struct crun_request *req, struct err *err) {
    char path[160];
    file_of(op, "in", path);
    cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int r = fd < 0 ? -errno : fd_write_all(fd, req->data, req->len);
    return r < 0 ? err_errno(err, -r, "cannot write %s", path) : 0;
}

static int setup_child(void *userdata, struct err *err) {
    const struct crun_request *req = userdata;
    if (req->preload && setenv("LD_PRELOAD", req->preload, 1) < 0)
        return err_errno(err, errno, "cannot set the environment");
    if (*req->tty && setenv(TTY_SETUP, req->tty, 1) < 0)
        return err_errno(err, errno, "cannot set the environment");
    return job_setup_child(NULL, err);
}

static int start(struct op *op, const struct crun_request *req, struct err *err) {
    cleanup_strv struct strv argv = {0};
    char path[160];
    int r = make_argv(op, req, &argv, err);
    if (r == 0 && req->option)
        r = write_input(op, req, err);
    if (r == 0 && req->terminal)
        r = op->listen_fd = tty_listen(file_of(op, "sock", path), err);
    if (r < 0)
        return r;
    struct proc_spec spec = {
        .path = op->crun->path,
        .argv = argv.v,
        .cwd = "/",
        .new_session = true,
        .outlive_parent = true,
        .setup = setup_child,
        .userdata = (void *)req,
    };
    for (int i = 0; i < 3; i++)
        if (req->stdio[i] >= 0)
            spec.fds[spec.n_fds++] = (struct proc_fd){.from = req->stdio[i], .to = i};
    if (FAULT(AGENT_CRUN))
        return err_errno(err, errno, "cannot start %s", spec.path);
    return job_start(op->crun->event, op->crun->children, &spec,
                     req->timeout_usec ? req->timeout_usec : CRUN_TIMEOUT_USEC, on_end, op, NULL, err);
}

int crun_run(struct crun *crun, const struct crun_request *req, crun_done_fn done, void *userdata, struct err *err) {
    /* What ends or changes a process is never refused. */
    if (req->makes_process && crun->running >= CRUN_PARALLEL_MAX)
        return err_set(err, ENOSPC, "%u operations of crun are under way", crun->running);
    struct op *op = calloc(1, sizeof(*op));
    if (!op)
        return err_set(err, ENOMEM, "out of memory");
    crun->running++;
    op->crun = crun;
    op->done = done;
    op->userdata = userdata;
    op->command = req->args[0];
    op->makes_process = req->makes_process;
    op->listen_fd = -1;
    op->started = now_usec();
    snprintf(op->id, sizeof(op->id), "%s", req->id);
    snprintf(op->base, sizeof(op->base), "%s/%llu", crun->dir, (unsigned long long)++crun->counter);
    children_hold(crun->children);
    int r = start(op, req, err);
    if (r < 0) {
        op_free(op);
        return err_wrap(err, "crun %s", req->args[0]);
    }
    return 0;
}
