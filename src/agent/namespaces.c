/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/namespaces.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"

#define NET_DEV_MAX ((size_t)64 << 10)

static const char *const kinds[] = {"ipc", "net", "pid", "uts"};

static int pin(const char *dir, const char *id, const char *kind, pid_t pid, struct err *err) {
    char from[64];
    cleanup_free char *to = str_printf("%s/%s/%s", dir, id, kind);
    if (!to)
        return err_set(err, ENOMEM, "out of memory");
    snprintf(from, sizeof(from), "/proc/%d/ns/%s", (int)pid, kind);
    cleanup_fd int fd = open(to, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
    if (fd < 0)
        return err_errno(err, errno, "cannot create %s", to);
    return mount(from, to, NULL, MS_BIND, NULL) < 0 ? err_errno(err, errno, "cannot keep %s at %s", from, to) : 0;
}

int namespaces_pin(const char *dir, const char *id, pid_t pid, struct err *err) {
    cleanup_free char *own = path_join(dir, id);
    int r = own ? path_mkdirs(own, 0700, err) : err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++)
        r = pin(dir, id, kinds[i], pid, err);
    if (r < 0)
        namespaces_unpin(dir, id);
    return r;
}

void namespaces_unpin(const char *dir, const char *id) {
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        cleanup_free char *path = str_printf("%s/%s/%s", dir, id, kinds[i]);
        if (path && umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != ENOENT && errno != EINVAL)
            log_warn("cannot unmount %s: %s", path, strerror(errno));
        if (path)
            (void)unlink(path); /* not there if it was not pinned */
    }
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
