/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library of criu_direct.c as CRIU's plugin, which keeps what criu_attributes.h lists. CRIU finds it by its option
 * "libdir". The interface is that of CRIU 4.2, by name and number; an older CRIU does not load a plugin that wants
 * more.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/criu_attributes.h"
#include "agent/criu_inject.h"

#define PLUGIN_VERSION 0x000200 /* 0.2.0 */
#define HOOKS 12                /* those up to the last that is used; CRIU 4.2 has 13 */
enum { HOOK_RESUME_DEVICES_LATE = 9, HOOK_CHECKPOINT_DEVICES = 11 };
enum { STAGE_DUMP, STAGE_PRE_DUMP, STAGE_RESTORE };

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_GET_MDWE 66
#endif
#define PRCTL_32 172
#define PERSONALITY_32 136
#define TIMER_SLACK 50000 /* nanoseconds, of a new process */
#define IOPRIO_WHO_PROCESS 1
#define TEXT_MAX 4096

struct plugin {
    const char *name;
    int (*init)(int stage);
    void (*exit)(int stage, int result);
    unsigned version, max_hooks;
    void *hooks[HOOKS];
};

/* CRIU's; a test has its own. */
extern int criu_get_image_dir(void) __attribute__((weak));
extern void print_on_level(unsigned level, const char *format, ...) __attribute__((weak));

enum { LEVEL_ERROR = 1, LEVEL_WARNING = 2 };

#define SAY(level, word, format, ...)                                                                                  \
    do {                                                                                                               \
        if (print_on_level)                                                                                            \
            print_on_level(level, word " (stasis): " format "\n", __VA_ARGS__);                                        \
    } while (0)
#define ERROR(...) SAY(LEVEL_ERROR, "Error", __VA_ARGS__)
#define WARN(...) SAY(LEVEL_WARNING, "Warn ", __VA_ARGS__)

static struct attributes *kept; /* of a restore */
static size_t n_kept;

/* Text of /proc/PID/NAME, or "". */
static void read_proc(pid_t pid, const char *name, char text[TEXT_MAX]) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, TEXT_MAX - 1);
    text[n > 0 ? n : 0] = '\0';
    if (fd >= 0)
        (void)close(fd);
}

static int write_proc(pid_t pid, const char *name, unsigned long long value) {
    char path[64], text[32];
    int len = snprintf(text, sizeof(text), "%llu", value);
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    int r = fd < 0 || write(fd, text, (size_t)len) != len ? -errno : 0;
    if (fd >= 0)
        (void)close(fd);
    return r;
}

/* Its number in the container: of those in CRIU's pid namespace and each below it the second. 0: unknown. */
static int own_number(pid_t tid) {
    char text[TEXT_MAX];
    int outer = 0, own = 0;
    read_proc(tid, "status", text);
    const char *line = strstr(text, "\nNSpid:");
    /* NOLINTNEXTLINE(cert-err34-c): the kernel's text */
    int n = line ? sscanf(line, "\nNSpid: %d %d", &outer, &own) : 0;
    return n == 2 ? own : outer;
}

/* 0 after a failure, as for a new process. */
static unsigned long long read_number(pid_t tid, const char *name, int base) {
    char text[TEXT_MAX];
    read_proc(tid, name, text);
    return strtoull(text, NULL, base);
}

static int ask(pid_t tid, const struct inject_call *call, const char *what) {
    long value = 0;
    int r = inject_call(tid, call, &value);
    if (r < 0 || value < 0)
        WARN("thread %d: %s: %s", (int)tid, what, strerror((int)(r < 0 ? -r : -value)));
    return r < 0 ? r : (int)value;
}

/* Not the CPUs of every new process, which are this one's. */
static void read_cpus(pid_t tid, uint64_t cpus[ATTRIBUTES_CPU_WORDS]) {
    uint64_t all[ATTRIBUTES_CPU_WORDS] = {0};
    size_t size = sizeof(all);
    if (sched_getaffinity(tid, size, (cpu_set_t *)cpus) < 0 || sched_getaffinity(0, size, (cpu_set_t *)all) < 0 ||
        memcmp(cpus, all, size) == 0)
        memset(cpus, 0, size);
}

static void read_thread(pid_t tid, struct attributes *a) {
    unsigned long long slack = read_number(tid, "timerslack_ns", 10);
    long ioprio = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, tid);
    a->tid = own_number(tid);
    a->personality = (unsigned)read_number(tid, "personality", 16);
    a->ioprio = ioprio > 0 ? (int)ioprio : 0;
    a->timer_slack = slack == TIMER_SLACK ? 0 : slack;
    read_cpus(tid, a->cpus);
}

/* What only its leader has. */
static int read_process(pid_t pid, struct attributes *a) {
    static const struct inject_call get_mdwe = {SYS_prctl, PRCTL_32, {PR_GET_MDWE}};
    unsigned filter = (unsigned)read_number(pid, "coredump_filter", 16);
    if (filter != (unsigned)read_number(getpid(), "coredump_filter", 16)) {
        a->has_coredump_filter = true;
        a->coredump_filter = filter;
    }
    int mdwe = ask(pid, &get_mdwe, "cannot be asked whether it may gain executable memory");
    if (mdwe > 0)
        a->mdwe = (unsigned)mdwe;
    return mdwe < 0 && mdwe != -EINVAL ? mdwe : 0;
}

/* As in a new process. */
static bool is_plain(const struct attributes *a) {
    bool plain = !a->mdwe && !a->personality && !a->ioprio && !a->has_coredump_filter && !a->timer_slack;
    for (size_t i = 0; i < ATTRIBUTES_CPU_WORDS; i++)
        plain = plain && !a->cpus[i];
    return plain;
}

static int keep(const struct attributes *a) {
    if (is_plain(a))
        return 0;
    int fd = openat(criu_get_image_dir(), ATTRIBUTES_FILE, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "a");
    int r = f && attributes_write(f, a) > 0 ? 0 : -EIO;
    if (f && fclose(f) != 0)
        r = -EIO;
    if (r < 0)
        ERROR("cannot write " ATTRIBUTES_FILE ": %s", strerror(errno));
    return r;
}

/* Calls fn for each thread until it fails. */
static int each_thread(pid_t pid, int (*fn)(pid_t pid, pid_t tid, int own_pid), int own_pid) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *dir = opendir(path);
    const struct dirent *e;
    int r = 0;
    if (!dir)
        return -errno;
    while (r == 0 && (e = readdir(dir)))
        if (e->d_name[0] != '.')
            r = fn(pid, (pid_t)strtol(e->d_name, NULL, 10), own_pid);
    (void)closedir(dir);
    return r;
}

static int dump_thread(pid_t pid, pid_t tid, int own_pid) {
    struct attributes a = {.pid = own_pid};
    read_thread(tid, &a);
    int r = tid == pid ? read_process(pid, &a) : 0;
    return r < 0 ? r : keep(&a);
}

static int on_dump(int pid) {
    int own_pid = own_number(pid);
    int r = own_pid > 0 ? each_thread(pid, dump_thread, own_pid) : -ESRCH;
    if (r < 0)
        ERROR("cannot keep the attributes of process %d: %s", pid, strerror(-r));
    return r < 0 ? -1 : 0;
}

static void warn_unless(bool done, pid_t tid, const char *what) {
    if (!done)
        WARN("thread %d: cannot set its %s: %s", (int)tid, what, strerror(errno));
}

static void apply_thread(pid_t tid, const struct attributes *a) {
    static const uint64_t none[ATTRIBUTES_CPU_WORDS];
    const struct inject_call set_personality = {SYS_personality, PERSONALITY_32, {a->personality}};
    if (a->ioprio)
        warn_unless(syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, tid, a->ioprio) == 0, tid, "I/O priority");
    if (a->timer_slack)
        warn_unless(write_proc(tid, "timerslack_ns", a->timer_slack) == 0, tid, "timer slack");
    if (memcmp(a->cpus, none, sizeof(none)) != 0)
        warn_unless(sched_setaffinity(tid, sizeof(a->cpus), (const cpu_set_t *)a->cpus) == 0, tid, "CPUs");
    if (a->personality)
        (void)ask(tid, &set_personality, "cannot set its personality");
}

/* What confines it must be there, or it must not run. */
static int apply_process(pid_t pid, const struct attributes *a) {
    const struct inject_call set_mdwe = {SYS_prctl, PRCTL_32, {PR_SET_MDWE, a->mdwe}};
    if (a->has_coredump_filter)
        warn_unless(write_proc(pid, "coredump_filter", a->coredump_filter) == 0, pid, "coredump filter");
    return a->mdwe ? ask(pid, &set_mdwe, "cannot be forbidden executable memory") : 0;
}

static int restore_thread(pid_t pid, pid_t tid, int own_pid) {
    int number = own_number(tid);
    for (size_t i = 0; i < n_kept; i++) {
        if (kept[i].pid != own_pid || kept[i].tid != number)
            continue;
        apply_thread(tid, &kept[i]);
        int r = tid == pid ? apply_process(pid, &kept[i]) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

static int on_resume(int pid) {
    int r = n_kept > 0 ? each_thread(pid, restore_thread, own_number(pid)) : 0;
    if (r == 0)
        return 0;
    /* CRIU does not mind that a plugin fails here. */
    ERROR("process %d is killed, as it would be free of a restriction: %s", pid, strerror(-r));
    (void)kill(pid, SIGKILL);
    return -1;
}

static int load(void) {
    int fd = openat(criu_get_image_dir(), ATTRIBUTES_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
    int r = f ? attributes_read(f, &kept, &n_kept) : -errno;
    if (f)
        (void)fclose(f);
    if (r < 0)
        ERROR(ATTRIBUTES_FILE ": %s", strerror(-r));
    return r;
}

static int on_init(int stage) {
    return stage == STAGE_RESTORE ? load() : 0;
}

static void on_exit_of(int stage, int result) {
    (void)stage;
    (void)result;
    free(kept);
    kept = NULL;
    n_kept = 0;
}

__attribute__((visibility("default"))) struct plugin CR_PLUGIN_DESC = {
    .name = "stasis",
    .init = on_init,
    .exit = on_exit_of,
    .version = PLUGIN_VERSION,
    .max_hooks = HOOKS,
    .hooks = {[HOOK_RESUME_DEVICES_LATE] = (void *)on_resume, [HOOK_CHECKPOINT_DEVICES] = (void *)on_dump},
};
