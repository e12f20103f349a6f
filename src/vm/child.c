/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "vm/console.h"

/* A process is gone soon after SIGKILL, unless the kernel holds it in an I/O that does not come back. */
#define REAP_USEC (5 * USEC_PER_SEC)

struct child {
    const char *name;
    pid_t pid;
    struct proc proc;
    struct console *errors;
    uint64_t log_max, logged; /* bytes of them in the log: the child may be the guest's by now */
    sd_event_source *exit;
    void (*ended)(void *userdata);
    void *userdata;
    bool has_ended;
    int status; /* waitpid()'s */
};

/* virtiofsd says so at every snapshot, and that it is no matter. */
#define NO_WARNING "Front-end did not announce migration to begin"

static void on_error_line(void *userdata, const char *line) {
    struct child *c = userdata;
    if (strstr(line, NO_WARNING))
        return;
    log_within(c->log_max, &c->logged, LOG_LEVEL_WARN, c->name, line);
}

bool child_has_ended(struct child *c) {
    if (c->has_ended || fd_wait(c->proc.pidfd, POLLIN, 0) <= 0)
        return c->has_ended;
    /* Before the pidfd is closed: a moment later its number may be another's. */
    c->exit = sd_event_source_disable_unref(c->exit);
    c->has_ended = proc_wait(&c->proc, 0, &c->status) == 0;
    return c->has_ended;
}

static int on_exit_event(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
    struct child *c = userdata;
    (void)s;
    (void)fd;
    (void)revents;
    c->exit = sd_event_source_disable_unref(c->exit);
    (void)child_has_ended(c);
    c->ended(c->userdata);
    return 0;
}

int child_start(sd_event *event, const struct child_spec *spec, void (*ended)(void *userdata), void *userdata,
                struct child **ret, struct err *err) {
    const char *name = spec->name;
    int p[2];
    struct child *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(err, ENOMEM, "%s: out of memory", name);
    *c =
        (struct child){.name = name, .proc = PROC_NONE, .log_max = spec->log_max, .ended = ended, .userdata = userdata};
    if (pipe2(p, O_CLOEXEC) < 0) {
        int e = errno;
        child_free(c);
        return err_errno(err, e, "%s: cannot make a pipe", name);
    }
    cleanup_fd int wr = p[1];
    struct proc_spec s = *spec->proc;
    s.fds[s.n_fds++] = (struct proc_fd){.from = wr, .to = STDERR_FILENO};

    int r = console_new(event, p[0], on_error_line, c, &c->errors, err);
    if (r >= 0)
        r = jail_spawn(spec->jail, &s, &c->proc, err);
    if (r >= 0) {
        c->pid = c->proc.pid;
        r = sd_event_add_io(event, &c->exit, c->proc.pidfd, EPOLLIN, on_exit_event, c);
        if (r < 0)
            err_errno(err, -r, "%s: cannot watch pid %d", name, (int)c->pid);
    }
    if (r < 0) {
        child_free(c);
        return r;
    }
    *ret = c;
    return 0;
}

struct child *child_free(struct child *c) {
    if (!c)
        return NULL;
    c->exit = sd_event_source_disable_unref(c->exit);
    if (c->pid > 0)
        child_kill(c);
    if (c->pid > 0 && !c->has_ended && proc_wait(&c->proc, REAP_USEC, &c->status) < 0) {
        log_warn("%s: pid %d does not end after SIGKILL", c->name, (int)c->pid);
        c->proc.pidfd = fd_close(c->proc.pidfd);
    }
    console_free(c->errors);
    free(c);
    return NULL;
}

void child_kill(struct child *c) {
    if (!child_has_ended(c))
        kill(c->proc.pid, SIGKILL);
}

bool child_failed(const struct child *c) {
    return c->has_ended && c->status != 0;
}

bool child_was_killed(const struct child *c) {
    return c->has_ended && WIFSIGNALED(c->status);
}

void child_describe_end(struct child *c, struct err *err) {
    console_drain(c->errors);
    if (WIFSIGNALED(c->status))
        err_set(err, WTERMSIG(c->status) == SIGKILL ? ECANCELED : EIO, "%s was killed by signal %d", c->name,
                WTERMSIG(c->status));
    else
        err_set(err, EIO, "%s exited with %d", c->name, WEXITSTATUS(c->status));
    const char *line = console_last_line(c->errors);
    if (*line)
        err_append(err, ": %s", line);
}

pid_t child_pid(const struct child *c) {
    return c->pid;
}
