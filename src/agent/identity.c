/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/identity.h"

#include <assert.h>
#include <ctype.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/random.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/container.h"
#include "agent/init.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"

#define MACHINE_ID_LEN 32
#define MACHINE_ID_PATH "etc/machine-id"

int identity_reseed(const char *device, const void *entropy, size_t len, struct err *err) {
    struct {
        int entropy_count, buf_size; /* struct rand_pool_info, whose array has no size */
        uint8_t data[IDENTITY_ENTROPY_MAX];
    } pool = {0};
    static_assert(offsetof(struct rand_pool_info, buf) == 2 * sizeof(int), "the kernel's structure");
    if (len < IDENTITY_ENTROPY_MIN || len > IDENTITY_ENTROPY_MAX)
        return err_set(err, EINVAL, "a copy needs %d to %d bytes of entropy, not %zu", IDENTITY_ENTROPY_MIN,
                       IDENTITY_ENTROPY_MAX, len);
    cleanup_fd int fd = open(device, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "cannot open %s", device);
    pool.entropy_count = (int)len * 8;
    pool.buf_size = (int)len;
    memcpy(pool.data, entropy, len);
    int r = ioctl(fd, RNDADDENTROPY, &pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0 ? -errno : 0;
    explicit_bzero(&pool, sizeof(pool));
    return r < 0 ? err_errno(err, -r, "cannot seed the kernel's random numbers anew") : 0;
}

static int draw(uint8_t bytes[16], struct err *err) {
    if (getrandom(bytes, 16, 0) != 16)
        return err_errno(err, errno, "cannot draw random numbers");
    bytes[6] = (bytes[6] & 0x0f) | 0x40; /* RFC 4122, 4.4: version 4, and the variant */
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    return 0;
}

int identity_uuid(char ret[IDENTITY_UUID_LEN + 1], struct err *err) {
    static const size_t groups[] = {4, 2, 2, 2, 6};
    uint8_t bytes[16];
    int r = draw(bytes, err);
    if (r < 0)
        return r;
    const uint8_t *from = bytes;
    for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
        hex_format(from, groups[i], ret);
        from += groups[i];
        ret += 2 * groups[i];
        *ret++ = i + 1 < ARRAY_SIZE(groups) ? '-' : '\0';
    }
    return 0;
}

/* Machine ids. */

/* An O_PATH fd, as the container itself would find it but for links and mounts: a file that is mounted there was given
 * to the container by somebody, and is not its own. */
static int find_machine_id(int root) {
    struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
    int fd = (int)syscall(SYS_openat2, root, MACHINE_ID_PATH, &how, sizeof(how));
    return fd < 0 ? -errno : fd;
}

/* 32 digits and an end of line, or none; "uninitialized" and the empty file are for the system inside to fill. */
static bool holds_id(const char *text, ssize_t len) {
    if (len != MACHINE_ID_LEN && !(len == MACHINE_ID_LEN + 1 && text[MACHINE_ID_LEN] == '\n'))
        return false;
    for (size_t i = 0; i < MACHINE_ID_LEN; i++)
        if (!isxdigit((unsigned char)text[i]))
            return false;
    return true;
}

static int write_machine_id(int fd, const char *who, struct err *err) {
    char text[MACHINE_ID_LEN + 2], path[64];
    uint8_t bytes[MACHINE_ID_LEN / 2];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    cleanup_fd int in = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (in < 0)
        return err_errno(err, errno, "%s: cannot read /" MACHINE_ID_PATH, who);
    if (!holds_id(text, pread(in, text, sizeof(text), 0)))
        return 0;
    cleanup_fd int out = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (out < 0 && (errno == EROFS || errno == EACCES || errno == EPERM)) {
        log_info("%s: /" MACHINE_ID_PATH " stays what it is: %s", who, strerror(errno));
        return 0;
    }
    if (out < 0)
        return err_errno(err, errno, "%s: cannot write /" MACHINE_ID_PATH, who);
    int r = draw(bytes, err);
    if (r < 0)
        return r;
    hex_format(bytes, sizeof(bytes), text);
    if (pwrite(out, text, MACHINE_ID_LEN, 0) != MACHINE_ID_LEN)
        return err_errno(err, errno, "%s: cannot write /" MACHINE_ID_PATH, who);
    return 1;
}

int identity_machine_id(int root, const char *who, struct err *err) {
    struct stat st;
    cleanup_fd int fd = find_machine_id(root);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return 0;
    return write_machine_id(fd, who, err);
}

/* Host names. */

static int namespace_of(pid_t pid, const char *kind, struct stat *ret) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, kind);
    return stat(path, ret) < 0 ? -errno : 0;
}

/* True if the guest, or a container that is older (they are later in the list), has the same. */
static bool is_shared(const struct container *c, const struct stat *own) {
    struct stat st;
    if (namespace_of(getpid(), "uts", &st) == 0 && st.st_ino == own->st_ino)
        return true;
    for (const struct container *o = c->next; o; o = o->next)
        if (o->init->pid > 0 && namespace_of(o->init->pid, "uts", &st) == 0 && st.st_ino == own->st_ino)
            return true;
    return false;
}

static int set_hostname(const struct container *c, const char *hostname, struct err *err) {
    char path[64];
    struct stat own;
    if (namespace_of(c->init->pid, "uts", &own) < 0 || is_shared(c, &own))
        return 0;
    snprintf(path, sizeof(path), "/proc/%d/ns/uts", (int)c->init->pid);
    cleanup_fd int self = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);
    cleanup_fd int ns = open(path, O_RDONLY | O_CLOEXEC);
    if (self < 0 || ns < 0 || setns(ns, CLONE_NEWUTS) < 0)
        return err_errno(err, errno, "cannot enter the host name's namespace");
    int r = init_set_hostname(hostname, err);
    if (setns(self, CLONE_NEWUTS) < 0)
        return err_errno(err, errno, "cannot leave the host name's namespace");
    return r;
}

/* All. */

static int renew(const struct container *c, const char *hostname, struct err *err) {
    char path[64], who[ID_MAX + 16];
    snprintf(who, sizeof(who), "container %s", c->id);
    snprintf(path, sizeof(path), "/proc/%d/root", (int)c->init->pid);
    cleanup_fd int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = root < 0 ? err_errno(err, errno, "cannot open %s", path) : identity_machine_id(root, who, err);
    if (r >= 0 && *hostname)
        r = set_hostname(c, hostname, err);
    return r < 0 ? err_wrap(err, "container %s", c->id) : 0;
}

int identity_renew(const struct agent *a, const struct identity_name *names, size_t n, struct err *err) {
    for (const struct container *c = a->containers; c; c = c->next) {
        const char *hostname = "";
        for (size_t i = 0; i < n; i++)
            if (strcmp(names[i].id, c->id) == 0)
                hostname = names[i].hostname;
        if (c->init->state != PROCESS_RUNNING)
            continue;
        int r = renew(c, hostname, err);
        if (r < 0)
            return r;
    }
    return 0;
}
