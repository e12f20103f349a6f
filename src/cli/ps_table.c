/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/ps_table.h"

#include <string.h>
#include <time.h>

#include "cli/table.h"

#define DAY (24 * 3600)

static void format_start(uint64_t start_usec, uint64_t now_usec_wall, char *buf, size_t size) {
    time_t start = (time_t)(start_usec / USEC_PER_SEC), now = (time_t)(now_usec_wall / USEC_PER_SEC);
    struct tm tm;
    size_t n = 0;
    if (!localtime_r(&start, &tm))
        n = 0;
    else if (now - start < DAY)
        n = strftime(buf, size, "%H:%M", &tm);
    else if (now - start < 365 * DAY)
        n = strftime(buf, size, "%b%d", &tm);
    else
        n = strftime(buf, size, "%Y", &tm);
    if (n == 0)
        snprintf(buf, size, "?");
}

static void format_cpu(uint64_t usec, char *buf, size_t size) {
    unsigned long long s = usec / USEC_PER_SEC;
    snprintf(buf, size, "%02llu:%02llu:%02llu", s / 3600, s / 60 % 60, s % 60);
}

/* What a guest sends must not drive the terminal it is shown on. */
static char *printable(const char *text) {
    char *copy = strdup(text);
    if (copy)
        str_printable(copy, "");
    return copy;
}

static int add(struct table *t, const Stasis__Agent__V1__ProcessDetails *p, uint64_t now_usec_wall, struct err *err) {
    char uid[16], pid[16], ppid[16], start[16], cpu[32];
    cleanup_free char *tty = printable(p->tty);
    cleanup_free char *command = printable(p->command);
    if (!tty || !command)
        return err_set(err, ENOMEM, "out of memory");
    if (p->uid == 0) /* other names are the container's business, not this host's */
        snprintf(uid, sizeof(uid), "root");
    else
        snprintf(uid, sizeof(uid), "%u", p->uid);
    snprintf(pid, sizeof(pid), "%u", p->pid);
    snprintf(ppid, sizeof(ppid), "%u", p->ppid);
    format_start(p->start_wall_usec, now_usec_wall, start, sizeof(start));
    format_cpu(p->cpu_usec, cpu, sizeof(cpu));
    uint64_t age = now_usec_wall > p->start_wall_usec ? now_usec_wall - p->start_wall_usec : 0;
    char share[16];
    snprintf(share, sizeof(share), "%u", age ? (unsigned)MIN(p->cpu_usec * 100 / age, (uint64_t)99) : 0);
    const char *const cells[] = {uid, pid, ppid, share, start, tty, cpu, command};
    return table_add(t, cells, err);
}

int ps_table_print(const Stasis__Agent__V1__ProcessDetails *const *processes, size_t n, uint64_t now_usec_wall,
                   FILE *out, struct err *err) {
    static const char *const head[] = {"UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"};
    cleanup_table struct table t = {.columns = ARRAY_SIZE(head), .gap = 2};
    int r = table_add(&t, head, err);
    for (size_t i = 0; i < n && r == 0; i++)
        r = add(&t, processes[i], now_usec_wall, err);
    if (r == 0)
        table_print(&t, out);
    return r;
}
