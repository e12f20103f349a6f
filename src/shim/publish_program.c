/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/publish_program.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "base/proc.h"
#include "base/util.h"
#include "vm/console.h"

/* A process whose pidfd is readable has ended; this is for the kernel that says so and then lets us wait. */
#define REAP_USEC USEC_PER_SEC

struct publish_program {
    char *path;
    struct proc proc;
    struct console *output;
    sd_event_source *exited, *timeout;
    publish_program_done_fn done;
    void *userdata;
};

struct publish_program *publish_program_free(struct publish_program *p) {
    if (!p)
        return NULL;
    sd_event_source_disable_unref(p->exited);
    sd_event_source_disable_unref(p->timeout);
    if (p->proc.pid > 0)
        kill(-p->proc.pid, SIGKILL); /* its children too: it leads a session */
    proc_kill(&p->proc);
    console_free(p->output);
    free(p->path);
    free(p);
    return NULL;
}

/* Frees the object before the owner hears of it, who may start the next one at once. */
static void finish(struct publish_program *p, struct err *e) {
    publish_program_done_fn done = p->done;
    void *userdata = p->userdata;
    if (e->code != 0) {
        err_wrap(e, "%s publish", p->path);
        console_drain(p->output);
        const char *line = console_last_line(p->output);
        if (*line)
            err_append(e, ": %s", line);
    }
    publish_program_free(p);
    done(userdata, e->code != 0 ? e : NULL);
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)source, (void)usec;
    struct err e = ERR_INIT;
    err_set(&e, ETIMEDOUT, "did not end in time and was killed");
    finish(userdata, &e);
    return 0;
}

static int on_exited(sd_event_source *source, int fd, uint32_t events, void *userdata) {
    (void)fd, (void)events;
    struct publish_program *p = userdata;
    struct err e = ERR_INIT;
    int status = 0;
    /* Before the pidfd is closed: a moment later its number may be another's. */
    (void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
    int r = proc_wait(&p->proc, REAP_USEC, &status);
    if (r < 0)
        err_errno(&e, -r, "cannot wait for it");
    else if (WIFSIGNALED(status))
        err_set(&e, EIO, "was killed by signal %d", WTERMSIG(status));
    else if (status != 0)
        err_set(&e, EIO, "failed with exit code %d", WEXITSTATUS(status));
    finish(p, &e);
    return 0;
}

/* A memfd rather than a pipe: the event may be larger than a pipe holds, and the program need not read it. */
static int input_fd(const struct publish_program_spec *spec, struct err *err) {
    cleanup_fd int fd = memfd_create("event", MFD_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "cannot make its stdin");
    int r = fd_write_all(fd, spec->any, spec->len);
    if (r < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return err_errno(err, r < 0 ? -r : errno, "cannot write its stdin");
    return TAKE_FD(fd);
}

static int spawn(struct publish_program *p, sd_event *event, const struct publish_program_spec *spec, struct err *err) {
    const char *const args[] = {spec->path,    "--address",     spec->address, "publish",
                                "--namespace", spec->namespace, "--topic",     spec->topic};
    cleanup_strv struct strv argv = {0};
    for (size_t i = 0; i < ARRAY_SIZE(args); i++)
        if (strv_add(&argv, args[i]) < 0)
            return err_set(err, ENOMEM, "out of memory");
    cleanup_fd int in = input_fd(spec, err);
    if (in < 0)
        return in;
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_errno(err, errno, "cannot make a pipe for its output");
    cleanup_fd int out = fds[1];
    int r = console_new(event, fds[0], NULL, NULL, &p->output, err);
    if (r < 0)
        return r;
    struct proc_spec proc = {
        .path = spec->path,
        .argv = argv.v,
        .cwd = "/", /* not the bundle, which containerd may be about to remove */
        .fds = {{in, STDIN_FILENO}, {out, STDOUT_FILENO}, {out, STDERR_FILENO}},
        .n_fds = 3,
        .new_session = true,
    };
    return proc_spawn(&proc, &p->proc, err);
}

static int start(struct publish_program *p, sd_event *event, const struct publish_program_spec *spec, struct err *err) {
    int r = p->path ? spawn(p, event, spec, err) : err_set(err, ENOMEM, "out of memory");
    if (r < 0)
        return r;
    if ((r = sd_event_add_io(event, &p->exited, p->proc.pidfd, EPOLLIN, on_exited, p)) < 0 ||
        (r = sd_event_add_time_relative(event, &p->timeout, CLOCK_MONOTONIC, spec->timeout_usec, 0, on_timeout, p)) < 0)
        return err_errno(err, -r, "cannot watch it");
    return 0;
}

int publish_program_start(sd_event *event, const struct publish_program_spec *spec, publish_program_done_fn done,
                          void *userdata, struct publish_program **ret, struct err *err) {
    struct publish_program *p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(err, ENOMEM, "out of memory");
    *p = (struct publish_program){.path = strdup(spec->path), .proc = PROC_NONE, .done = done, .userdata = userdata};
    int r = start(p, event, spec, err);
    if (r < 0) {
        publish_program_free(p);
        err_wrap(err, "%s publish", spec->path);
        return r;
    }
    *ret = p;
    return 0;
}
