/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/init.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/cgroup.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/util.h"

#define CMDLINE_MAX ((size_t)64 << 10)
#define PORTS_DIR "/sys/class/virtio-ports"
#define CPUS_DIR "/sys/devices/system/cpu"
#define SHARE_READ_AHEAD_KB "4096"
#define PORT_POLL_NSEC 1000000L
#define NOFILE_MAX 524288 /* each process takes up to four fds here; containers may want many of their own */
#define CGROUP_FLAGS (MS_NOSUID | MS_NODEV | MS_NOEXEC)
/* A container must not lift the limits of its own cgroup. */
#define CGROUP_OPTIONS "nsdelegate,memory_recursiveprot"
/* Of all tasks that the kernel can have, those that no container gets: for the kernel, the agent, crun and CRIU. */
#define TASKS_KEPT UINT64_C(256)
#define SET "cannot set up the guest"

static const struct mount {
    const char *what, *where, *type, *options;
    unsigned long flags;
} mounts[] = {
    {"sysfs", "/sys", "sysfs", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"tmpfs", "/run", "tmpfs", "mode=755", MS_NOSUID | MS_NODEV},
    {"tmpfs", "/tmp", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV},
    {"devpts", "/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666", MS_NOSUID | MS_NOEXEC},
    {"tmpfs", "/dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV},
    {"cgroup2", CGROUP_ROOT, "cgroup2", CGROUP_OPTIONS, CGROUP_FLAGS},
};

static const char *const links[][2] = {
    {"/proc/self/fd", "/dev/fd"},
    {"/proc/self/fd/0", "/dev/stdin"},
    {"/proc/self/fd/1", "/dev/stdout"},
    {"/proc/self/fd/2", "/dev/stderr"},
};

int init_parse_cmdline(const char *cmdline, struct init_options *ret, struct err *err) {
    cleanup_free char *copy = strdup(cmdline);
    if (!copy)
        return err_set(err, ENOMEM, "out of memory");
    for (char *save = NULL, *word = strtok_r(copy, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
        FAULT_CMDLINE(word);
        if (strncmp(word, "agent.log=", 10) != 0)
            continue;
        if (log_level_parse(word + 10, &ret->log_level) < 0)
            return err_set(err, EINVAL, "kernel command line: %s: must be error, warn, info or debug", word);
    }
    return 0;
}

int init_restore_cgroup_options(const char *root, struct err *err) {
    if (mount(NULL, root, NULL, MS_REMOUNT | CGROUP_FLAGS, CGROUP_OPTIONS) < 0)
        return err_errno(err, errno, "cannot set the options of the cgroup mount %s", root);
    return 0;
}

static int do_mount(const struct mount *m, struct err *err) {
    if (mount(m->what, m->where, m->type, m->flags, m->options) < 0 && errno != EBUSY)
        return err_errno(err, errno, SET ": cannot mount %s on %s", m->type, m->where);
    return 0;
}

int init_mount_proc(struct err *err) {
    static const struct mount proc = {"proc", "/proc", "proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC};
    static const struct mount dev = {"devtmpfs", "/dev", "devtmpfs", "mode=755", MS_NOSUID};
    /* stage1 brings /dev along; a guest without stage1 has none yet. */
    int r = access("/dev/null", F_OK) < 0 ? do_mount(&dev, err) : 0;
    return r < 0 ? r : do_mount(&proc, err);
}

int init_read_options(struct init_options *ret, struct err *err) {
    cleanup_free char *text = NULL;
    ret->log_level = LOG_LEVEL_ERROR;
    int r = file_read_at(AT_FDCWD, "/proc/cmdline", CMDLINE_MAX, &text, NULL, err);
    return r < 0 ? r : init_parse_cmdline(text, ret, err);
}

/* Every controller there is, each on its own, because one that cannot be had would take the others with it. */
static int enable_controllers(const char *dir, struct err *err) {
    cleanup_fd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_free char *list = NULL;
    if (fd < 0)
        return err_errno(err, errno, SET ": cannot open %s", dir);
    int r = file_read_at(fd, "cgroup.controllers", CGROUP_FILE_MAX, &list, NULL, err);
    if (r < 0)
        return r;
    for (char *save = NULL, *word = strtok_r(list, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
        char value[64];
        struct err one = ERR_INIT;
        snprintf(value, sizeof(value), "+%s", word);
        if (file_write_at(fd, "cgroup.subtree_control", value, &one) < 0)
            log_warn("cgroup controller %s: %s", word, one.msg);
    }
    return 0;
}

static int read_number(const char *file, uint64_t *ret, struct err *err) {
    cleanup_free char *text = NULL;
    int r = file_read_at(AT_FDCWD, file, 64, &text, NULL, err);
    if (r < 0)
        return r;
    text[strcspn(text, "\n")] = '\0';
    r = parse_u64(text, UINT32_MAX, ret);
    return r < 0 ? err_errno(err, -r, SET ": %s has no number", file) : 0;
}

/* Containers together cannot take the last task, without which there is no exec, ps or delete. */
static int limit_tasks(const char *dir, struct err *err) {
    cleanup_free char *file = str_printf("%s/pids.max", dir);
    uint64_t threads = 0, pids = 0;
    char value[32];
    if (!file)
        return err_set(err, ENOMEM, "out of memory");
    int r = read_number("/proc/sys/kernel/threads-max", &threads, err);
    if (r == 0)
        r = read_number("/proc/sys/kernel/pid_max", &pids, err);
    if (r < 0)
        return r;
    threads = MIN(threads, pids);
    snprintf(value, sizeof(value), "%" PRIu64, MAX(threads, 2 * TASKS_KEPT) - TASKS_KEPT);
    return file_write_at(AT_FDCWD, file, value, err);
}

static int make_cgroups(struct err *err) {
    static const char parent[] = CGROUP_ROOT "/" CGROUP_PARENT;
    int r = enable_controllers(CGROUP_ROOT, err);
    if (r < 0)
        return r;
    if (mkdir(parent, 0755) < 0 && errno != EEXIST)
        return err_errno(err, errno, SET ": cannot create %s", parent);
    r = limit_tasks(parent, err);
    return r < 0 ? r : enable_controllers(parent, err);
}

static int loopback_up(struct err *err) {
    cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
        return err_errno(err, errno, SET ": cannot bring up lo");
    return 0;
}

/* The agent is the last that may go when memory is short: with it goes the machine. */
static void protect(void) {
    struct rlimit files = {.rlim_cur = NOFILE_MAX, .rlim_max = NOFILE_MAX};
    struct err err = ERR_INIT;
    if (file_write_at(AT_FDCWD, "/proc/self/oom_score_adj", "-1000", &err) < 0)
        log_warn("%s", err.msg);
    if (setrlimit(RLIMIT_NOFILE, &files) < 0)
        log_warn("cannot raise the limit of open files: %s", strerror(errno));
}

int init_system(struct err *err) {
    (void)mkdir("/dev/pts", 0755);
    (void)mkdir("/dev/shm", 01777);
    for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
        int r = do_mount(&mounts[i], err);
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < ARRAY_SIZE(links); i++)
        if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST)
            log_warn("cannot link %s: %s", links[i][1], strerror(errno));
    protect();
    int r = make_cgroups(err);
    if (r == 0)
        r = loopback_up(err);
    if (r == 0)
        r = path_mkdirs(AGENT_BUNDLES, 0700, err);
    if (r == 0)
        r = path_mkdirs(CRUN_DIR, 0700, err);
    return r;
}

/* Each read that is not in the guest's cache is a trip to the host; the kernel's 128 KiB make a restore twice as long.
 */
static void read_further_ahead(void) {
    char path[80];
    struct stat st;
    struct err err = ERR_INIT;
    int r = stat(INIT_SHARE_DIR, &st) < 0 ? err_errno(&err, errno, "cannot look at the share") : 0;
    snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(st.st_dev), minor(st.st_dev));
    if (r == 0)
        r = file_write_at(AT_FDCWD, path, SHARE_READ_AHEAD_KB, &err);
    if (r < 0)
        log_warn("%s", err.msg); /* it is only slower */
}

int init_share(struct err *err) {
    static const struct mount share = {INIT_SHARE_TAG, INIT_SHARE_DIR, "virtiofs", NULL, MS_NOSUID | MS_NODEV};
    int r = do_mount(&share, err);
    if (r == 0)
        read_further_ahead();
    return r;
}

void init_online_cpus(void) {
    cleanup_dir DIR *dir = opendir(CPUS_DIR);
    struct dirent *e;
    while (dir && (e = readdir(dir))) {
        char file[300];
        cleanup_free char *online = NULL;
        struct err err = ERR_INIT;
        if (strncmp(e->d_name, "cpu", 3) != 0 || !isdigit((unsigned char)e->d_name[3]))
            continue;
        snprintf(file, sizeof(file), "%s/online", e->d_name);
        /* The first has no such file. */
        if (file_read_at(dirfd(dir), file, 16, &online, NULL, NULL) < 0 || online[0] != '0')
            continue;
        if (file_write_at(dirfd(dir), file, "1", &err) < 0)
            log_warn("it does without a CPU: %s", err.msg);
    }
}

/* The port's number, found by the name the host gave it; -ENOENT when it is not there (yet). */
static int find_port(const char *name, char path[64]) {
    cleanup_dir DIR *dir = opendir(PORTS_DIR);
    if (!dir)
        return -errno;
    struct dirent *e;
    while ((e = readdir(dir))) {
        char file[300];
        cleanup_free char *text = NULL;
        if (strncmp(e->d_name, "vport", 5) != 0 || strlen(e->d_name) > 32)
            continue;
        snprintf(file, sizeof(file), "%s/name", e->d_name);
        if (file_read_at(dirfd(dir), file, 256, &text, NULL, NULL) < 0)
            continue;
        text[strcspn(text, "\n")] = '\0';
        if (strcmp(text, name) == 0) {
            snprintf(path, 64, "/dev/%.32s", e->d_name);
            return 0;
        }
    }
    return -ENOENT;
}

int init_open_port(const char *name, uint64_t timeout_usec, struct err *err) {
    const struct timespec pause = {.tv_nsec = PORT_POLL_NSEC};
    uint64_t end = now_usec() + timeout_usec;
    char path[64];
    /* The host announces its ports one message after the other, so ours may come a moment after we do. */
    while (find_port(name, path) < 0) {
        if (now_usec() >= end)
            return err_set(err, ETIMEDOUT, "the machine has no virtio port named %s", name);
        nanosleep(&pause, NULL);
    }
    int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    return fd < 0 ? err_errno(err, errno, "cannot open %s", path) : fd;
}

int init_set_hostname(const char *name, struct err *err) {
    size_t len = strlen(name);
    if (len == 0 || len > 64)
        return err_set(err, EINVAL, "host name \"%.64s\" is empty or longer than 64 bytes", name);
    if (sethostname(name, len) < 0)
        return err_errno(err, errno, "cannot set the host name to %s", name);
    return 0;
}

int init_set_clock(uint64_t wall_usec, struct err *err) {
    struct timespec ts = {.tv_sec = (time_t)(wall_usec / USEC_PER_SEC),
                          .tv_nsec = (long)(wall_usec % USEC_PER_SEC) * 1000};
    if (clock_settime(CLOCK_REALTIME, &ts) < 0)
        return err_errno(err, errno, "cannot set the clock");
    return 0;
}
