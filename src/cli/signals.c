/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/signals.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/fd.h"

struct watch {
    void (*fn)(int sig, void *userdata);
    void *userdata;
};

static void forwarded(sigset_t *ret) {
    sigfillset(ret);
    sigdelset(ret, SIGCHLD);
    sigdelset(ret, SIGURG);
    sigdelset(ret, SIGPIPE);
}

void signals_block(void) {
    sigset_t set;
    forwarded(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int on_signal(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
    (void)source;
    (void)revents;
    const struct watch *w = userdata;
    struct signalfd_siginfo info;
    if (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        w->fn((int)info.ssi_signo, w->userdata);
    return 0;
}

int signals_watch(sd_event *event, void (*fn)(int sig, void *userdata), void *userdata, struct err *err) {
    sigset_t set;
    forwarded(&set);
    cleanup_fd int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return err_errno(err, errno, "cannot watch signals");
    struct watch *w = malloc(sizeof(*w));
    if (!w)
        return err_set(err, ENOMEM, "out of memory");
    *w = (struct watch){.fn = fn, .userdata = userdata};
    sd_event_source *source = NULL;
    int r = sd_event_add_io(event, &source, fd, EPOLLIN, on_signal, w);
    if (r < 0) {
        free(w);
        return err_errno(err, -r, "cannot watch signals");
    }
    /* From here on the source owns both. */
    (void)sd_event_source_set_destroy_callback(source, free);
    (void)sd_event_source_set_io_fd_own(source, true);
    (void)TAKE_FD(fd);
    r = sd_event_source_set_floating(source, true);
    sd_event_source_unref(source);
    return r < 0 ? err_errno(err, -r, "cannot watch signals") : 0;
}

int signals_end_pending(void) {
    static const int ends[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    sigset_t set;
    if (sigpending(&set) < 0)
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
        if (sigismember(&set, ends[i]) == 1)
            return ends[i];
    return 0;
}

bool signals_is_end(int sig) {
    return sig == SIGHUP || sig == SIGINT || sig == SIGQUIT || sig == SIGTERM;
}
