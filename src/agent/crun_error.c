/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/crun_error.h"

#include <jansson.h>
#include <stdbool.h>
#include <string.h>

#include "base/json.h"
#include "base/util.h"

#define NAME_MAX_SHOWN 256

/*
 * pattern: found anywhere in crun 1.x's message; its one '*' stands for the name, which crun puts in backquotes.
 * message: what we say, with '*' for the name; NULL: crun's message as it is. The first row that fits counts.
 */
static const struct row {
    const char *pattern;
    int code;
    const char *message;
} rows[] = {
    {"executable file `*` not found in $PATH", ENOENT, "exec: \"*\": executable file not found in $PATH"},
    {"executable file `*` not found", ENOENT, "exec: \"*\": stat *: no such file or directory"},
    {"the path `*` exists but it is not executable", EACCES, "exec: \"*\": permission denied"},
    {"the path `*` is not a regular file", EACCES, "exec: \"*\": permission denied (it is not a regular file)"},
    {"exec.fifo`: No such file or directory", EBUSY, "the container was started before"},
    {"container `*` already exists", EEXIST, NULL},
    {"container `*` does not exist", ENOENT, NULL},
    {"container `*` is not running", EBUSY, NULL},
    {"container `*` is paused", EBUSY, NULL},
    {"error loading config.json", EINVAL, NULL},
    {"invalid config file", EINVAL, NULL},
    {"cannot parse", EINVAL, NULL},
    {"use --console-socket", EINVAL, "the process object asks for a terminal, but none is requested"},
    {"unknown seccomp", EINVAL, NULL},
    {"chdir to `*`", EINVAL, NULL},
};

/* Copies what '*' stands for to name (cut if too long). */
static bool matches(const char *msg, const char *pattern, char *name, size_t size) {
    const char *star = strchr(pattern, '*');
    name[0] = '\0';
    if (!star)
        return strstr(msg, pattern);
    size_t head = (size_t)(star - pattern);
    const char *tail = star + 1;
    for (const char *p = msg; *p; p++) {
        if (strncmp(p, pattern, head) != 0)
            continue;
        /* The name may itself hold a backquote: the last place where the rest fits ends it. */
        const char *end = NULL;
        for (const char *q = p + head; (q = strstr(q, tail)); q++)
            end = q;
        if (!end)
            return false;
        snprintf(name, size, "%.*s", (int)MIN((size_t)(end - p) - head, size - 1), p + head);
        return true;
    }
    return false;
}

static void fill(const char *message, const char *name, char *out, size_t size) {
    size_t n = 0;
    for (; *message && n + 1 < size; message++) {
        if (*message == '*')
            n += (size_t)snprintf(out + n, size - n, "%s", name);
        else
            out[n++] = *message;
        n = MIN(n, size - 1);
    }
    out[n] = '\0';
}

int crun_error_from_message(const char *msg, struct err *err) {
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        char name[NAME_MAX_SHOWN], text[3 * NAME_MAX_SHOWN];
        if (!matches(msg, rows[i].pattern, name, sizeof(name)))
            continue;
        if (!rows[i].message)
            return err_set(err, rows[i].code, "%s", msg);
        fill(rows[i].message, name, text, sizeof(text));
        return err_set(err, rows[i].code, "%s", text);
    }
    return err_set(err, EIO, "crun: %s", msg);
}

/* What CRIU's log has of errors goes through crun's log between these two; criu_log.h has a better account of it. */
static const char excerpt_begin[] = "--- excerpt from CRIU log", excerpt_end[] = "--- end of excerpt";

/* The next object of the log at *p, which may go over several lines; a line that begins none is skipped. NULL at the
 * end. */
static json_t *next_entry(const char **p, const char *end) {
    while (*p < end) {
        json_error_t where;
        json_t *entry = json_loadb(*p, (size_t)(end - *p), JSON_DISABLE_EOF_CHECK, &where);
        if (entry) {
            *p += where.position;
            return entry;
        }
        const char *eol = memchr(*p, '\n', (size_t)(end - *p));
        *p = eol ? eol + 1 : end;
    }
    return NULL;
}

int crun_error_from_log(const char *log, size_t len, struct err *err) {
    const char *end = log + len;
    bool excerpt = false;
    for (;;) {
        cleanup_json json_t *entry = next_entry(&log, end);
        const char *level = json_string_value(json_object_get(entry, "level"));
        const char *msg = json_string_value(json_object_get(entry, "msg"));
        if (!entry)
            break;
        if (!msg || !level || strcmp(level, "error") != 0)
            continue;
        if (strncmp(msg, excerpt_begin, strlen(excerpt_begin)) == 0)
            excerpt = true;
        else if (strcmp(msg, excerpt_end) == 0)
            excerpt = false;
        else if (!excerpt)
            return crun_error_from_message(msg, err);
    }
    return err_set(err, EIO, "crun failed without a message");
}
