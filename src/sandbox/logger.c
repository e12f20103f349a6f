/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/logger.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"

#define ENV_ID "CONTAINER_ID="
#define ENV_NAMESPACE "CONTAINER_NAMESPACE="
#define FD_OUT 3
#define FD_ERR 4
#define FD_READY 5
#define STAT_EXITING 0x4 /* PF_EXITING in the flags of /proc/PID/stat */

extern char **environ;

struct logger {
    sd_event *event;
    char *program;
    struct proc proc;
    int ready_fd;
    sd_event_source *readable, *exited, *timeout;
    uint64_t ready_usec;
    logger_ready_fn ready;
    void *userdata;
};

struct logger *logger_cancel(struct logger *l) {
    if (!l)
        return NULL;
    sd_event_source_disable_unref(l->readable);
    sd_event_source_disable_unref(l->exited);
    sd_event_source_disable_unref(l->timeout);
    if (l->proc.pid > 0)
        kill(-l->proc.pid, SIGKILL); /* its children too: it leads a session */
    proc_kill(&l->proc);
    fd_close(l->ready_fd);
    sd_event_unref(l->event);
    free(l->program);
    free(l);
    return NULL;
}

static void finish(struct logger *l, const struct err *e) {
    logger_ready_fn ready = l->ready;
    void *userdata = l->userdata;
    logger_cancel(l);
    ready(userdata, e);
}

/* A logger at work: nobody waits for it but the loop. */
struct running {
    struct proc proc;
    char *program;
};

static void running_free(void *userdata) {
    struct running *run = userdata;
    fd_close(run->proc.pidfd); /* with the loop; the logger goes on */
    free(run->program);
    free(run);
}

static int on_running_exited(sd_event_source *source, int fd, uint32_t events, void *userdata) {
    (void)fd;
    (void)events;
    struct running *run = userdata;
    int status = 0;
    /* Before the pidfd is closed: a moment later its number may be another's. */
    (void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
    int r = proc_wait(&run->proc, USEC_PER_SEC, &status);
    if (r < 0)
        log_warn("logger %s: cannot wait for it: %s", run->program, strerror(-r));
    else if (status != 0)
        log_warn("logger %s: ended with status %d", run->program, proc_exit_code(status));
    return sd_event_source_set_floating(source, false); /* drops the loop's reference, the only one */
}

static int hand_over(struct logger *l, struct err *err) {
    struct running *run = calloc(1, sizeof(*run));
    if (!run)
        return err_set(err, ENOMEM, "out of memory");
    sd_event_source *source = NULL;
    int r = sd_event_add_io(l->event, &source, l->proc.pidfd, EPOLLIN, on_running_exited, run);
    if (r >= 0)
        r = sd_event_source_set_floating(source, true);
    if (r < 0) {
        sd_event_source_disable_unref(source);
        free(run);
        return err_errno(err, -r, "logger %s: cannot watch it", l->program);
    }
    run->proc = l->proc;
    run->program = TAKE_PTR(l->program);
    l->proc = PROC_NONE;
    (void)sd_event_source_set_destroy_callback(source, running_free); /* cannot fail */
    sd_event_source_unref(source);
    return 0;
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)source;
    (void)usec;
    struct logger *l = userdata;
    struct err e = ERR_INIT;
    err_set(&e, ETIMEDOUT, "logger %s was not ready within %.1f s and was killed", l->program,
            (double)l->ready_usec / (double)USEC_PER_SEC);
    finish(l, &e);
    return 0;
}

static int on_exited(sd_event_source *source, int fd, uint32_t events, void *userdata) {
    (void)fd;
    (void)events;
    struct logger *l = userdata;
    struct err e = ERR_INIT;
    int status = 0;
    /* Before the pidfd is closed: a moment later its number may be another's. */
    (void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
    int r = proc_wait(&l->proc, USEC_PER_SEC, &status);
    if (r < 0)
        err_errno(&e, -r, "logger %s: cannot wait for it", l->program);
    else
        err_set(&e, EIO, "logger %s ended with %s %d before it was ready", l->program,
                WIFSIGNALED(status) ? "signal" : "exit code",
                WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    finish(l, &e);
    return 0;
}

/* A process that ends closes its fds before it can be waited for; its flags tell from then on. */
static bool is_exiting(pid_t pid) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    cleanup_free char *text = NULL;
    if (file_read_at(AT_FDCWD, path, 4096, &text, NULL, NULL) < 0)
        return true;
    /* pid (name) state ppid pgrp session tty tpgid flags: the name may hold anything, the last ')' ends it. */
    const char *p = strrchr(text, ')');
    for (int i = 0; i < 7 && p; i++)
        p = strchr(p + 1, ' ');
    return !p || (strtoul(p + 1, NULL, 10) & STAT_EXITING);
}

static int on_readable(sd_event_source *source, int fd, uint32_t events, void *userdata) {
    (void)source;
    (void)events;
    struct logger *l = userdata;
    struct err e = ERR_INIT;
    char byte;
    ssize_t n = read(fd, &byte, 1);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    l->readable = sd_event_source_disable_unref(l->readable);
    if (n < 0) {
        err_errno(&e, errno, "logger %s: cannot read whether it is ready", l->program);
        finish(l, &e);
    } else if (n == 0 && is_exiting(l->proc.pid)) {
        int r = sd_event_add_io(l->event, &l->exited, l->proc.pidfd, EPOLLIN, on_exited, l);
        if (r < 0) {
            err_errno(&e, -r, "logger %s: cannot watch it", l->program);
            finish(l, &e);
        }
    } else {
        finish(l, hand_over(l, &e) < 0 ? &e : NULL);
    }
    return 0;
}

/* In the child. */
static int enter_host(void *userdata, struct err *err) {
    return host_namespaces_enter(userdata, err);
}

static int make_env(const struct logger_spec *spec, struct strv *env) {
    for (char **e = environ; *e; e++)
        if (strncmp(*e, ENV_ID, strlen(ENV_ID)) != 0 && strncmp(*e, ENV_NAMESPACE, strlen(ENV_NAMESPACE)) != 0 &&
            strv_add(env, *e) < 0)
            return -ENOMEM;
    return strv_addf(env, ENV_ID "%s", spec->container_id) < 0 ||
                   strv_addf(env, ENV_NAMESPACE "%s", spec->namespace) < 0
               ? -ENOMEM
               : 0;
}

static int spawn(struct logger *l, const struct logger_spec *spec, struct err *err) {
    cleanup_strv struct strv env = {0};
    if (!l->program || make_env(spec, &env) < 0)
        return err_set(err, ENOMEM, "out of memory");
    int p[2];
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_errno(err, errno, "logger %s: cannot make a pipe", l->program);
    l->ready_fd = p[0];
    cleanup_fd int ready = p[1];
    int r = fd_set_nonblock(l->ready_fd, true);
    if (r < 0)
        return err_errno(err, -r, "logger %s: cannot make a pipe", l->program);
    /* Out of the way of the child's fds. */
    struct host_namespaces host = HOST_NAMESPACES_NONE;
    if (spec->host && host_namespaces_dup(spec->host, FD_READY + 1, &host, err) < 0)
        return err_wrap(err, "logger %s", l->program);
    struct proc_spec ps = {
        .path = l->program,
        .argv = spec->argv->v,
        .env = env.v,
        .cwd = "/",
        .fds = {{spec->out, FD_OUT}, {spec->err, FD_ERR}, {ready, FD_READY}},
        .n_fds = 3,
        .new_session = true,
        .outlive_parent = true,
        .setup = enter_host,
        .userdata = &host,
    };
    r = proc_spawn(&ps, &l->proc, err);
    host_namespaces_close(&host);
    return r;
}

static int start(struct logger *l, const struct logger_spec *spec, struct err *err) {
    int r = spawn(l, spec, err);
    if (r < 0)
        return r;
    if ((r = sd_event_add_io(l->event, &l->readable, l->ready_fd, EPOLLIN, on_readable, l)) < 0 ||
        (r = sd_event_add_time_relative(l->event, &l->timeout, CLOCK_MONOTONIC, l->ready_usec, 0, on_timeout, l)) < 0)
        return err_errno(err, -r, "logger %s: cannot watch it", l->program);
    return 0;
}

int logger_start(sd_event *event, const struct logger_spec *spec, logger_ready_fn ready, void *userdata,
                 struct logger **ret, struct err *err) {
    struct logger *l = calloc(1, sizeof(*l));
    if (!l)
        return err_set(err, ENOMEM, "out of memory");
    *l = (struct logger){
        .event = sd_event_ref(event),
        .program = strdup(spec->argv->v[0]),
        .proc = PROC_NONE,
        .ready_fd = -1,
        .ready_usec = spec->ready_usec ? spec->ready_usec : LOGGER_READY_USEC,
        .ready = ready,
        .userdata = userdata,
    };
    int r = start(l, spec, err);
    if (r < 0) {
        logger_cancel(l);
        return r;
    }
    *ret = l;
    return 0;
}
