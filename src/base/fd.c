/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

int fd_close(int fd) {
    if (fd >= 0) {
        int saved = errno;
        close(fd);
        errno = saved;
    }
    return -1;
}

static int fd_change_flags(int fd, int get, int set, int flag, bool on) {
    int flags = fcntl(fd, get);
    if (flags < 0)
        return -errno;
    int want = on ? flags | flag : flags & ~flag;
    if (want != flags && fcntl(fd, set, want) < 0)
        return -errno;
    return 0;
}

int fd_set_nonblock(int fd, bool on) {
    return fd_change_flags(fd, F_GETFL, F_SETFL, O_NONBLOCK, on);
}

int fd_set_cloexec(int fd, bool on) {
    return fd_change_flags(fd, F_GETFD, F_SETFD, FD_CLOEXEC, on);
}

int fd_wait(int fd, short events, uint64_t timeout_usec) {
    uint64_t start = now_usec();
    for (;;) {
        int ms = -1;
        if (timeout_usec != UINT64_MAX) {
            uint64_t gone = now_usec() - start;
            ms = gone >= timeout_usec ? 0 : (int)MIN((timeout_usec - gone + 999) / 1000, 1000 * 3600);
        }
        struct pollfd p = {.fd = fd, .events = events};
        int r = poll(&p, 1, ms);
        if (r > 0)
            return p.revents;
        if (r < 0 && errno != EINTR)
            return -errno;
        if (r == 0 && timeout_usec != UINT64_MAX && now_usec() - start >= timeout_usec)
            return 0;
    }
}

int fd_write_all(int fd, const void *buf, size_t len) {
    const char *p = buf;
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN) {
                int r = fd_wait(fd, POLLOUT, UINT64_MAX);
                if (r < 0)
                    return r;
                continue;
            }
            return -errno;
        }
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int fd_read_all(int fd, size_t max, char **ret, size_t *ret_len, struct err *err) {
    cleanup_free char *buf = NULL;
    size_t len = 0, size = 0;
    for (;;) {
        if (len + 1 >= size) {
            size = MIN(MAX(size * 2, (size_t)4096), max + 2);
            char *b = realloc(buf, size);
            if (!b)
                return err_set(err, ENOMEM, "out of memory");
            buf = b;
        }
        ssize_t n = read(fd, buf + len, size - len - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, errno, "read");
        if (n == 0)
            break;
        len += (size_t)n;
        if (len > max)
            return err_set(err, EFBIG, "larger than %zu bytes", max);
    }
    buf[len] = '\0';
    *ret = TAKE_PTR(buf);
    if (ret_len)
        *ret_len = len;
    return 0;
}

int file_read_at(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len, struct err *err) {
    cleanup_fd int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return err_errno(err, errno, "cannot open %s", path);
    int r = fd_read_all(fd, max, ret, ret_len, err);
    return r < 0 ? err_wrap(err, "cannot read %s", path) : r;
}

static int sync_parent(const char *path) {
    cleanup_free char *dir = strdup(path);
    if (!dir)
        return -ENOMEM;
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir ? 1 : 0] = '\0';
    cleanup_fd int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return -errno;
    return 0;
}

int file_write_atomic(const char *path, const void *buf, size_t len, mode_t mode, bool durable, struct err *err) {
    cleanup_free char *tmp = str_printf("%s.tmp.%d", path, (int)getpid());
    if (!tmp)
        return err_set(err, ENOMEM, "out of memory");
    cleanup_fd int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return err_errno(err, errno, "cannot create %s", tmp);
    int r = fd_write_all(fd, buf, len);
    if (r == 0 && durable && fsync(fd) < 0)
        r = -errno;
    if (r == 0 && rename(tmp, path) < 0)
        r = -errno;
    if (r < 0) {
        unlink(tmp);
        return err_errno(err, -r, "cannot write %s", path);
    }
    if (durable && (r = sync_parent(path)) < 0)
        return err_errno(err, -r, "cannot sync the directory of %s", path);
    return 0;
}

int file_write_at(int dirfd, const char *path, const char *value, struct err *err) {
    cleanup_fd int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return err_errno(err, errno, "cannot open %s", path);
    if (write(fd, value, strlen(value)) < 0)
        return err_errno(err, errno, "cannot write \"%s\" to %s", value, path);
    return 0;
}

ssize_t fd_send(int sock, const void *buf, size_t len, const int *fds, size_t n) {
    union {
        char data[CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n > FD_PASS_MAX)
        return -EINVAL;
    if (n) {
        msg.msg_control = control.data;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
    }
    for (;;) {
        ssize_t r = sendmsg(sock, &msg, MSG_NOSIGNAL);
        if (r >= 0)
            return r;
        if (errno != EINTR)
            return -errno;
    }
}

ssize_t fd_receive(int sock, void *buf, size_t len, int fds[FD_PASS_MAX], size_t *ret_n) {
    union {
        char data[CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = buf, .iov_len = len};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.data, .msg_controllen = sizeof(control.data)};
    ssize_t r;
    do
        r = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    while (r < 0 && errno == EINTR);
    if (r < 0)
        return -errno;

    size_t n = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (n < FD_PASS_MAX)
                fds[n++] = fd;
            else
                close(fd);
        }
    }
    if (msg.msg_flags & MSG_CTRUNC) {
        bool too_many = n == FD_PASS_MAX;
        while (n)
            close(fds[--n]);
        *ret_n = too_many ? 0 : FD_PASS_LOST;
        return too_many ? -EMSGSIZE : r;
    }
    *ret_n = n;
    return r;
}
