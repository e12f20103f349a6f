/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/cgroup.h"
#include "agent/job.h"
#include "base/fd.h"
#include "base/util.h"

#define PTS_MAJOR_FIRST 136 /* Documentation/admin-guide/devices.txt: 136 to 143, 256 each */
#define PTS_MAJOR_LAST 143
#define TTY_MAJOR 4
#define CONSOLE_MAJOR 5

static void format_tty(int device, char out[16]) {
    unsigned major_nr = major((dev_t)device), minor_nr = minor((dev_t)device);
    if (major_nr >= PTS_MAJOR_FIRST && major_nr <= PTS_MAJOR_LAST)
        snprintf(out, 16, "pts/%u", (major_nr - PTS_MAJOR_FIRST) * 256 + minor_nr);
    else if (major_nr == TTY_MAJOR && minor_nr >= 64)
        snprintf(out, 16, "ttyS%u", (minor_nr - 64) % 1000);
    else if (major_nr == CONSOLE_MAJOR && minor_nr == 1)
        snprintf(out, 16, "console");
    else
        snprintf(out, 16, "?");
}

/* One line of UTF-8 whatever the process calls itself. */
static void clean(char *s) {
    size_t n = strlen(s);
    /* A character cut at the end must not make the whole look broken. */
    for (int i = 0; i < 3 && n && !utf8_valid(s, n); i++)
        if ((unsigned char)s[n - 1] >= 0x80)
            s[--n] = '\0';
    bool utf8 = utf8_valid(s, n);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c < 0x20 || c == 0x7f || (c >= 0x80 && !utf8))
            s[i] = '?';
    }
}

/* The blank-separated fields after the name: "S 1 2 -1 …". */
static int parse_fields(const char *s, long long *ret, size_t n) {
    s += strspn(s, " ");
    if (!*s || *++s != ' ') /* the state, one letter */
        return -EINVAL;
    for (size_t i = 0; i < n; i++) {
        char *end;
        errno = 0;
        ret[i] = strtoll(s, &end, 10);
        if (end == s || (errno && errno != ERANGE)) /* the largest ones of the kernel's are unsigned */
            return -EINVAL;
        s = end;
    }
    return 0;
}

/* Places of fields after the state (proc(5), where the state is number 3). */
enum { STAT_PPID = 0, STAT_TTY = 3, STAT_UTIME = 10, STAT_STIME = 11, STAT_START = 18, STAT_FIELDS };

int ps_parse_stat(const char *text, struct ps_entry *ret) {
    /* The name may hold anything, brackets too: the last one ends it. */
    const char *open = strchr(text, '('), *close = strrchr(text, ')');
    long long f[STAT_FIELDS];
    char *end;
    long pid = strtol(text, &end, 10);
    if (!open || !close || close < open || end == text || parse_fields(close + 1, f, STAT_FIELDS) < 0)
        return -EINVAL;
    *ret = (struct ps_entry){
        .pid = (pid_t)pid,
        .ppid = (pid_t)f[STAT_PPID],
        .start_ticks = (uint64_t)f[STAT_START],
        .cpu_ticks = (uint64_t)f[STAT_UTIME] + (uint64_t)f[STAT_STIME],
    };
    format_tty((int)f[STAT_TTY], ret->tty);
    snprintf(ret->command, sizeof(ret->command), "[%.*s]", (int)MIN(close - open - 1, 64), open + 1);
    clean(ret->command);
    return 0;
}

int ps_parse_uid(const char *text, uint32_t *ret) {
    const char *line = strstr(text, "\nUid:");
    char *end;
    unsigned long uid = line ? strtoul(line + 5, &end, 10) : 0;
    if (!line || end == line + 5)
        return -EINVAL;
    *ret = (uint32_t)uid;
    return 0;
}

void ps_format_command(const char *cmdline, size_t len, char out[PS_COMMAND_MAX]) {
    while (len && cmdline[len - 1] == '\0')
        len--;
    len = MIN(len, (size_t)PS_COMMAND_MAX - 1);
    for (size_t i = 0; i < len; i++)
        out[i] = cmdline[i] ? cmdline[i] : ' ';
    out[len] = '\0';
    clean(out);
}

/* Reads what fits. */
static ssize_t read_some(pid_t pid, const char *file, char *buf, size_t size) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -ESRCH;
    ssize_t n = read(fd, buf, size - 1);
    if (n < 0)
        return -ESRCH;
    buf[n] = '\0';
    return n;
}

int ps_read(pid_t pid, struct ps_entry *ret) {
    char buf[2048];
    struct ps_entry e;
    ssize_t n = read_some(pid, "stat", buf, sizeof(buf));
    if (n < 0 || ps_parse_stat(buf, &e) < 0)
        return -ESRCH;
    n = read_some(pid, "status", buf, sizeof(buf));
    if (n < 0 || ps_parse_uid(buf, &e.uid) < 0)
        return -ESRCH;
    *ret = e;
    return 0;
}

void ps_read_command(pid_t pid, char out[PS_COMMAND_MAX]) {
    char buf[2048];
    ssize_t n = read_some(pid, "cmdline", buf, sizeof(buf));
    ps_format_command(buf, n > 0 ? (size_t)n : 0, out);
}

/* One process. What has not been marked as read may be half written: the reader can be killed. */
struct slot {
    pid_t pid;
    bool has_entry, has_command;
    struct ps_entry entry;
    char command[PS_COMMAND_MAX];
};

/* A list being read. */
struct listing {
    struct slot *slots; /* shared with the reader */
    size_t n;
    ps_fn fn;
    void *userdata;
};

static size_t size_of(const struct listing *l) {
    return (l->n + 1) * sizeof(*l->slots);
}

static struct listing *listing_free(struct listing *l) {
    if (l && l->slots)
        (void)munmap(l->slots, size_of(l));
    free(l);
    return NULL;
}

/* In the child. */
static int read_all(void *arg) {
    struct listing *l = arg;
    for (size_t i = 0; i < l->n; i++)
        l->slots[i].has_entry = ps_read(l->slots[i].pid, &l->slots[i].entry) == 0; /* else it has ended meanwhile */
    for (size_t i = 0; i < l->n; i++) {
        ps_read_command(l->slots[i].pid, l->slots[i].command);
        l->slots[i].has_command = *l->slots[i].command;
    }
    return 0;
}

/* The entries that are there; how many. */
static size_t collect(const struct listing *l, struct ps_entry *list) {
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++) {
        const struct slot *s = &l->slots[i];
        if (!s->has_entry)
            continue;
        list[n] = s->entry;
        if (s->has_command)
            memcpy(list[n].command, s->command, sizeof(s->command));
        n++;
    }
    return n;
}

static void on_read(void *userdata, int status) {
    struct listing *l = userdata;
    struct err err = ERR_INIT;
    cleanup_free struct ps_entry *list = calloc(l->n + 1, sizeof(*list));
    if (!list)
        err_set(&err, ENOMEM, "out of memory");
    else if (status != 0 && status != -ETIMEDOUT)
        err_set(&err, EIO, "the process that reads /proc has failed");
    if (list && !err.code)
        l->fn(l->userdata, list, collect(l, list), NULL);
    else
        l->fn(l->userdata, NULL, 0, &err);
    listing_free(l);
}

/* NULL: out of memory. */
static struct listing *listing_new(const pid_t *pids, size_t n) {
    struct listing *l = calloc(1, sizeof(*l));
    if (!l)
        return NULL;
    l->n = MIN(n, (size_t)PS_LIST_MAX);
    void *p = mmap(NULL, size_of(l), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        free(l);
        return NULL;
    }
    l->slots = p;
    for (size_t i = 0; i < l->n; i++)
        l->slots[i].pid = pids[i];
    return l;
}

int ps_list(sd_event *event, struct children *children, int cgroup_fd, uint64_t timeout_usec, ps_fn fn, void *userdata,
            struct err *err) {
    cleanup_free pid_t *pids = NULL;
    size_t n = 0;
    int r = cgroup_pids(cgroup_fd, &pids, &n, err);
    if (r < 0)
        return r;
    struct listing *l = listing_new(pids, n);
    if (!l)
        return err_set(err, ENOMEM, "out of memory");
    l->fn = fn;
    l->userdata = userdata;
    r = job_fork(event, children, read_all, l, timeout_usec, on_read, l, NULL, err);
    if (r < 0)
        listing_free(l);
    return r;
}

uint64_t ps_ticks_to_usec(uint64_t ticks) {
    return ticks * (USEC_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK));
}
