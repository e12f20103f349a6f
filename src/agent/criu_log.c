/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/criu_log.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/util.h"

#define ERROR_MARK "Error ("

/* What CRIU reports as an error of its probes, of a kernel module that nobody needs, or after the fact. */
static const char *const noise[] = {
    "Unable to create tun",
    "cgroupd: recv req error",
    "No parent image found, though parent directory is set",
};

static bool is_noise(const char *line, size_t len) {
    for (size_t i = 0; i < ARRAY_SIZE(noise); i++)
        if (memmem(line, len, noise[i], strlen(noise[i])))
            return true;
    return false;
}

struct line {
    const char *text;
    size_t len;
};

/* The next line at *p, from its "Error (" on if it has one. False at the end. */
static bool next_error(const char **p, const char *end, struct line *ret) {
    while (*p < end) {
        const char *eol = memchr(*p, '\n', (size_t)(end - *p));
        const char *stop = eol ? eol : end;
        const char *mark = memmem(*p, (size_t)(stop - *p), ERROR_MARK, strlen(ERROR_MARK));
        *p = eol ? eol + 1 : end;
        if (!mark)
            continue;
        ret->text = mark;
        ret->len = (size_t)(stop - mark);
        if (!is_noise(ret->text, ret->len))
            return true;
    }
    return false;
}

void criu_log_append_errors(const char *log, size_t len, struct err *err) {
    struct line last[CRIU_LOG_ERRORS], line;
    size_t n = 0;
    const char *p = log;
    while (next_error(&p, log + len, &line))
        last[n++ % CRIU_LOG_ERRORS] = line;
    for (size_t i = n > CRIU_LOG_ERRORS ? n - CRIU_LOG_ERRORS : 0, first = i; i < n; i++) {
        char text[CRIU_LOG_LINE_MAX + 1];
        line = last[i % CRIU_LOG_ERRORS];
        size_t used = MIN(line.len, (size_t)CRIU_LOG_LINE_MAX);
        for (size_t k = 0; k < used; k++)
            text[k] = line.text[k] >= ' ' && line.text[k] < 0x7f ? line.text[k] : '?';
        text[used] = '\0';
        err_append(err, "%s%s", i == first ? "; CRIU: " : "; ", text);
    }
}

size_t criu_log_last_lines(const char *log, size_t len, unsigned n) {
    size_t at = len;
    if (at && log[at - 1] == '\n')
        at--;
    for (; at; at--)
        if (log[at - 1] == '\n' && --n == 0)
            return at;
    return 0;
}

char *criu_log_read(int dirfd, const char *name, size_t *ret_len) {
    cleanup_fd int fd = path_open_beneath(dirfd, name, O_RDONLY | O_NONBLOCK, 0, NULL);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return NULL;
    size_t size = (size_t)st.st_size, start = size > CRIU_LOG_TAIL ? size - CRIU_LOG_TAIL : 0;
    char *text = malloc(CRIU_LOG_TAIL + 1);
    ssize_t n = text ? pread(fd, text, CRIU_LOG_TAIL, (off_t)start) : -1;
    if (n < 0) {
        free(text);
        return NULL;
    }
    text[n] = '\0';
    *ret_len = (size_t)n;
    return text;
}

static void write_check(FILE *f, const struct check_result *check) {
    if (!check) {
        fprintf(f, "check: none was made\n");
        return;
    }
    fprintf(f, "criu: %s\n", check->criu_version[0] ? check->criu_version : "does not run");
    for (size_t i = 0; i < check->n; i++)
        if (check->items[i].status != CHECK_OK || strcmp(check->items[i].name, "criu check") == 0)
            fprintf(f, "check: %s: %s: %s\n", check->items[i].name,
                    check->items[i].status == CHECK_OK     ? "ok"
                    : check->items[i].status == CHECK_WARN ? "warning"
                                                           : "failed",
                    check->items[i].detail);
}

static void write_outcome(FILE *f, const struct criu_attempt *a) {
    if (WIFEXITED(a->status))
        fprintf(f, "exit code: %d\n", WEXITSTATUS(a->status));
    else if (WIFSIGNALED(a->status))
        fprintf(f, "killed by signal: %d\n", WTERMSIG(a->status));
    fprintf(f, "result: %s\n", a->err ? a->err->msg : "done");
}

static void write_output(FILE *f, int fd) {
    char *text = malloc(CRIU_OUTPUT_MAX);
    ssize_t n = fd >= 0 && text ? pread(fd, text, CRIU_OUTPUT_MAX, 0) : 0;
    if (n > 0)
        fprintf(f, "\noutput of crun and CRIU:\n%.*s", (int)n, text);
    free(text);
}

static void write_log(FILE *f, int dirfd, const char *name) {
    size_t len = 0;
    cleanup_free char *log = criu_log_read(dirfd, name, &len);
    if (!log) {
        fprintf(f, "\n%s: CRIU wrote none\n", name);
        return;
    }
    size_t from = criu_log_last_lines(log, len, CRIU_LOG_LINES);
    fprintf(f, "\nlast %d lines of %s:\n", CRIU_LOG_LINES, name);
    (void)fwrite(log + from, 1, len - from, f);
}

int criu_diagnosis_write(int dirfd, const struct criu_attempt *a, struct err *err) {
    int fd = FAULT(AGENT_REPORT) ? err_errno(err, errno, "cannot open %s", CRIU_DIAGNOSIS)
                                 : path_open_beneath(dirfd, CRIU_DIAGNOSIS, O_WRONLY | O_CREAT | O_TRUNC, 0600, err);
    if (fd < 0)
        return fd;
    FILE *f = fdopen(fd, "w");
    if (!f) {
        fd_close(fd);
        return err_set(err, ENOMEM, "out of memory");
    }
    struct utsname u;
    char when[32];
    uname(&u);
    fprintf(f, "%s of container %s, %s\nagent: %s\nkernel: %s %s %s %s\n", a->what, a->id,
            format_rfc3339(now_wall_usec(), when, sizeof(when)), STASIS_VERSION, u.sysname, u.release, u.version,
            u.machine);
    write_check(f, a->check);
    fprintf(f, "command: %s\n", a->command);
    if (*a->conf)
        fprintf(f, "CRIU's configuration:\n%s", a->conf);
    write_outcome(f, a);
    write_output(f, a->output);
    if (a->mounts)
        fprintf(f, "\nmounts:\n%.*s", (int)CRIU_MOUNTS_MAX, a->mounts);
    write_log(f, dirfd, a->log_name);
    bool failed = ferror(f);
    if (fclose(f) != 0 || failed)
        return err_errno(err, errno ? errno : EIO, "cannot write " CRIU_DIAGNOSIS);
    return 0;
}
