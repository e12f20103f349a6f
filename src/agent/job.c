/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/job.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"

#define CHILD_NOFILE_SOFT 1024 /* what programs that use select() can bear; they may raise it to the hard limit */

struct job {
    struct children *children;
    struct child child;
    sd_event_source *timer;
    job_done_fn fn;
    void *userdata;
    bool timed_out;
};

static struct job *job_free(struct job *job) {
    sd_event_source_disable_unref(job->timer);
    free(job);
    return NULL;
}

static void on_exit_status(struct child *child, int status, void *userdata) {
    (void)child;
    struct job *job = userdata;
    job->fn(job->userdata, job->timed_out ? -ETIMEDOUT : status);
    job_free(job);
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)source;
    (void)usec;
    struct job *job = userdata;
    job->timed_out = true;
    /* Not reaped yet, so the pid is still its own. The end comes through on_exit_status. */
    (void)kill(job->child.pid, SIGKILL);
    return 0;
}

static int job_new(sd_event *event, struct children *children, uint64_t timeout_usec, job_done_fn fn, void *userdata,
                   const char *what, struct job **ret, struct err *err) {
    struct job *job = calloc(1, sizeof(*job));
    if (!job) {
        (void)err_set(err, ENOMEM, "out of memory");
        return -ENOMEM;
    }
    job->children = children;
    job->fn = fn;
    job->userdata = userdata;
    int r = sd_event_add_time_relative(event, &job->timer, CLOCK_MONOTONIC, timeout_usec, 0, on_time, job);
    if (r < 0) {
        job_free(job);
        (void)err_errno(err, -r, "cannot set a deadline for %s", what);
        return r;
    }
    *ret = job;
    return 0;
}

static int job_watch(struct job *job, pid_t pid, const char *what, struct job **ret, struct err *err) {
    int status;
    if (children_watch(job->children, &job->child, pid, on_exit_status, job, &status) != 0) {
        (void)kill(pid, SIGKILL);
        job_free(job);
        return err_set(err, ECHILD, "cannot watch %s", what);
    }
    if (ret)
        *ret = job;
    return 0;
}

int job_start(sd_event *event, struct children *children, const struct proc_spec *spec, uint64_t timeout_usec,
              job_done_fn fn, void *userdata, struct job **ret, struct err *err) {
    struct job *job = NULL;
    int r = job_new(event, children, timeout_usec, fn, userdata, spec->path, &job, err);
    if (r < 0)
        return r;
    struct proc p = PROC_NONE;
    r = proc_spawn(spec, &p, err);
    if (r < 0) {
        job_free(job);
        return r;
    }
    fd_close(p.pidfd); /* the pid is ours until we reap it */
    return job_watch(job, p.pid, spec->path, ret, err);
}

int job_fork(sd_event *event, struct children *children, int (*run)(void *arg), void *arg, uint64_t timeout_usec,
             job_done_fn fn, void *userdata, struct job **ret, struct err *err) {
    struct job *job = NULL;
    int r = job_new(event, children, timeout_usec, fn, userdata, "a child process", &job, err);
    if (r < 0)
        return r;
    pid_t pid = fork();
    if (pid < 0) {
        job_free(job);
        return err_errno(err, errno, "cannot make a process");
    }
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* only PID 1's tests have a parent that can die */
        _exit(run(arg));
    }
    return job_watch(job, pid, "a child process", ret, err);
}

struct job *job_cancel(struct job *job) {
    if (!job)
        return NULL;
    if (job->child.pid) {
        (void)kill(job->child.pid, SIGKILL);
        children_forget(job->children, &job->child);
    }
    return job_free(job);
}

int job_setup_child(void *userdata, struct err *err) {
    (void)userdata;
    /* /proc is missing only on a test machine's odd set-up; a child that cannot drop the protection may run with it. */
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (write(fd, "0", 1) < 0) {
            /* as above */
        }
        close(fd);
    }
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return err_errno(err, errno, "cannot read the limit of open files");
    files.rlim_cur = MIN((rlim_t)CHILD_NOFILE_SOFT, files.rlim_max);
    if (setrlimit(RLIMIT_NOFILE, &files) < 0)
        return err_errno(err, errno, "cannot set the limit of open files");
    return 0;
}
