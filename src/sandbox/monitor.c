/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/monitor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/host_process.h"
#include "base/proc.h"

#define FD_SOCK 3
#define READY_USEC (10 * USEC_PER_SEC)
#define EXIT_LOST 137 /* 128 + SIGKILL: the daemon is gone */

struct monitor {
    struct proc proc;
    int sock;
    sd_event_source *readable;
    monitor_signal_fn fn;
    void *userdata;
};

/* Keeps the socket alone. */
static int tidy(int sock) {
    if (sock != FD_SOCK && dup3(sock, FD_SOCK, O_CLOEXEC) < 0)
        return -errno;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3; fd++)
        if (null < 0 || dup2(null, fd) < 0)
            return -errno;
    return syscall(SYS_close_range, (unsigned)FD_SOCK + 1, ~0u, 0u) < 0 ? -errno : 0;
}

/* Until the status comes, or the daemon's end of the socket is closed. */
static int relay(int signals) {
    for (;;) {
        struct pollfd p[] = {{.fd = FD_SOCK, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
        struct signalfd_siginfo si;
        unsigned char byte;
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return EXIT_LOST;
        if (p[0].revents)
            return read(FD_SOCK, &byte, 1) == 1 ? byte : EXIT_LOST;
        if (p[1].revents && read(signals, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
            byte = (unsigned char)si.ssi_signo;
            /* A daemon that does not read them: signals are lost, as they may be when several of one kind wait. */
            (void)send(FD_SOCK, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
    }
}

static void __attribute__((noreturn)) monitor_main(const json_t *title, int sock) {
    struct err err = ERR_INIT;
    sigset_t all;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "stasis-monitor");
    setsid();
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    if (tidy(sock) < 0)
        _exit(1);
    int signals = signalfd(-1, &all, SFD_CLOEXEC);
    host_process_set_title(title);
    int r = signals < 0 ? err_errno(&err, errno, "cannot watch signals") : host_process_leave_root(&err);
    if (r == 0)
        r = host_process_drop_privileges(&err);
    if (r < 0) {
        fd_write_all(FD_SOCK, err.msg, strlen(err.msg));
        _exit(1);
    }
    fd_write_all(FD_SOCK, "", 1);
    _exit(relay(signals));
}

static int on_readable(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
    (void)revents;
    struct monitor *m = userdata;
    unsigned char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
    if (n == 1)
        m->fn(m->userdata, byte);
    else if (n == 0 || errno != EAGAIN) /* it has ended: who watches the pid knows */
        return sd_event_source_set_enabled(source, SD_EVENT_OFF);
    return 0;
}

/* Only now is its root no longer the host's. */
static int await_ready(const struct monitor *m, struct err *err) {
    char text[512];
    ssize_t n = fd_wait(m->sock, POLLIN, READY_USEC) > 0 ? read(m->sock, text, sizeof(text) - 1) : 0;
    if (n <= 0)
        return err_set(err, EIO, "the monitor process does not become ready");
    text[n] = '\0';
    return *text ? err_set(err, EIO, "the monitor process: %s", text) : 0;
}

static int start(struct monitor *m, sd_event *event, const json_t *title, struct err *err) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(err, errno, "cannot make a socket for the monitor process");
    m->sock = pair[0];
    cleanup_fd int theirs = pair[1];
    m->proc.pid = host_process_clone(&m->proc.pidfd, err);
    if (m->proc.pid < 0) {
        int r = (int)m->proc.pid;
        m->proc.pid = 0;
        return r;
    }
    if (m->proc.pid == 0)
        monitor_main(title, theirs);
    fd_closep(&theirs);
    int r = await_ready(m, err);
    if (r < 0)
        return r;
    r = sd_event_add_io(event, &m->readable, m->sock, EPOLLIN, on_readable, m);
    return r < 0 ? err_errno(err, -r, "cannot watch the monitor process") : 0;
}

int monitor_start(sd_event *event, const json_t *title, monitor_signal_fn fn, void *userdata, struct monitor **ret,
                  struct err *err) {
    struct monitor *m = malloc(sizeof(*m));
    if (!m)
        return err_set(err, ENOMEM, "out of memory");
    *m = (struct monitor){.proc = PROC_NONE, .sock = -1, .fn = fn, .userdata = userdata};
    int r = start(m, event, title, err);
    if (r < 0) {
        monitor_free(m);
        return r;
    }
    *ret = m;
    return 0;
}

pid_t monitor_pid(const struct monitor *m) {
    return m->proc.pid;
}

void monitor_exit(struct monitor *m, uint32_t status) {
    unsigned char byte = (unsigned char)status;
    /* One that has been killed has no need of it. */
    (void)send(m->sock, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

struct monitor *monitor_free(struct monitor *m) {
    if (!m)
        return NULL;
    sd_event_source_disable_unref(m->readable);
    fd_close(m->sock);
    proc_kill(&m->proc);
    free(m);
    return NULL;
}
