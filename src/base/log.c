/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

#define LOG_LINE_MAX 8192

/* The one piece of state of the whole process that is not passed down: every function may log. */
static struct {
    int fd;
    enum log_level level;
    enum log_format format;
    char id[128];
    int tee_fd; /* -1: none */
    enum log_level tee_level;
    int spare_fd; /* -1: none */
} state = {.fd = STDERR_FILENO, .level = LOG_LEVEL_INFO, .format = LOG_FORMAT_TEXT, .tee_fd = -1, .spare_fd = -1};

static const char *const level_names[] = {
    [LOG_LEVEL_ERROR] = "error",
    [LOG_LEVEL_WARN] = "warning",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_DEBUG] = "debug",
};

void log_set_fd(int fd) {
    state.fd = fd;
}

void log_set_level(enum log_level level) {
    state.level = level;
}

void log_set_format(enum log_format format) {
    state.format = format;
}

void log_set_id(const char *id) {
    snprintf(state.id, sizeof(state.id), "%s", id ? id : "");
}

void log_set_spare(int fd) {
    if (state.spare_fd >= 0)
        close(state.spare_fd);
    state.spare_fd = fd;
}

void log_set_tee(int fd, enum log_level level) {
    state.tee_fd = fd;
    state.tee_level = level;
}

enum log_level log_get_level(void) {
    return state.level;
}

int log_get_fd(void) {
    return state.fd;
}

const char *log_level_name(enum log_level level) {
    return level_names[level];
}

int log_open(const char *path, struct err *err) {
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0)
        return err_errno(err, errno, "cannot open log file %s", path);
    state.fd = fd;
    return 0;
}

int log_level_parse(const char *s, enum log_level *ret) {
    for (size_t i = 0; i < ARRAY_SIZE(level_names); i++)
        if (strcmp(s, level_names[i]) == 0) {
            *ret = (enum log_level)i;
            return 0;
        }
    if (strcmp(s, "warn") == 0) {
        *ret = LOG_LEVEL_WARN;
        return 0;
    }
    return -EINVAL;
}

int log_format_parse(const char *s, enum log_format *ret) {
    if (strcmp(s, "text") == 0)
        *ret = LOG_FORMAT_TEXT;
    else if (strcmp(s, "json") == 0)
        *ret = LOG_FORMAT_JSON;
    else
        return -EINVAL;
    return 0;
}

/* Quotes as JSON does, which also suits the text format. Bytes that are not UTF-8 become '?'. */
static size_t quote(char *out, size_t size, const char *in) {
    size_t n = 0;
    bool utf8 = utf8_valid(in, strlen(in));
    out[n++] = '"';
    for (; *in && n + 8 < size; in++) {
        unsigned char c = (unsigned char)*in;
        if (c == '"' || c == '\\') {
            out[n++] = '\\';
            out[n++] = (char)c;
        } else if (c == '\n') {
            out[n++] = '\\';
            out[n++] = 'n';
        } else if (c == '\t') {
            out[n++] = '\\';
            out[n++] = 't';
        } else if (c < 0x20 || c == 0x7f) {
            n += (size_t)snprintf(out + n, size - n, "\\u%04x", c);
        } else {
            out[n++] = c >= 0x80 && !utf8 ? '?' : (char)c;
        }
    }
    out[n++] = '"';
    out[n] = '\0';
    return n;
}

size_t log_msg(enum log_level level, const char *fmt, ...) {
    if (level > state.level)
        return 0;

    int saved = errno;
    char msg[LOG_LINE_MAX / 2], quoted[LOG_LINE_MAX - 256], id[300] = "", line[LOG_LINE_MAX + 512], when[40];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);

    quote(quoted, sizeof(quoted), msg);
    if (state.id[0])
        quote(id, sizeof(id), state.id);
    format_rfc3339(now_wall_usec(), when, sizeof(when));

    int n;
    switch (state.format) {
    case LOG_FORMAT_JSON:
        n = snprintf(line, sizeof(line), "{\"level\":\"%s\",\"msg\":%s%s%s,\"time\":\"%s\"}\n", level_names[level],
                     quoted, id[0] ? ",\"id\":" : "", id, when);
        break;
    case LOG_FORMAT_PLAIN:
        /* It may hold what a guest said. Newlines part the lines of a console's end. */
        str_printable(msg, "\n\t");
        n = snprintf(line, sizeof(line), "stasis: %s%s\n", level == LOG_LEVEL_WARN ? "warning: " : "", msg);
        break;
    case LOG_FORMAT_CONSOLE:
        /* One message, one line: a name that a container chose must not look like a message of its own. */
        str_printable(msg, "");
        n = snprintf(line, sizeof(line), "stasis-agent: %s: %s\n", level_names[level], msg);
        break;
    default:
        n = snprintf(line, sizeof(line), "time=\"%s\" level=%s msg=%s%s%s\n", when, level_names[level], quoted,
                     id[0] ? " id=" : "", id);
    }
    /* One write, so that lines of several processes that append to one file do not mix. */
    if (n > 0 && write(state.fd, line, MIN((size_t)n, sizeof(line) - 1)) < 0 && state.spare_fd >= 0 &&
        write(state.spare_fd, line, MIN((size_t)n, sizeof(line) - 1)) < 0) {
        /* nowhere left to report it */
    }
    if (n > 0 && state.tee_fd >= 0 && level <= state.tee_level &&
        write(state.tee_fd, line, MIN((size_t)n, sizeof(line) - 1)) < 0) {
        /* it is a copy */
    }
    errno = saved;
    return n > 0 ? MIN((size_t)n, sizeof(line) - 1) : 0;
}

void log_within(uint64_t max, uint64_t *used, enum log_level level, const char *who, const char *line) {
    if (*used >= max)
        return;
    *used += log_msg(level, "%s: %s", who, line);
    if (*used >= max)
        log_warn("%s: that makes %llu bytes ([log] guest_log_max): no more of it is logged", who,
                 (unsigned long long)max);
}
