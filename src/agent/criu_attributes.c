/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/criu_attributes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES 256

int attributes_write(FILE *f, const struct attributes *a) {
    return fprintf(f, "%d %d %x %x %d %d %x %" PRIu64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 "\n", a->pid,
                   a->tid, a->mdwe, a->personality, a->ioprio, a->has_coredump_filter, a->coredump_filter,
                   a->timer_slack, a->cpus[0], a->cpus[1], a->cpus[2], a->cpus[3]);
}

static int parse(const char *line, struct attributes *a) {
    int has_filter, end = 0;
    *a = (struct attributes){0};
    /* NOLINTNEXTLINE(cert-err34-c): a number out of its range is another number, which the kernel judges */
    int n = sscanf(line, "%d %d %x %x %d %d %x %" SCNu64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 "\n%n",
                   &a->pid, &a->tid, &a->mdwe, &a->personality, &a->ioprio, &has_filter, &a->coredump_filter,
                   &a->timer_slack, &a->cpus[0], &a->cpus[1], &a->cpus[2], &a->cpus[3], &end);
    a->has_coredump_filter = has_filter != 0;
    return n == 12 && end > 0 && !line[end] && a->pid > 0 && a->tid > 0 ? 0 : -EINVAL;
}

static int add(struct attributes **list, size_t *n, const char *line) {
    if (*n == ATTRIBUTES_MAX)
        return -EFBIG;
    if ((*n & (*n - 1)) == 0) { /* it doubles at each power of two */
        struct attributes *more = realloc(*list, (*n ? 2 * *n : 1) * sizeof(**list));
        if (!more)
            return -ENOMEM;
        *list = more;
    }
    int r = parse(line, &(*list)[*n]);
    if (r == 0)
        ++*n;
    return r;
}

int attributes_read(FILE *f, struct attributes **ret, size_t *n) {
    char line[LINE_BYTES];
    int r = 0;
    *ret = NULL;
    *n = 0;
    while (r == 0 && fgets(line, sizeof(line), f))
        r = strchr(line, '\n') ? add(ret, n, line) : -EINVAL;
    if (r == 0 && ferror(f))
        r = -EIO;
    if (r < 0) {
        free(*ret);
        *ret = NULL;
        *n = 0;
    }
    return r;
}
