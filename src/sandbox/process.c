/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/process.h"

#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <systemd/sd-event.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "oci/spec.h"
#include "sandbox/container.h"
#include "sandbox/monitor.h"
#include "sandbox/sandbox.h"

#define PROCESS_WAITERS_MAX 256
#define EXIT_LOST 137 /* 128 + SIGKILL */

struct waiter {
    process_exit_fn fn;
    void *userdata;
};

struct process {
    struct sandbox *sb;
    struct container *container;
    const struct process_ops *ops;
    char exec_id[ID_MAX + 1];
    unsigned state;          /* enum process_state */
    struct monitor *monitor; /* NULL: the CLI made it, or there is none */
    pid_t host_pid;          /* of the monitor; 0: none */
    int host_pidfd;
    sd_event_source *host_gone;  /* NULL: it has ended */
    sd_event_source *host_limit; /* then it is killed */
    void (*host_ended)(void *userdata);
    void *host_userdata;
    uint32_t guest_pid;
    struct process_stdio stdio; /* fds -1: the streams own them */
    bool has_in, has_out, has_err;
    bool close_input; /* asked for before the stream was there */
    char *uris[3];    /* NULL: none */
    struct stream *in, *out, *err_out;
    struct ttrpc_call *wait_call;
    sd_event_source *tell; /* deferred delivery of the exit */
    bool gone;             /* the guest's process was reaped; `exit` is valid */
    bool told;             /* PROCESS_EXITED was entered and ops->exited was called */
    struct process_exit exit;
    struct waiter *waiters;
    size_t n_waiters;
    bool telling; /* the waiters are being told: the memory is still needed */
    bool freed;   /* process_free() was called meanwhile */
};

void process_stdio_close(struct process_stdio *io) {
    io->in = fd_close(io->in);
    io->out = fd_close(io->out);
    io->err = fd_close(io->err);
}

int process_default_size(struct process_stdio *io, const json_t *process, struct err *err) {
    return io->width && io->height ? 0 : oci_console_size(process, &io->width, &io->height, err);
}

static const char *name_of(const struct process *p) {
    return *p->exec_id ? p->exec_id : p->container ? container_id(p->container) : "?";
}

/* A stream that nobody is connected to may wait for ever. */
static bool is_out(const struct stream *s) {
    return stream_is_done(s) || stream_is_detached(s);
}

/* The exit is public once the output is out. */
static int on_tell(sd_event_source *source, void *userdata) {
    (void)source;
    struct process *p = userdata;
    if (!p->gone || !is_out(p->out) || !is_out(p->err_out))
        return 0;
    if (!p->told) {
        p->told = true;
        (void)process_move(p, PROCESS_EXITED, NULL); /* follows from every other state */
        log_debug("process %s: exited with %u", name_of(p), p->exit.status);
        if (p->monitor)
            monitor_exit(p->monitor, p->exit.status);
        p->in = stream_free(p->in);
        if (p->ops && p->ops->exited)
            p->ops->exited(p);
    }
    /* A waiter may cancel others, wait again (then there is a next turn), or free the process, which tells the rest. */
    struct process_exit ex = p->exit;
    p->telling = true;
    for (size_t n = p->n_waiters; n > 0 && p->n_waiters > 0; n--) {
        struct waiter w = p->waiters[0];
        p->waiters[0] = p->waiters[--p->n_waiters];
        w.fn(w.userdata, &ex);
    }
    p->telling = false;
    if (p->freed)
        free(p);
    return 0;
}

static void tell_later(struct process *p) {
    (void)sd_event_source_set_enabled(p->tell, SD_EVENT_ONESHOT);
}

static void on_stream_done(void *userdata) {
    tell_later(userdata);
}

static void set_gone(struct process *p, uint32_t status, uint64_t wall_usec, bool oom) {
    if (p->gone)
        return;
    p->gone = true;
    p->exit = (struct process_exit){.status = status, .wall_usec = wall_usec, .oom_killed = oom};
    stream_process_exited(p->out);
    stream_process_exited(p->err_out);
    tell_later(p);
}

static void on_wait(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct process *p = userdata;
    p->wait_call = NULL;
    if (err) {
        const struct ttrpc_client *agent = sandbox_agent(p->sb);
        if (agent && ttrpc_client_is_closed(agent))
            return; /* it ends with the sandbox, which will know of what */
        log_error("process %s: cannot wait for it: %s", name_of(p), err->msg);
        process_lost(p);
        return;
    }
    const Stasis__Agent__V1__WaitResponse *r = (const void *)*reply;
    /* The agent's word is only believed within its bounds (threats.md 15); the guest's clock may have been set. */
    uint64_t first = p->container ? container_created_wall_usec(p->container) : 0;
    set_gone(p, r->exit_code & 0xff, MAX(first, MIN(r->exited_wall_usec, now_wall_usec())), r->oom_killed);
}

static void kill_without_monitor(struct process *p) {
    log_info("process %s: its monitor process (pid %d) has exited; killing it", name_of(p), (int)p->host_pid);
    bool is_init = p->container && *p->exec_id == '\0';
    if (!is_init || !container_kill_unrestored(p->container))
        sandbox_kill_quietly(p->sb, p);
}

static int on_host_gone(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
    (void)source;
    (void)fd;
    (void)revents;
    struct process *p = userdata;
    p->host_gone = sd_event_source_disable_unref(p->host_gone);
    p->host_limit = sd_event_source_disable_unref(p->host_limit);
    void (*ended)(void *) = p->host_ended;
    p->host_ended = NULL;
    if (ended)
        ended(p->host_userdata); /* may free p */
    else if (!p->gone)
        kill_without_monitor(p);
    return 0;
}

static int on_host_limit(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)source;
    (void)usec;
    const struct process *p = userdata;
    if (p->told)
        log_warn("process %s: its monitor process (pid %d) does not end; killing it", name_of(p), (int)p->host_pid);
    (void)syscall(SYS_pidfd_send_signal, p->host_pidfd, SIGKILL, NULL, 0);
    return 0;
}

bool process_await_host(struct process *p, uint64_t timeout_usec, void (*fn)(void *userdata), void *userdata) {
    if (!p->host_gone)
        return false;
    /* It has no status to exit with, or there is no timer: then it is killed at once. */
    if (!p->told || sd_event_add_time_relative(sandbox_event(p->sb), &p->host_limit, CLOCK_MONOTONIC, timeout_usec, 0,
                                               on_host_limit, p) < 0)
        (void)on_host_limit(NULL, 0, p);
    p->host_ended = fn;
    p->host_userdata = userdata;
    return true;
}

bool process_host_is_gone(const struct process *p) {
    return p->host_pidfd >= 0 && !p->host_gone;
}

static int watch_host(struct process *p, struct err *err) {
    p->host_pidfd = (int)syscall(SYS_pidfd_open, p->host_pid, 0);
    if (p->host_pidfd < 0)
        return err_errno(err, errno, "the monitor process (pid %d) of %s", (int)p->host_pid, name_of(p));
    int r = sd_event_add_io(sandbox_event(p->sb), &p->host_gone, p->host_pidfd, EPOLLIN, on_host_gone, p);
    return r < 0 ? err_errno(err, -r, "cannot watch pid %d", (int)p->host_pid) : 0;
}

static void on_host_signal(void *userdata, int sig) {
    struct process *p = userdata;
    if (!p->gone && sig != SIGCHLD)
        sandbox_signal_quietly(p->sb, p, sig, false);
}

int process_make_monitor(struct process *p, const json_t *args, struct err *err) {
    int r = monitor_start(sandbox_event(p->sb), args, on_host_signal, p, &p->monitor, err);
    if (r < 0)
        return r;
    p->host_pid = monitor_pid(p->monitor);
    return watch_host(p, err);
}

int process_new(struct sandbox *sb, struct container *container, const char *exec_id, pid_t host_pid,
                struct process_stdio *io, const struct process_ops *ops, struct process **ret, struct err *err) {
    struct process *p = calloc(1, sizeof(*p));
    if (!p) {
        process_stdio_close(io);
        return err_set(err, ENOMEM, "out of memory");
    }
    p->sb = sb;
    p->container = container;
    p->ops = ops;
    p->host_pid = host_pid;
    p->host_pidfd = -1;
    p->stdio = *io;
    *io = PROCESS_STDIO_NONE;
    p->has_in = p->stdio.in >= 0;
    p->has_out = p->stdio.out >= 0;
    p->has_err = p->stdio.err >= 0 && !p->stdio.terminal;
    snprintf(p->exec_id, sizeof(p->exec_id), "%s", exec_id);

    int r = sd_event_add_defer(sandbox_event(sb), &p->tell, on_tell, p);
    if (r >= 0)
        r = sd_event_source_set_enabled(p->tell, SD_EVENT_OFF);
    /* After the streams: within one turn of the loop what the process wrote goes first. */
    if (r >= 0)
        r = sd_event_source_set_priority(p->tell, SD_EVENT_PRIORITY_IDLE);
    if (r < 0)
        r = err_errno(err, -r, "cannot watch process %s", name_of(p));
    if (r >= 0 && host_pid > 0)
        r = watch_host(p, err);
    if (r < 0) {
        process_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

struct process *process_free(struct process *p) {
    if (!p)
        return NULL;
    ttrpc_call_cancel(p->wait_call);
    stream_free(p->in);
    stream_free(p->out);
    stream_free(p->err_out);
    process_stdio_close(&p->stdio);
    sd_event_source_disable_unref(p->host_gone);
    sd_event_source_disable_unref(p->host_limit);
    fd_close(p->host_pidfd);
    monitor_free(p->monitor);
    sd_event_source_disable_unref(p->tell);
    if (!p->gone)
        p->exit = (struct process_exit){.status = EXIT_LOST, .wall_usec = now_wall_usec()};
    while (p->n_waiters > 0) {
        struct waiter w = p->waiters[--p->n_waiters];
        w.fn(w.userdata, &p->exit);
    }
    free(p->waiters);
    p->waiters = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(p->uris); i++)
        free(p->uris[i]);
    if (p->telling)
        p->freed = true; /* on_tell frees it */
    else
        free(p);
    return NULL;
}

static int add_stream(struct process *p, Stasis__Agent__V1__Stream which, int *fd, enum stdio_kind kind,
                      struct stream **ret, struct err *err) {
    if (*fd < 0)
        return 0;
    struct stream_spec spec = {
        .event = sandbox_event(p->sb),
        .agent = sandbox_agent(p->sb),
        .container_id = p->container ? container_guest_id(p->container) : "",
        .exec_id = p->exec_id,
        .which = which,
        .kind = kind,
        .reopen = kind == STDIO_FIFO, /* only CloseIO ends it, as with runc's shim: a client may attach again */
        .done = which == STASIS__AGENT__V1__STREAM__STDIN ? NULL : on_stream_done,
        .detached = on_stream_done,
        .userdata = p,
    };
    int r = stream_new(&spec, TAKE_FD(*fd), ret, err);
    if (r == 0)
        stream_start(*ret);
    return r;
}

int process_watch(struct process *p, uint32_t guest_pid, struct err *err) {
    p->guest_pid = guest_pid;
    Stasis__Agent__V1__ProcessId id = process_agent_id(p);
    int r = ttrpc_client_call(sandbox_agent(p->sb), &stasis__agent__v1__agent__descriptor, "Wait", &id.base,
                              TTRPC_NO_DEADLINE, on_wait, p, &p->wait_call, err);
    if (r == 0)
        r = add_stream(p, STASIS__AGENT__V1__STREAM__STDOUT, &p->stdio.out, p->stdio.out_kind, &p->out, err);
    if (r == 0 && p->has_err)
        r = add_stream(p, STASIS__AGENT__V1__STREAM__STDERR, &p->stdio.err, p->stdio.err_kind, &p->err_out, err);
    if (r == 0)
        r = add_stream(p, STASIS__AGENT__V1__STREAM__STDIN, &p->stdio.in, p->stdio.in_kind, &p->in, err);
    if (r == 0 && p->close_input)
        stream_close_input(p->in);
    return r;
}

void process_adopt(struct process *p, const struct process_streams *streams, bool terminal, enum process_state state,
                   uint32_t guest_pid, const struct process_exit *ex) {
    p->has_in = streams->in;
    p->has_out = streams->out;
    p->has_err = streams->err && !terminal;
    p->stdio.terminal = terminal;
    p->stdio.width = streams->width;
    p->stdio.height = streams->height;
    p->state = state;
    p->guest_pid = guest_pid;
    if (ex) {
        p->gone = p->told = true;
        p->exit = *ex;
        if (p->monitor)
            monitor_exit(p->monitor, ex->status);
    }
}

static int attach_stream(struct process *p, Stasis__Agent__V1__Stream which, int *fd, enum stdio_kind kind,
                         struct stream **s, struct err *err) {
    if (*fd < 0)
        return 0;
    return stream_is_detached(*s) ? stream_attach(*s, TAKE_FD(*fd), kind, err) : add_stream(p, which, fd, kind, s, err);
}

int process_attach(struct process *p, struct process_stdio *io, struct err *err) {
    const struct stream *const streams[] = {p->in, p->out, p->err_out};
    const int *const fds[] = {&io->in, &io->out, &io->err};
    int r = 0;
    for (size_t i = 0; i < ARRAY_SIZE(streams) && r == 0; i++)
        if (*fds[i] >= 0 && streams[i] && !stream_is_detached(streams[i]))
            r = err_set(err, EBUSY, "process %s: its stdio is connected", name_of(p));
    if (r == 0 && p->has_out)
        r = attach_stream(p, STASIS__AGENT__V1__STREAM__STDOUT, &io->out, io->out_kind, &p->out, err);
    if (r == 0 && p->has_err)
        r = attach_stream(p, STASIS__AGENT__V1__STREAM__STDERR, &io->err, io->err_kind, &p->err_out, err);
    if (r == 0 && p->has_in && !p->gone)
        r = attach_stream(p, STASIS__AGENT__V1__STREAM__STDIN, &io->in, io->in_kind, &p->in, err);
    process_stdio_close(io);
    return r;
}

void process_detach(struct process *p) {
    stream_detach(p->in);
    stream_detach(p->out);
    stream_detach(p->err_out);
}

void process_lost(struct process *p) {
    ttrpc_call_cancel(p->wait_call);
    p->wait_call = NULL;
    /* Output that is still in the guest is lost with it. */
    p->in = stream_free(p->in);
    stream_lost(p->out);
    stream_lost(p->err_out);
    process_stdio_close(&p->stdio);
    set_gone(p, EXIT_LOST, now_wall_usec(), false);
    tell_later(p);
}

int process_wait(struct process *p, process_exit_fn fn, void *userdata, struct err *err) {
    if (p->n_waiters >= PROCESS_WAITERS_MAX)
        return err_set(err, EBUSY, "process %s: more than %d callers wait for it", name_of(p), PROCESS_WAITERS_MAX);
    struct waiter *w = reallocarray(p->waiters, p->n_waiters + 1, sizeof(*w));
    if (!w)
        return err_set(err, ENOMEM, "out of memory");
    p->waiters = w;
    p->waiters[p->n_waiters++] = (struct waiter){.fn = fn, .userdata = userdata};
    if (p->gone)
        tell_later(p);
    return 0;
}

void process_wait_cancel(struct process *p, void *userdata) {
    for (size_t i = 0; i < p->n_waiters; i++)
        if (p->waiters[i].userdata == userdata) {
            p->waiters[i] = p->waiters[--p->n_waiters];
            return;
        }
}

int process_move(struct process *p, enum process_state to, struct err *err) {
    return lifecycle_move(&process_lifecycle, &p->state, to, name_of(p), err);
}

enum process_state process_get_state(const struct process *p) {
    return (enum process_state)p->state;
}

const struct process_exit *process_get_exit(const struct process *p) {
    return p->told ? &p->exit : NULL;
}

pid_t process_host_pid(const struct process *p) {
    return p->host_pid;
}

int process_host_pidfd(const struct process *p) {
    return p->host_pidfd;
}

const char *process_exec_id(const struct process *p) {
    return p->exec_id;
}

struct container *process_container(const struct process *p) {
    return p->container;
}

bool process_is_terminal(const struct process *p) {
    return p->stdio.terminal;
}

void process_describe_stdio(const struct process *p, struct process_streams *ret) {
    *ret = (struct process_streams){.in = p->has_in,
                                    .out = p->has_out,
                                    .err = p->has_err,
                                    .width = p->stdio.width,
                                    .height = p->stdio.height,
                                    .relayed = p->stdio.relayed};
}

int process_set_uris(struct process *p, const char *in, const char *out, const char *err_out, struct err *err) {
    const char *uris[] = {in, out, err_out};
    for (size_t i = 0; i < ARRAY_SIZE(uris); i++) {
        char *copy = strdup(uris[i]);
        if (!copy)
            return err_set(err, ENOMEM, "out of memory");
        free(p->uris[i]);
        p->uris[i] = copy;
    }
    return 0;
}

const char *process_uri(const struct process *p, int fd) {
    return fd >= 0 && fd < (int)ARRAY_SIZE(p->uris) && p->uris[fd] ? p->uris[fd] : "";
}

Stasis__Agent__V1__ProcessId process_agent_id(const struct process *p) {
    Stasis__Agent__V1__ProcessId id = STASIS__AGENT__V1__PROCESS_ID__INIT;
    id.container_id = p->container ? (char *)(uintptr_t)container_guest_id(p->container) : (char *)(uintptr_t) "";
    id.exec_id = (char *)(uintptr_t)p->exec_id;
    return id;
}

uint32_t process_guest_pid(const struct process *p) {
    return p->guest_pid;
}

void process_close_input(struct process *p) {
    p->close_input = true;
    stream_close_input(p->in);
}
