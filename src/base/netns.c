/* SPDX-License-Identifier: Apache-2.0 */
#include "base/netns.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

#define LOOK_USEC (5 * USEC_PER_SEC)

/* O_NONBLOCK: nothing that is at this path instead makes us wait. */
static int open_network(const char *path, struct err *err) {
    struct statfs fs;
    cleanup_fd int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "cannot open the network namespace %s", path);
    if (fstatfs(fd, &fs) < 0 || (unsigned long)fs.f_type != NSFS_MAGIC || ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET)
        return err_set(err, EINVAL, "%s is no network namespace", path);
    return TAKE_FD(fd);
}

/* In the child. */
static void look(int network, int out) {
    if (setns(network, CLONE_NEWNET) < 0)
        _exit(1);
    struct if_nameindex *list = if_nameindex();
    if (!list)
        _exit(1);
    const char *separator = "";
    for (const struct if_nameindex *i = list; i->if_index; i++) {
        if (strcmp(i->if_name, "lo") == 0)
            continue;
        char name[IF_NAMESIZE + 2];
        int n = snprintf(name, sizeof(name), "%s%s", separator, i->if_name);
        if (fd_write_all(out, name, (size_t)n) < 0)
            _exit(1);
        separator = ", ";
    }
    _exit(0);
}

/* Up to the end of file. Returns the bytes, or a negative errno. */
static ssize_t read_names(int fd, char *text, size_t size) {
    uint64_t end = now_usec() + LOOK_USEC;
    size_t len = 0;
    while (len < size) {
        uint64_t now = now_usec();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int n = now < end ? poll(&p, 1, (int)((end - now) / USEC_PER_MSEC) + 1) : 0;
        if (n == 0)
            return -ETIMEDOUT;
        ssize_t got = n > 0 ? read(fd, text + len, size - len) : -1;
        if (got == 0)
            break;
        if (got < 0 && errno != EINTR)
            return -errno;
        len += got > 0 ? (size_t)got : 0;
    }
    return (ssize_t)len;
}

static int ask_child(int network, const char *path, char *text, size_t size, struct err *err) {
    int p[2], status = 0;
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_errno(err, errno, "cannot look into %s", path);
    pid_t pid = fork();
    if (pid == 0)
        look(network, p[1]);
    int failure = errno;
    fd_close(p[1]);
    ssize_t n = pid > 0 ? read_names(p[0], text, size - 1) : -failure;
    fd_close(p[0]);
    if (pid > 0) {
        if (n < 0)
            (void)kill(pid, SIGKILL); /* it is our child, and has not been waited for */
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            continue;
    }
    if (n >= 0 && n < (ssize_t)size - 1 && status != 0)
        n = -EIO;
    if (n < 0)
        return err_errno(err, (int)-n, "cannot look into the network namespace %s", path);
    text[n] = '\0';
    return 0;
}

int netns_interfaces(const char *path, bool foreign_only, char **ret, struct err *err) {
    cleanup_free char *text = calloc(1, NETNS_TEXT_MAX);
    struct stat own, its;
    cleanup_fd int network = open_network(path, err);
    if (network < 0)
        return network;
    if (!text)
        return err_set(err, ENOMEM, "out of memory");
    bool same = stat("/proc/self/ns/net", &own) == 0 && fstat(network, &its) == 0 && own.st_dev == its.st_dev &&
                own.st_ino == its.st_ino;
    int r = same && foreign_only ? 0 : ask_child(network, path, text, NETNS_TEXT_MAX, err);
    if (r == 0)
        *ret = TAKE_PTR(text);
    return r;
}
