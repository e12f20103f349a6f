/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/fifo.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"

#define FIFO_POLL_USEC (200 * USEC_PER_MSEC) /* where inotify cannot be had */

struct fifo_watch {
    int fd; /* the stream's */
    void (*opened)(void *userdata);
    void *userdata;
    sd_event_source *source;
};

static const char *type_name(mode_t mode) {
    switch (mode & S_IFMT) {
    case S_IFREG:
        return "a regular file";
    case S_IFDIR:
        return "a directory";
    case S_IFLNK:
        return "a symbolic link";
    case S_IFSOCK:
        return "a socket";
    default:
        return "a device";
    }
}

/* Opens what fd refers to once more. */
static int reopen(int fd, int flags) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int own = open(path, flags | O_NONBLOCK | O_CLOEXEC);
    return own < 0 ? -errno : own;
}

int fifo_open(const char *path, bool input, struct err *err) {
    cleanup_fd int at = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (at < 0 || fstat(at, &st) < 0)
        return err_errno(err, errno, "cannot open FIFO %s", path);
    if (!S_ISFIFO(st.st_mode))
        return err_set(err, EINVAL, "%s is %s, not a FIFO", path, type_name(st.st_mode));
    /* A write end alone cannot be opened while there is no reader: for a moment we are one. */
    cleanup_fd int both = input ? -1 : reopen(at, O_RDWR);
    int r = input ? reopen(at, O_RDONLY) : both < 0 ? both : reopen(at, O_WRONLY);
    return r < 0 ? err_errno(err, -r, "cannot open FIFO %s", path) : r;
}

int fifo_reopen_input(int fd) {
    return reopen(fd, O_RDONLY);
}

bool fifo_has_reader(int fd) {
    struct pollfd p = {.fd = fd};
    return poll(&p, 1, 0) == 0; /* POLLERR is reported unasked */
}

size_t fifo_pending(int fd) {
    int n = 0;
    return ioctl(fd, FIONREAD, &n) < 0 || n < 0 ? 0 : (size_t)n;
}

static int on_open(sd_event_source *source, const struct inotify_event *event, void *userdata) {
    (void)source;
    (void)event;
    struct fifo_watch *w = userdata;
    w->opened(w->userdata);
    return 0;
}

static int on_poll(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)usec;
    struct fifo_watch *w = userdata;
    int r = sd_event_source_set_time_relative(source, FIFO_POLL_USEC);
    if (r >= 0)
        r = sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
    if (r < 0)
        return r;
    if (fifo_has_reader(w->fd))
        w->opened(w->userdata);
    return 0;
}

int fifo_watch_new(sd_event *event, int fd, void (*opened)(void *userdata), void *userdata, struct fifo_watch **ret,
                   struct err *err) {
    struct fifo_watch *w = calloc(1, sizeof(*w));
    if (!w)
        return err_set(err, ENOMEM, "out of memory");
    *w = (struct fifo_watch){.fd = fd, .opened = opened, .userdata = userdata};
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int r = sd_event_add_inotify(event, &w->source, path, IN_OPEN, on_open, w);
    if (r < 0) { /* a busy host runs out of instances and watches, of which a user has few */
        log_debug("no inotify for a FIFO: looking at it every %llu ms",
                  (unsigned long long)(FIFO_POLL_USEC / USEC_PER_MSEC));
        r = sd_event_add_time_relative(event, &w->source, CLOCK_MONOTONIC, FIFO_POLL_USEC, 0, on_poll, w);
    }
    if (r < 0) {
        fifo_watch_free(w);
        return err_errno(err, -r, "cannot watch a FIFO");
    }
    *ret = w;
    return 0;
}

struct fifo_watch *fifo_watch_free(struct fifo_watch *w) {
    if (!w)
        return NULL;
    sd_event_source_disable_unref(w->source);
    free(w);
    return NULL;
}
