/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/namespaces.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"

#define STATUS_MAX ((size_t)16 << 10)
#define NET_DEV_MAX ((size_t)64 << 10)

static const char *const kinds[] = {"ipc", "net", "pid", "uts"};

static int make_dir(const char *dir, const char *id, struct err *err) {
    cleanup_free char *own = path_join(dir, id);
    return own ? path_mkdirs(own, 0700, err) : err_set(err, ENOMEM, "out of memory");
}

static int pin(const char *dir, const char *id, const char *kind, const char *process, struct err *err) {
    char from[64];
    cleanup_free char *to = str_printf("%s/%s/%s", dir, id, kind);
    if (!to)
        return err_set(err, ENOMEM, "out of memory");
    snprintf(from, sizeof(from), "/proc/%s/ns/%s", process, kind);
    cleanup_fd int fd = open(to, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
    if (fd < 0)
        return err_errno(err, errno, "cannot create %s", to);
    return mount(from, to, NULL, MS_BIND, NULL) < 0 ? err_errno(err, errno, "cannot keep %s at %s", from, to) : 0;
}

static void unpin(const char *dir, const char *id, const char *kind) {
    cleanup_free char *path = str_printf("%s/%s/%s", dir, id, kind);
    if (path && umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != ENOENT && errno != EINVAL)
        log_warn("cannot unmount %s: %s", path, strerror(errno));
    if (path)
        (void)unlink(path); /* not there if it was not pinned */
}

static int raise_loopback(struct err *err) {
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return fd < 0 || ioctl(fd, SIOCSIFFLAGS, &lo) < 0 ? err_errno(err, errno, "cannot raise lo") : 0;
}

static int set_sysctl(int net, const char *key, const json_t *value, struct err *err) {
    cleanup_free char *path = strdup(key);
    if (!path)
        return err_set(err, ENOMEM, "out of memory");
    for (char *dot = path; (dot = strchr(dot, '.'));)
        *dot = '/';
    cleanup_fd int fd = path_open_beneath(net, path, O_WRONLY, 0, err);
    int r = fd < 0 ? fd : fd_write_all(fd, json_string_value(value), json_string_length(value));
    return fd >= 0 && r < 0 ? err_errno(err, -r, "cannot write it") : r;
}

/* /proc/sys/net is that of the network which the process is in. */
static void set_sysctls(const json_t *sysctls) {
    const char *key;
    json_t *value;
    cleanup_fd int net = open("/proc/sys/net", O_PATH | O_DIRECTORY | O_CLOEXEC);
    json_object_foreach((json_t *)sysctls, key, value) {
        struct err err = ERR_INIT;
        if ((strncmp(key, "net.", 4) == 0 || strncmp(key, "net/", 4) == 0) && set_sysctl(net, key + 4, value, &err) < 0)
            log_warn("sysctl %s: %s", key, err.msg);
    }
}

static int open_network(struct err *err) {
    int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "cannot open /proc/self/ns/net") : fd;
}

/* Into another network, and back: a process of its own to do it would take longer than all the rest. */
static int enter_network(int spare, struct err *err) {
    if (spare >= 0)
        return setns(spare, CLONE_NEWNET) < 0 ? err_errno(err, errno, "cannot enter a network namespace") : 0;
    if (unshare(CLONE_NEWNET) < 0)
        return err_errno(err, errno, "cannot make a network namespace");
    return raise_loopback(err);
}
static void leave_network(int own) {
    if (setns(own, CLONE_NEWNET) < 0) {
        log_error("cannot go back to the network namespace of the guest: %s", strerror(errno));
        abort();
    }
}

int namespaces_make_spare(struct err *err) {
    cleanup_fd int own = open_network(err);
    if (own < 0)
        return own;
    int r = enter_network(-1, err);
    if (r == 0)
        r = open_network(err);
    leave_network(own);
    return r;
}

int namespaces_make_network(const char *dir, const char *id, const json_t *sysctls, int *spare, struct err *err) {
    cleanup_fd int own = open_network(err), network = TAKE_FD(*spare);
    if (own < 0)
        return own;
    int r = make_dir(dir, id, err);
    if (r < 0)
        return r;
    r = FAULT(AGENT_NETWORK) ? err_errno(err, errno, "cannot make a network namespace") : enter_network(network, err);
    if (r == 0 && (r = pin(dir, id, "net", "self", err)) == 0)
        set_sysctls(sysctls);
    leave_network(own);
    if (r < 0)
        namespaces_unpin(dir, id);
    return r;
}

int namespaces_pin(const char *dir, const char *id, pid_t pid, struct err *err) {
    char process[16];
    snprintf(process, sizeof(process), "%d", (int)pid);
    unpin(dir, id, "net");
    int r = make_dir(dir, id, err);
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++)
        r = pin(dir, id, kinds[i], process, err);
    if (r < 0)
        namespaces_unpin(dir, id);
    return r;
}

void namespaces_unpin(const char *dir, const char *id) {
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        unpin(dir, id, kinds[i]);
    cleanup_free char *own = path_join(dir, id);
    if (own && rmdir(own) < 0 && errno != ENOENT)
        log_warn("cannot remove %s: %s", own, strerror(errno));
}

bool namespaces_is_only_loopback(const char *net_dev) {
    bool loopback = false;
    for (const char *line = net_dev; line; line = strchr(line, '\n')) {
        line += strspn(line, "\n ");
        const char *colon = strchr(line, ':');
        if (!colon || memchr(line, '\n', (size_t)(colon - line)))
            continue; /* the head of the table */
        if (loopback || colon - line != 2 || memcmp(line, "lo", 2) != 0)
            return false;
        loopback = true;
    }
    return loopback;
}

bool namespaces_network_is_closed(pid_t pid) {
    char path[40];
    struct stat own, its;
    cleanup_free char *text = NULL;
    snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
    if (stat("/proc/self/ns/net", &own) < 0 || stat(path, &its) < 0 ||
        (own.st_dev == its.st_dev && own.st_ino == its.st_ino))
        return false;
    snprintf(path, sizeof(path), "/proc/%d/net/dev", (int)pid);
    return file_read_at(AT_FDCWD, path, NET_DEV_MAX, &text, NULL, NULL) == 0 && namespaces_is_only_loopback(text);
}

pid_t namespaces_own_pid(pid_t pid) {
    static const char key[] = "\nNSpid:";
    char path[40];
    cleanup_free char *text = NULL;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    if (file_read_at(AT_FDCWD, path, STATUS_MAX, &text, NULL, NULL) < 0)
        return 0;
    char *line = strstr(text, key);
    uint64_t own = 0;
    if (!line)
        return 0;
    line[1 + strcspn(line + 1, "\n")] = '\0';
    const char *last = strrchr(line, '\t');
    return last && parse_u64(last + 1, INT32_MAX, &own) == 0 ? (pid_t)own : 0;
}
