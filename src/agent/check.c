/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/check.h"

#include <fcntl.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/cgroup.h"
#include "agent/init.h"
#include "agent/job.h"
#include "agent/modules.h"
#include "agent/trim.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"

#define OUTPUT_MAX ((size_t)64 << 10)
#define KERNEL_CONFIG_MAX ((size_t)1 << 20)

struct need {
    const char *name;
    const char *what;
    bool required; /* missing: fail, else warn */
    bool apart;    /* a feature that `criu check --all` leaves out */
};

static const struct need options[] = {
    {"CHECKPOINT_RESTORE", "checkpointing at all", true},
    {"NAMESPACES", "containers", true},
    {"UTS_NS", "containers", true},
    {"IPC_NS", "containers", true},
    {"PID_NS", "containers", true},
    {"NET_NS", "containers", true},
    {"USER_NS", "user namespaces", false},
    {"TIME_NS", "clocks of restored processes", false},
    {"CGROUPS", "containers", true},
    {"MEMCG", "memory limits", true},
    {"CGROUP_PIDS", "limits of processes", true},
    {"SECCOMP_FILTER", "seccomp profiles", true},
    {"FHANDLE", "inotify, deleted files", true},
    {"EVENTFD", "eventfd", true},
    {"EPOLL", "epoll", true},
    {"INOTIFY_USER", "inotify", true},
    {"POSIX_MQUEUE", "message queues", false},
    {"SYSVIPC", "System V IPC", false},
    {"UNIX_DIAG", "unix sockets", true},
    {"INET_DIAG", "TCP sockets", true},
    {"INET_UDP_DIAG", "UDP sockets", true},
    {"PACKET_DIAG", "packet sockets", true},
    {"NETLINK_DIAG", "netlink sockets", true},
    {"NETFILTER_XT_MARK", "locking the network", false},
    {"TUN", "tun devices", false},
    {"VETH", "container networks", false},
    {"MEM_SOFT_DIRTY", "incremental checkpoints", false},
    {"USERFAULTFD", "lazy restore", false},
    {"VIRTIO_FS", "the share", true},
    {"VMGENID", "new randomness in clones", false},
};

/* CRIU's names (`criu check --feature`). */
static const struct need features[] = {
    {"mnt_id", "open files", true},
    {"mem_dirty_track", "incremental checkpoints", false},
    {"aio_remap", "asynchronous I/O", false},
    {"timerfd", "timerfd", true},
    {"tun", "tun devices", false},
    {"tun_ns", "tun devices in network namespaces", false, true},
    {"userns", "user namespaces", false},
    {"fdinfo_lock", "file locks", true},
    {"seccomp_suspend", "seccomp profiles", true},
    {"seccomp_filters", "seccomp profiles", true},
    {"loginuid", "login ids", false},
    {"cgroupns", "cgroup namespaces", true},
    {"autofs", "autofs mounts", false},
    {"tcp_half_closed", "half-closed TCP connections", false},
    {"compat_cr", "32-bit programs", false},
    {"uffd", "lazy restore", false},
    {"uffd-noncoop", "lazy restore", false},
    {"can_map_vdso", "32-bit programs", false},
    {"sk_ns", "sockets of several network namespaces", false},
    {"sk_unix_file", "named unix sockets", false, true},
    {"net_diag_raw", "raw sockets", false},
    {"nsid", "nested network namespaces", false, true},
    {"link_nsid", "nested network namespaces", false, true},
    {"kcmp_epoll", "epoll", false},
    {"timens", "clocks of restored processes", false},
    {"external_net_ns", "external network namespaces", false, true},
    {"clone3_set_tid", "fast restore of pids", false},
    {"newifindex", "network devices", false},
    {"nftables", "nftables rules", false, true},
    {"has_ipt_legacy", "legacy iptables rules", false, true},
    {"pidfd_store", "detection of pid reuse", false},
    {"ns_pid", "nested pid namespaces", false},
    {"network_lock_nftables", "locking the network with nftables", false},
    {"sockopt_buf_lock", "socket buffer sizes", false},
    {"memfd_hugetlb", "huge pages in memfds", false},
    {"move_mount_set_group", "mount propagation", false},
    {"openat2", "safe opening of files", true},
    {"get_rseq_conf", "programs of current C libraries", true},
    {"ipv6_freebind", "IPv6 sockets", false},
    {"pagemap_scan", "fast memory dumps", false},
    {"overlayfs_maps", "files mapped from overlays", false},
};

/* What CRIU asks the kernel through, and what it probes. */
static const char *const modules[] = {
    "unix_diag",      "inet_diag", "tcp_diag", "udp_diag", "raw_diag", "netlink_diag",
    "af_packet_diag", "tun",       "veth",     "overlay",  "autofs4",
};

struct check {
    struct agent *agent;
    check_fn fn;
    void *userdata;
    struct check_result result;
    int output; /* memfd */
    int step;   /* STEP_…, then a feature each */
    bool all;   /* `criu check --all` passed */
    bool brief; /* nothing after STEP_BASIC */
};

/* `--all` passes on a good kernel and then stands for most features; asking for each is forty runs. */
enum { STEP_VERSION = -3, STEP_BASIC, STEP_ALL };

static void __attribute__((format(printf, 4, 5)))
add(struct check_result *r, const char *name, enum check_status status, const char *fmt, ...) {
    if (r->n == CHECK_ITEMS_MAX)
        return;
    struct check_item *item = &r->items[r->n++];
    va_list ap;
    snprintf(item->name, sizeof(item->name), "%s", name);
    item->status = status;
    va_start(ap, fmt);
    vsnprintf(item->detail, sizeof(item->detail), fmt, ap);
    va_end(ap);
}

bool check_passed(const struct check_result *r) {
    for (size_t i = 0; i < r->n; i++)
        if (r->items[i].status == CHECK_FAIL)
            return false;
    return true;
}

/* The value of CONFIG_name ("y", "m"), or 0. */
static char config_value(const char *config, const char *name) {
    size_t len = strlen(name);
    for (const char *p = config; (p = strstr(p, "CONFIG_")); p++) {
        bool line_start = p == config || p[-1] == '\n';
        const char *key = p + strlen("CONFIG_");
        if (line_start && strncmp(key, name, len) == 0 && key[len] == '=')
            return key[len + 1];
    }
    return '\0';
}

void check_kernel_config(const char *config, struct check_result *r) {
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        const struct need *need = &options[i];
        char name[64], value = config_value(config, need->name);
        snprintf(name, sizeof(name), "kernel CONFIG_%s", need->name);
        if (value == 'y' || value == 'm')
            add(r, name, CHECK_OK, "%c", value);
        else
            add(r, name, need->required ? CHECK_FAIL : CHECK_WARN, "not set, needed for %s; use a kernel that has it",
                need->what);
    }
}

void check_parse_version(const char *text, char out[32]) {
    static const char key[] = "Version: ";
    const char *p = strstr(text, key);
    out[0] = '\0';
    if (p)
        snprintf(out, 32, "%.*s", (int)MIN(strcspn(p + sizeof(key) - 1, " \n"), (size_t)31), p + sizeof(key) - 1);
}

void check_last_line(const char *text, char *out, size_t size) {
    size_t end = strlen(text);
    while (end && (text[end - 1] == '\n' || text[end - 1] == ' '))
        end--;
    size_t start = end;
    while (start && text[start - 1] != '\n')
        start--;
    snprintf(out, size, "%.*s", (int)MIN(end - start, size), text + start);
}

/* What the agent can see by itself. */

static void check_kernel(struct check_result *r) {
    cleanup_free char *config = NULL;
    struct err err = ERR_INIT;
    if (file_read_at(AT_FDCWD, CHECK_KERNEL_CONFIG, KERNEL_CONFIG_MAX, &config, NULL, &err) < 0)
        add(r, "kernel configuration", CHECK_FAIL, "%s; build the guest again", err.msg);
    else
        check_kernel_config(config, r);
}

static void check_cgroups(struct check_result *r) {
    static const char *const wanted[] = {"memory", "cpu", "pids", "io", "cpuset"};
    cleanup_free char *have = NULL;
    struct err err = ERR_INIT;
    if (file_read_at(AT_FDCWD, CGROUP_ROOT "/" CGROUP_PARENT "/cgroup.subtree_control", CGROUP_FILE_MAX, &have, NULL,
                     &err) < 0) {
        add(r, "cgroup v2", CHECK_FAIL, "%s", err.msg);
        return;
    }
    have[strcspn(have, "\n")] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
        if (!strstr(have, wanted[i])) {
            add(r, "cgroup v2", CHECK_WARN, "no controller %s, only: %s", wanted[i], have);
            return;
        }
    add(r, "cgroup v2", CHECK_OK, "%s", have);
}

static void check_loopback(struct check_result *r) {
    cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq ifr = {.ifr_name = "lo"};
    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
        add(r, "loopback", CHECK_FAIL, "cannot be seen: %s", strerror(errno));
    else if (!(ifr.ifr_flags & IFF_UP))
        add(r, "loopback", CHECK_FAIL, "is down");
    else
        add(r, "loopback", CHECK_OK, "is up");
}

static void check_share(struct check_result *r) {
    cleanup_free char *mounts = NULL;
    struct err err = ERR_INIT;
    if (file_read_at(AT_FDCWD, "/proc/self/mounts", KERNEL_CONFIG_MAX, &mounts, NULL, &err) < 0)
        add(r, "share", CHECK_FAIL, "%s", err.msg);
    else if (!strstr(mounts, " " INIT_SHARE_DIR " virtiofs "))
        add(r, "share", CHECK_FAIL, "is not mounted");
    else
        add(r, "share", CHECK_OK, "mounted at %s", INIT_SHARE_DIR);
}

static void load_modules(struct check_result *r) {
    char missing[256] = "";
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
        struct err err = ERR_INIT;
        if (modules_load(&modules[i], 1, &err) < 0 && n < sizeof(missing)) {
            log_warn("%s", err.msg);
            n += (size_t)snprintf(missing + n, sizeof(missing) - n, " %s", modules[i]);
        }
    }
    if (missing[0])
        add(r, "kernel modules", CHECK_WARN, "cannot be loaded:%s", missing);
    else
        add(r, "kernel modules", CHECK_OK, "loaded");
}

/* CRIU. */

static void next(struct check *c);

static void finish(struct check *c, const struct err *err) {
    struct agent *a = c->agent;
    a->checking = false;
    trim_later(a->trim);
    if (!err && !a->criu_check && check_passed(&c->result) && (a->criu_check = malloc(sizeof(c->result))))
        *a->criu_check = c->result;
    c->fn(c->userdata, err ? NULL : &c->result, err);
    fd_close(c->output);
    free(c);
}

bool check_version_suffices(const char *version) {
    unsigned major, minor;
    /* NOLINTNEXTLINE(cert-err34-c): a number beyond its range is no version that there is */
    if (sscanf(version, "%u.%u", &major, &minor) != 2)
        return false;
    return major > CRIU_LEAST_MAJOR || (major == CRIU_LEAST_MAJOR && minor >= CRIU_LEAST_MINOR);
}

static void on_version(struct check *c, int status, const char *text) {
    char line[200];
    check_parse_version(text, c->result.criu_version);
    check_last_line(text, line, sizeof(line));
    if (status == 0 && c->result.criu_version[0] && !check_version_suffices(c->result.criu_version))
        add(&c->result, "criu", CHECK_FAIL, "version %s is too old, at least %d.%d is needed; build the guest again",
            c->result.criu_version, CRIU_LEAST_MAJOR, CRIU_LEAST_MINOR);
    else if (status == 0 && c->result.criu_version[0])
        add(&c->result, "criu", CHECK_OK, "version %s", c->result.criu_version);
    else
        add(&c->result, "criu", CHECK_FAIL, "does not run: %s", line);
}

static void on_basic(struct check *c, int status, const char *text) {
    char line[200];
    check_last_line(text, line, sizeof(line));
    add(&c->result, "criu check", status == 0 ? CHECK_OK : CHECK_FAIL, "%s",
        status == -ETIMEDOUT ? "did not end in time" : line);
}

static void feature_name(const struct need *need, char out[64]) {
    snprintf(out, 64, "criu %s", need->name);
}

static void on_feature(struct check *c, int status, const char *text) {
    const struct need *need = &features[c->step];
    char name[64], line[160];
    feature_name(need, name);
    check_last_line(text, line, sizeof(line));
    if (status == 0)
        add(&c->result, name, CHECK_OK, "supported");
    else
        add(&c->result, name, need->required ? CHECK_FAIL : CHECK_WARN, "not supported (for %s): %s", need->what,
            status == -ETIMEDOUT ? "did not end in time" : line);
}

static void on_end(void *userdata, int status) {
    struct check *c = userdata;
    cleanup_free char *text = malloc(OUTPUT_MAX + 1);
    ssize_t n = text ? pread(c->output, text, OUTPUT_MAX, 0) : -1;
    if (n < 0) {
        struct err err = ERR_INIT;
        err_set(&err, ENOMEM, "cannot read what criu says");
        finish(c, &err);
        return;
    }
    text[n] = '\0';
    if (c->step == STEP_VERSION)
        on_version(c, status, text);
    else if (c->step == STEP_BASIC)
        on_basic(c, status, text);
    else if (c->step == STEP_ALL)
        c->all = status == 0;
    else
        on_feature(c, status, text);
    /* Without a CRIU that runs there is nothing to ask it. */
    if (c->step++ == STEP_VERSION && !c->result.criu_version[0])
        finish(c, NULL);
    else
        next(c);
}

/* Goes past the features that are known to be there. */
static void skip_known(struct check *c) {
    for (; c->step >= 0 && (size_t)c->step < ARRAY_SIZE(features); c->step++) {
        const struct need *need = &features[c->step];
        char name[64];
        if (!c->all || need->apart)
            return;
        feature_name(need, name);
        add(&c->result, name, CHECK_OK, "supported");
    }
}

static int run_criu(struct check *c, struct err *err) {
    cleanup_strv struct strv argv = {0};
    int r = strv_add(&argv, "criu");
    r |= strv_add(&argv, c->step == STEP_VERSION ? "--version" : "check");
    if (c->step == STEP_ALL)
        r |= strv_add(&argv, "--all");
    if (c->step >= 0)
        r |= strv_add(&argv, "--feature") | strv_add(&argv, features[c->step].name);
    if (r)
        return err_set(err, ENOMEM, "out of memory");
    if (ftruncate(c->output, 0) < 0 || lseek(c->output, 0, SEEK_SET) < 0)
        return err_errno(err, errno, "cannot keep what criu says");
    struct proc_spec spec = {
        .path = c->agent->criu_path,
        .argv = argv.v,
        .cwd = "/",
        .fds = {{c->output, 1}, {c->output, 2}},
        .n_fds = 2,
        .new_session = true,
        .outlive_parent = true,
        .setup = job_setup_child,
    };
    return job_start(c->agent->event, c->agent->children, &spec, CHECK_TIMEOUT_USEC, on_end, c, NULL, err);
}

static void next(struct check *c) {
    struct err err = ERR_INIT;
    skip_known(c);
    if ((c->brief && c->step > STEP_BASIC) || (c->step >= 0 && (size_t)c->step == ARRAY_SIZE(features)))
        finish(c, NULL);
    else if (run_criu(c, &err) < 0)
        finish(c, &err);
}

static int begin(struct check *c, struct err *err) {
    c->output = memfd_create("criu-output", MFD_CLOEXEC);
    if (c->output < 0)
        return err_errno(err, errno, "memfd");
    if (!c->brief) {
        check_kernel(&c->result);
        check_cgroups(&c->result);
        check_loopback(&c->result);
        check_share(&c->result);
        load_modules(&c->result);
    }
    c->step = STEP_VERSION;
    return 0;
}

static int run(struct agent *a, bool brief, check_fn fn, void *userdata, struct err *err) {
    if (a->checking)
        return err_set(err, EBUSY, "a check is under way");
    struct check *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(err, ENOMEM, "out of memory");
    *c = (struct check){.agent = a, .fn = fn, .userdata = userdata, .output = -1, .brief = brief};
    int r = begin(c, err);
    if (r < 0) {
        free(c);
        return err_wrap(err, "cannot check the guest");
    }
    a->checking = true;
    next(c);
    return 0;
}

int check_run(struct agent *a, check_fn fn, void *userdata, struct err *err) {
    return run(a, false, fn, userdata, err);
}

int check_run_brief(struct agent *a, check_fn fn, void *userdata, struct err *err) {
    return run(a, true, fn, userdata, err);
}
