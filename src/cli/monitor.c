/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/monitor.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/host_process.h"
#include "base/proc.h"
#include "cli/sandbox_dir.h"
#include "cli/signals.h"
#include "cli/task.h"
#include "cli/terminal.h"

#define ANSWER_TIMEOUT (30 * USEC_PER_SEC)

/* Where the fds of the monitor are after tidy(). */
enum { FD_SOCK = 3, FD_SLAVE, FD_FIRST_FREE };

struct watcher {
    struct sandbox_dir dir; /* nothing of it can be reached: for the name in messages */
    struct session session;
    const struct monitor_spec *spec;
    int slave;
    bool exited;
    uint32_t status;
};

/* Keeps only what is needed: a descriptor left open here would be held as long as the container lives. */
static int tidy(const struct monitor_spec *spec, int sock) {
    int from[] = {sock, spec->slave};
    int moved[ARRAY_SIZE(from)];
    for (size_t i = 0; i < ARRAY_SIZE(from); i++)
        if ((moved[i] = from[i] < 0 ? -1 : fcntl(from[i], F_DUPFD_CLOEXEC, FD_FIRST_FREE)) < 0 && from[i] >= 0)
            return -errno;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return -errno;
    for (int fd = 0; fd < 3; fd++)
        if (dup2(null, fd) < 0)
            return -errno;
    for (size_t i = 0; i < ARRAY_SIZE(from); i++) {
        close(FD_SOCK + (int)i);
        if (moved[i] >= 0 && dup3(moved[i], FD_SOCK + (int)i, O_CLOEXEC) < 0)
            return -errno;
    }
    return syscall(SYS_close_range, (unsigned)FD_FIRST_FREE, ~0u, 0u) < 0 ? -errno : 0;
}

static void resize(struct watcher *w) {
    uint32_t width, height;
    if (w->slave < 0)
        return;
    terminal_size(w->slave, &width, &height);
    if (width && height)
        task_resize_async(&w->session, w->spec->container_id, w->spec->exec_id, width, height);
}

static void on_signal(int sig, void *userdata) {
    struct watcher *w = userdata;
    if (sig == SIGWINCH)
        resize(w);
    else
        task_kill_async(&w->session, w->spec->container_id, w->spec->exec_id, sig);
}

static void on_exit_status(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct watcher *w = userdata;
    w->exited = true;
    w->status = err ? MONITOR_LOST : ((const Containerd__Task__V2__WaitResponse *)*reply)->exit_status;
}

/* Starts the wait and a call after it on the same connection: its answer proves that the wait was taken. */
static int begin(struct watcher *w, int connection, struct err *err) {
    Containerd__Task__V2__ConnectRequest req = CONTAINERD__TASK__V2__CONNECT_REQUEST__INIT;
    req.id = (char *)w->spec->container_id;
    int r = session_open_fd(&w->session, &w->dir, connection, ANSWER_TIMEOUT, err);
    if (r == 0)
        r = signals_watch(w->session.event, on_signal, w, err);
    if (r == 0)
        r = task_wait_async(&w->session, w->spec->container_id, w->spec->exec_id, on_exit_status, w, err);
    if (r == 0)
        r = session_call(&w->session, &containerd__task__v2__task__descriptor, "Connect", &req.base, NULL, 0, 0, NULL,
                         err);
    return r;
}

/* What monitor_attach() sends: the connection and the network namespace. */
static int receive(int *ret_connection, struct err *err) {
    int fds[FD_PASS_MAX];
    size_t n = 0;
    char byte;
    ssize_t got = fd_receive(FD_SOCK, &byte, 1, fds, &n);
    if (got == 0)
        _exit(1); /* the process never came to be */
    if (got < 0 || n != 2)
        return err_set(err, EIO, "no connection was sent");
    int r = setns(fds[1], CLONE_NEWNET) < 0 ? -errno : 0;
    close(fds[1]);
    if (r < 0)
        return err_errno(err, -r, "cannot enter the sandbox's network namespace");
    *ret_connection = fds[0];
    return 0;
}

static void answer(const struct err *err) {
    if (err->code)
        fd_write_all(FD_SOCK, err->msg, strlen(err->msg));
    else
        fd_write_all(FD_SOCK, "", 1);
}

static int __attribute__((noreturn)) monitor_main(const struct monitor_spec *given, int sock) {
    struct monitor_spec spec = *given;
    struct watcher w = {.dir = SANDBOX_DIR_NONE, .spec = &spec, .slave = given->slave < 0 ? -1 : FD_SLAVE};
    struct err err = ERR_INIT;
    int connection = -1;
    char go = 0;

    if (spec.foreground)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "stasis-monitor");
    setsid();
    w.dir.id = strdup(spec.sandbox_id);
    if (!w.dir.id || tidy(given, sock) < 0)
        _exit(1);
    host_process_set_title(spec.title);
    /* As its controlling terminal it tells of SIGWINCH, and of SIGHUP when the master is closed. */
    if (w.slave >= 0)
        (void)ioctl(FD_SLAVE, TIOCSCTTY, 0);
    int r = host_process_leave_root(&err);
    if (r == 0)
        r = receive(&connection, &err);
    if (r == 0)
        r = host_process_drop_privileges(&err);
    answer(&err);
    if (r < 0 || read(FD_SOCK, &go, 1) != 1)
        _exit(1);

    r = begin(&w, connection, &err);
    answer(&err);
    if (r < 0)
        _exit(MONITOR_LOST);
    close(FD_SOCK);
    /* A terminal that was resized before it was ours sent no signal. */
    resize(&w);
    if (session_run_until(&w.session, &w.exited, SESSION_FOREVER, NULL) < 0)
        w.status = MONITOR_LOST;
    /* Nobody else will remove the record of a detached exec. */
    if (*spec.exec_id && !spec.foreground && !w.session.closed)
        (void)task_delete(&w.session, spec.container_id, spec.exec_id, NULL, NULL);
    _exit((int)(w.status & 0xff));
}

int monitor_fork(const struct monitor_spec *spec, struct monitor *ret, struct err *err) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(err, errno, "cannot make a socket for the monitor process");
    cleanup_fd int ours = pair[0], theirs = pair[1];
    int pidfd = -1;
    fflush(stdout);
    pid_t pid = host_process_clone(&pidfd, err);
    if (pid < 0)
        return (int)pid;
    if (pid == 0)
        monitor_main(spec, theirs);
    fd_close(pidfd);
    *ret = (struct monitor){.pid = pid, .sock = TAKE_FD(ours)};
    return 0;
}

static int await_answer(const struct monitor *m, struct err *err) {
    char text[512];
    int r = fd_wait(m->sock, POLLIN, ANSWER_TIMEOUT + 5 * USEC_PER_SEC);
    if (r == 0)
        return err_set(err, ETIMEDOUT, "the monitor process (pid %d) does not answer", (int)m->pid);
    ssize_t n = read(m->sock, text, sizeof(text) - 1);
    if (n <= 0)
        return err_set(err, ESRCH, "the monitor process (pid %d) has exited", (int)m->pid);
    text[n] = '\0';
    return text[0] ? err_set(err, EIO, "the monitor process: %s", text) : 0;
}

int monitor_attach(struct monitor *m, struct session *s, pid_t daemon_pid, uint64_t daemon_start, struct err *err) {
    Stasis__Sandbox__V1__InfoResponse *info = NULL;
    uint64_t start = 0;
    char path[40];
    /* A daemon that answers has made its network namespace. */
    int r = task_info(s, &info, err);
    if (r < 0)
        return r;
    stasis__sandbox__v1__info_response__free_unpacked(info, NULL);
    cleanup_fd int connection = sandbox_connect(s->dir, err);
    if (connection < 0)
        return connection;
    snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)daemon_pid);
    cleanup_fd int net = open(path, O_RDONLY | O_CLOEXEC);
    if (net < 0 || proc_start_time(daemon_pid, &start) < 0 || start != daemon_start)
        return session_daemon_died(s, err);
    ssize_t n = fd_send(m->sock, "a", 1, (int[]){connection, net}, 2);
    if (n < 0)
        return err_errno(err, (int)-n, "the monitor process (pid %d) has exited", (int)m->pid);
    return await_answer(m, err);
}

int monitor_release(struct monitor *m, struct err *err) {
    int r = fd_write_all(m->sock, "g", 1);
    if (r < 0)
        return err_errno(err, -r, "the monitor process (pid %d) has exited", (int)m->pid);
    r = await_answer(m, err);
    if (r < 0)
        return r;
    *m = (struct monitor){.pid = 0, .sock = fd_close(m->sock)};
    return 0;
}

void monitor_abort(struct monitor *m) {
    m->sock = fd_close(m->sock);
    if (m->pid > 0) {
        kill(m->pid, SIGKILL);
        while (waitpid(m->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    m->pid = 0;
}
