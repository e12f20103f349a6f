/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/background.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"
#include "cli/progress.h"

struct answer {
    int result;
    struct err err;
};

static int on_answer(sd_event_source *source, int fd, uint32_t events, void *userdata) {
    (void)fd;
    (void)events;
    (void)userdata;
    return sd_event_exit(sd_event_source_get_event(source), 0);
}

/* Until there is an answer, or the child is gone. */
static int show_progress(const char *what, int fd, struct err *err) {
    struct progress progress = {0};
    sd_event *event = NULL;
    int r = sd_event_new(&event);
    if (r >= 0)
        r = sd_event_add_io(event, NULL, fd, EPOLLIN, on_answer, NULL);
    if (r >= 0) {
        progress_begin(&progress, event, what);
        r = sd_event_loop(event);
        progress_end(&progress);
    }
    sd_event_unref(event);
    return r < 0 ? err_errno(err, -r, "cannot create an event loop") : 0;
}

static void __attribute__((noreturn))
child(pid_t parent, int fd, int (*fn)(void *userdata, struct err *err), void *userdata) {
    struct answer a = {.err = ERR_INIT};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    a.result = fn(userdata, &a.err);
    fflush(stdout);
    _exit(fd_write_all(fd, &a, sizeof(a)) < 0);
}

int background_run(const char *what, int (*fn)(void *userdata, struct err *err), void *userdata, struct err *err) {
    struct answer a = {.err = ERR_INIT};
    int p[2], status;
    if (!isatty(STDERR_FILENO))
        return fn(userdata, err);
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_errno(err, errno, "cannot make a pipe");
    cleanup_fd int ours = p[0], theirs = p[1];
    fflush(stdout);
    pid_t self = getpid(), pid = fork();
    if (pid < 0)
        return err_errno(err, errno, "cannot start a process");
    if (pid == 0)
        child(self, theirs, fn, userdata);
    fd_close(TAKE_FD(theirs));
    int r = show_progress(what, ours, err);
    char *at = (char *)&a;
    for (size_t left = sizeof(a); r == 0 && left;) {
        ssize_t n = read(ours, at, left);
        if (n <= 0)
            r = err_set(err, ECHILD, "%s: the process that did it is gone", what);
        at += n;
        left -= (size_t)MAX(n, 0);
    }
    if (r < 0)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (r < 0)
        return r;
    if (a.result < 0)
        err_copy(err, &a.err);
    return a.result;
}
