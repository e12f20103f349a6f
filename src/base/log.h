/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines as the OCI runtimes write them: text `time="…" level=error msg="…" id="…"`, or JSON with the keys level,
 * msg, time (and id). An error is logged once, at the boundary that handles it; lower layers return it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format {
    LOG_FORMAT_TEXT,
    LOG_FORMAT_JSON,
    LOG_FORMAT_PLAIN,  /* "stasis: msg", for a person's terminal: of control characters only newline and tab stay */
    LOG_FORMAT_CONSOLE /* "stasis-agent: level: msg", for the guest's console; control characters become '?' */
};

/* Lines go to fd (not owned; default 2). A write that fails is dropped: logging must not stop the work. */
void log_set_fd(int fd);
void log_set_level(enum log_level level);
void log_set_format(enum log_format format);
/* The id of the sandbox or container that this process serves; copied. NULL: none. */
void log_set_id(const char *id);

/* Lines of at most this level also go to fd (not owned; -1: no longer), in the same format. A write that fails is
 * dropped. */
void log_set_tee(int fd, enum log_level level);

/* A line that cannot be written where lines go, to a full disk say, goes to fd (taken, and the one before is closed;
 * -1: nowhere).
 */
void log_set_spare(int fd);

enum log_level log_get_level(void);
int log_get_fd(void); /* where lines go; not owned */

/* Opens path for appending (0600, created) and logs there. The fd stays open until the process ends. */
int log_open(const char *path, struct err *err);

/* "error", "warn" or "warning", "info", "debug". Return 0 or -EINVAL. */
int log_level_parse(const char *s, enum log_level *ret);
int log_format_parse(const char *s, enum log_format *ret);
const char *log_level_name(enum log_level level);

/* Returns the bytes of the line, or 0: it was below the level. */
size_t log_msg(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* For lines that another party may write at will: logs "who: line" until *used, the bytes that such lines take in the
 * log, has come to max (passed by one line at most); then one more line, which says so, and nothing from then on. */
void log_within(uint64_t max, uint64_t *used, enum log_level level, const char *who, const char *line);

#define log_error(...) log_msg(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_msg(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_msg(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_msg(LOG_LEVEL_DEBUG, __VA_ARGS__)
