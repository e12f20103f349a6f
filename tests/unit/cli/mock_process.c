/* SPDX-License-Identifier: Apache-2.0 */
/* The processes of the mock: its children, with a client's fds for their stdio or, on a terminal, pumps to them. */
#include "mock.h"

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/proc.h"
#include "proto/task.pb-c.h"

static struct process *process_find(struct mock *m, const char *exec_id) {
    for (size_t i = 0; i < PROCESSES_MAX; i++)
        if (m->processes[i].used && strcmp(m->processes[i].exec_id, exec_id) == 0)
            return &m->processes[i];
    return NULL;
}

struct process *process_find_or_fail(struct mock *m, const char *exec_id, struct ttrpc_request *req) {
    struct process *p = process_find(m, exec_id);
    if (!p)
        mock_fail(req, ENOENT, "no such process");
    return p;
}

/* Exit. */

void process_let_go(struct process *p) {
    for (int i = 0; i < 3; i++) {
        p->relay[i] = pump_free(p->relay[i]);
        p->client[i] = fd_close(p->client[i]);
    }
}

void process_tell(struct process *p) {
    if (!p->exited || (p->out && !*pump_done(p->out)))
        return;
    for (int i = 1; i < 3; i++)
        if (p->relay[i] && !*pump_done(p->relay[i]))
            return;
    process_let_go(p);
    p->fds[0] = fd_close(p->fds[0]);
    p->fds[1] = fd_close(p->fds[1]);
    for (size_t i = 0; i < p->n_waiters; i++) {
        Containerd__Task__V2__WaitResponse out = CONTAINERD__TASK__V2__WAIT_RESPONSE__INIT;
        out.exit_status = p->status;
        ttrpc_reply(p->waiters[i], &out.base);
    }
    p->n_waiters = 0;
}

static int on_child(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
    (void)s;
    (void)fd;
    (void)revents;
    struct process *p = userdata;
    int status;
    if (waitpid(p->pid, &status, WNOHANG) <= 0)
        return 0;
    p->child = sd_event_source_disable_unref(p->child);
    p->exited = true;
    p->status = (uint32_t)proc_exit_code(status);
    if (p == &p->mock->processes[0]) {
        p->mock->status = "stopped";
        mock_save(p->mock);
    }
    process_tell(p);
    return 0;
}

static void on_output_done(struct pump *pump, void *userdata) {
    (void)pump;
    process_tell(userdata);
}

const struct pump_ops process_output_ops = {.done = on_output_done};
static const struct pump_ops input_ops = {.done = NULL};

static int on_host_gone(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
    (void)fd;
    (void)revents;
    struct process *p = userdata;
    sd_event_source_set_enabled(s, SD_EVENT_OFF);
    if (p->pid > 0 && !p->exited)
        kill(p->pid, SIGKILL);
    return 0;
}

/* Start. */

static const char *arg(const struct process *p, size_t i) {
    return json_string_value(json_array_get(json_object_get(p->spec, "args"), i));
}

static void __attribute__((noreturn)) child(struct process *p, pid_t parent) {
    struct strv argv = {0}, env = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* as with a VM, nothing outlives the daemon */
    if (getppid() != parent)          /* it died before the line above */
        _exit(137);
    for (size_t i = 0; arg(p, i); i++)
        strv_add(&argv, arg(p, i));
    size_t i;
    json_t *v;
    json_array_foreach(json_object_get(p->spec, "env"), i, v) strv_add(&env, json_string_value(v));
    if (!p->terminal)
        for (int fd = 0; fd < 3; fd++)
            dup2(p->fds[fd] >= 0 ? p->fds[fd] : open("/dev/null", O_RDWR), fd);
    syscall(SYS_close_range, 3u, ~0u, 0u);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (chdir(json_string_value(json_object_get(p->spec, "cwd"))) == 0)
        execve(argv.v[0], argv.v, env.v);
    _exit(99);
}

int process_start(struct process *p, struct err *err) {
    const char *program = arg(p, 0);
    if (access(program, F_OK) < 0)
        return err_set(err, ENOENT, "exec: \"%s\": executable file not found in $PATH", program);
    if (access(program, X_OK) < 0)
        return err_set(err, EACCES, "exec: \"%s\": permission denied", program);
    pid_t self = getpid();
    p->pid = p->terminal ? forkpty(&p->master, NULL, NULL, &p->size) : fork();
    if (p->pid == 0)
        child(p, self);
    if (p->pid < 0)
        return err_errno(err, errno, "fork");
    p->started = true;
    int r = 0;
    if (p->terminal) {
        /* Each end of a pump needs an fd of its own. */
        fd_set_cloexec(p->master, true);
        r = pump_new(p->mock->event, p->master, p->fds[1], &process_output_ops, p, &p->out, err);
        if (r == 0)
            r = pump_new(p->mock->event, p->fds[0], fcntl(p->master, F_DUPFD_CLOEXEC, 3), &input_ops, p, &p->in, err);
    } else {
        for (int i = 0; i < 3; i++)
            p->fds[i] = fd_close(p->fds[i]);
    }
    int pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    if (r == 0 && (r = sd_event_add_io(p->mock->event, &p->child, pidfd, EPOLLIN, on_child, p)) >= 0)
        r = sd_event_source_set_io_fd_own(p->child, true);
    return r;
}

/* New processes. */

void process_take_stdio(struct process *p, struct ttrpc_request *req, const char *in, const char *out,
                        const char *err) {
    const char *uris[] = {in, out, err};
    for (size_t i = 0; i < ARRAY_SIZE(uris); i++)
        p->fds[i] = strcmp(uris[i], "fd://") == 0 ? ttrpc_request_take_fd(req) : -1;
}

struct process *process_add(struct mock *m, const char *exec_id, json_t *spec, bool terminal, uint32_t host_pid,
                            uint32_t width, uint32_t height) {
    for (size_t i = *exec_id ? 1 : 0; i < PROCESSES_MAX; i++) {
        struct process *p = &m->processes[i];
        if (p->used)
            continue;
        *p = (struct process){.mock = m,
                              .used = true,
                              .terminal = terminal,
                              .master = -1,
                              .spec = spec,
                              .hold = {-1, -1, -1},
                              .client = {-1, -1, -1}};
        p->size.ws_col = (unsigned short)width;
        p->size.ws_row = (unsigned short)height;
        p->host_pid = (pid_t)host_pid;
        snprintf(p->exec_id, sizeof(p->exec_id), "%s", exec_id);
        int pidfd = host_pid ? (int)syscall(SYS_pidfd_open, (pid_t)host_pid, 0) : -1;
        if (pidfd >= 0 && sd_event_add_io(m->event, &p->host, pidfd, EPOLLIN, on_host_gone, p) >= 0)
            (void)sd_event_source_set_io_fd_own(p->host, true);
        return p;
    }
    abort();
}

void process_drop(struct process *p) {
    sd_event_source_disable_unref(p->child);
    sd_event_source_disable_unref(p->host);
    pump_free(p->in);
    pump_free(p->out);
    process_let_go(p);
    for (size_t i = 0; i < 3; i++)
        p->hold[i] = fd_close(p->hold[i]);
    if (p->pid > 0 && !p->exited)
        kill(p->pid, SIGKILL);
    for (size_t i = 0; i < p->n_waiters; i++) {
        Containerd__Task__V2__WaitResponse out = CONTAINERD__TASK__V2__WAIT_RESPONSE__INIT;
        out.exit_status = 137;
        ttrpc_reply(p->waiters[i], &out.base);
    }
    for (size_t i = 0; i < 3; i++)
        fd_close(p->fds[i]);
    json_decref(p->spec);
    p->used = false;
}
