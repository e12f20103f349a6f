/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/criu_scan.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/major.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/criu.h"
#include "base/fd.h"
#include "base/util.h"

#define DELETED " (deleted)"
#define FDINFO_MAX ((size_t)64 << 10)
#define MOUNTINFO_MAX ((size_t)4 << 20)
#define TUN_MINOR 200
#define PATH_SHOWN 128

/* Files without a path that CRIU has no image for. */
static const struct {
    const char *target, *reason;
} kernel_objects[] = {
    {"anon_inode:[io_uring]",
     "io_uring is in use (programs on libuv, as Node, do without where they find none: [vm] kernel_params = "
     "sysctl.kernel.io_uring_disabled=2, or a seccomp profile that forbids it; those on an older libuv also with "
     "UV_USE_IO_URING=0 in their environment)"},
    {"anon_inode:[userfaultfd]", "userfaultfd is in use"},
    {"anon_inode:[perf_event]", "performance events are in use"},
    {"anon_inode:bpf-prog", "a BPF program is held"},
    {"anon_inode:bpf_link", "a BPF link is held"},
    {"anon_inode:seccomp notify", "a seccomp listener is held"},
    {"anon_inode:[fscontext]", "a file system is being configured"},
};

static bool is_deleted(const char *target) {
    size_t len = strlen(target);
    return len > strlen(DELETED) && strcmp(target + len - strlen(DELETED), DELETED) == 0;
}

/* Memory devices, terminals, and tun. */
static bool device_has_image(unsigned major, unsigned minor) {
    return major == MEM_MAJOR || major == TTY_MAJOR || major == TTYAUX_MAJOR ||
           (major >= UNIX98_PTY_MASTER_MAJOR && major < UNIX98_PTY_SLAVE_MAJOR + UNIX98_PTY_MAJOR_COUNT) ||
           (major == MISC_MAJOR && minor == TUN_MINOR);
}

const char *criu_scan_judge(const struct criu_file *f) {
    for (size_t i = 0; i < ARRAY_SIZE(kernel_objects); i++)
        if (strcmp(f->target, kernel_objects[i].target) == 0)
            return kernel_objects[i].reason;
    if (S_ISBLK(f->mode))
        return "a block device is open";
    if (S_ISCHR(f->mode) && !device_has_image(f->major, f->minor))
        return "a device is open that CRIU does not know";
    if (!f->on_mount || !is_deleted(f->target))
        return NULL;
    if (S_ISREG(f->mode) && f->links == 0 && f->size > CRIU_GHOST_LIMIT)
        return "a deleted file is open that is too large to be kept in the images";
    if (S_ISREG(f->mode) && f->links > 0)
        return "a file is open whose name was deleted while it has others";
    return NULL;
}

int criu_scan_mount_id(const char *fdinfo) {
    const char *p = strstr(fdinfo, "mnt_id:");
    uint64_t id;
    if (!p)
        return -1;
    p += strspn(p + 7, "\t ") + 7;
    char number[16];
    snprintf(number, sizeof(number), "%.*s", (int)MIN(strcspn(p, "\n"), sizeof(number) - 1), p);
    return parse_u64(number, INT_MAX, &id) < 0 ? -1 : (int)id;
}

bool criu_scan_has_mount(const char *mountinfo, int id) {
    char start[16];
    int len = snprintf(start, sizeof(start), "%d ", id);
    for (const char *line = mountinfo; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, start, (size_t)len) == 0)
            return true;
    return false;
}

struct scan {
    size_t fds, findings;
    struct err *err;
};

/* Control characters in a path are the container's, and not for our messages. */
static void printable(char *s) {
    for (; *s; s++)
        if (*s < ' ' || *s > '~')
            *s = '?';
}

static void found(struct scan *s, pid_t pid, const char *name, const char *target, const char *reason) {
    char shown[PATH_SHOWN + 1];
    if (++s->findings > CRIU_SCAN_NAMED_MAX)
        return;
    snprintf(shown, sizeof(shown), "%s", target);
    printable(shown);
    if (s->findings == 1)
        err_set(s->err, EBUSY, "%s: pid %d, fd %s, %s", reason, (int)pid, name, shown);
    else
        err_append(s->err, "; %s: pid %d, fd %s, %s", reason, (int)pid, name, shown);
}

/* *mountinfo of the process is read when it is first needed. */
static bool is_on_mount(int proc, const char *fd_name, char **mountinfo) {
    char path[32 + NAME_MAX];
    cleanup_free char *info = NULL;
    snprintf(path, sizeof(path), "fdinfo/%s", fd_name);
    if (file_read_at(proc, path, FDINFO_MAX, &info, NULL, NULL) < 0)
        return false;
    if (!*mountinfo && file_read_at(proc, "mountinfo", MOUNTINFO_MAX, mountinfo, NULL, NULL) < 0)
        return false;
    return criu_scan_has_mount(*mountinfo, criu_scan_mount_id(info));
}

static void look_at(struct scan *s, pid_t pid, int proc, int dir, const char *name, char **mountinfo) {
    char target[PATH_MAX];
    struct statx sx;
    ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);
    if (n < 0)
        return;
    target[n] = '\0';
    /* What the kernel knows by itself: the server of a file system is not asked. */
    if (statx(dir, name, AT_STATX_DONT_SYNC, STATX_TYPE | STATX_SIZE | STATX_NLINK, &sx) < 0)
        return;
    struct criu_file f = {.target = target,
                          .mode = sx.stx_mode,
                          .major = sx.stx_rdev_major,
                          .minor = sx.stx_rdev_minor,
                          .size = sx.stx_size,
                          .links = sx.stx_nlink,
                          .on_mount = is_deleted(target) && is_on_mount(proc, name, mountinfo)};
    const char *reason = criu_scan_judge(&f);
    if (reason)
        found(s, pid, name, target, reason);
}

static void scan_process(struct scan *s, pid_t pid) {
    char path[32];
    cleanup_free char *mountinfo = NULL;
    snprintf(path, sizeof(path), "/proc/%d", (int)pid);
    cleanup_fd int proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = proc < 0 ? -1 : openat(proc, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        fd_close(fd);
        return;
    }
    struct dirent *e;
    while (s->fds < CRIU_SCAN_FDS_MAX && (e = readdir(dir)))
        if (e->d_name[0] != '.') {
            s->fds++;
            look_at(s, pid, proc, dirfd(dir), e->d_name, &mountinfo);
        }
}

int criu_scan(const pid_t *pids, size_t n, struct err *err) {
    struct scan s = {.err = err};
    for (size_t i = 0; i < n && s.fds < CRIU_SCAN_FDS_MAX; i++)
        scan_process(&s, pids[i]);
    if (s.findings > CRIU_SCAN_NAMED_MAX)
        err_append(err, "; and %zu more", s.findings - CRIU_SCAN_NAMED_MAX);
    return s.findings ? -EBUSY : 0;
}
