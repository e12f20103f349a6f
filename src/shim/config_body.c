/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/config_body.h"

#include <ctype.h>
#include <string.h>

#include "base/util.h"

struct rewriter {
    const char *line, *end; /* the line that is read, without its newline */
    char *out;              /* the end of what was written; it has room for all that is left */
    int number;             /* of the line */
    bool in_section;
};

static void put(struct rewriter *w, const char *text, size_t n) {
    memcpy(w->out, text, n);
    w->out += n;
}

static const char *skip_blanks(const char *p, const char *end) {
    while (p < end && isspace((unsigned char)*p))
        p++;
    return p;
}

/* Those that containerd reads itself, in the spellings it takes. */
static bool is_containerds(const char *key, const char *end) {
    static const char *const names[] = {"TypeUrl", "ConfigPath", "ConfigBody"};
    while (end > key && isspace((unsigned char)end[-1]))
        end--;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (strlen(names[i]) == (size_t)(end - key) && strncasecmp(key, names[i], (size_t)(end - key)) == 0)
            return true;
    return false;
}

static int refuse(const struct rewriter *w, const char *why, struct err *err) {
    return err_set(err, EINVAL, "%s:%d: %s", CONFIG_BODY_NAME, w->number, why);
}

/* Writes the string that begins at p, "basic" or 'literal', without its quotes. */
static int put_string(struct rewriter *w, const char *p, struct err *err) {
    char quote = *p++;
    if (w->end - p >= 2 && p[0] == quote && p[1] == quote)
        return refuse(w, "strings of more than one line are not supported", err);
    for (bool blank = true; p < w->end && *p != quote; p++) {
        if (quote == '"' && *p == '\\') {
            p++;
            if (p == w->end || (*p != '"' && *p != '\\'))
                return refuse(w, "of the escapes in strings only \\\" and \\\\ are supported", err);
        }
        /* It would begin a comment, and the rest be lost. */
        if (*p == ';' && blank)
            return refuse(w, "a value cannot hold a semicolon after a blank", err);
        blank = isspace((unsigned char)*p);
        put(w, p, 1);
    }
    if (p == w->end)
        return refuse(w, "the string has no end", err);
    p = skip_blanks(p + 1, w->end);
    if (p < w->end && *p != '#')
        return refuse(w, "there is more after the string", err);
    return 0;
}

static int rewrite_line(struct rewriter *w, struct err *err) {
    const char *p = skip_blanks(w->line, w->end);
    const char *equals = p;
    while (equals < w->end && *equals != '=')
        equals++;
    if (p < w->end && *p == '[')
        w->in_section = true;
    else if (equals < w->end && *p != '#' && *p != ';') {
        if (!w->in_section && is_containerds(p, equals))
            return 0;
        const char *value = skip_blanks(equals + 1, w->end);
        if (value < w->end && (*value == '"' || *value == '\'')) {
            put(w, p, (size_t)(equals + 1 - p));
            return put_string(w, value, err);
        }
    }
    put(w, w->line, (size_t)(w->end - w->line));
    return 0;
}

int config_body_parse(const uint8_t *body, size_t len, struct config *config, struct err *err) {
    if (len > CONFIG_FILE_MAX)
        return err_set(err, EFBIG, "%s: longer than %zu bytes", CONFIG_BODY_NAME, CONFIG_FILE_MAX);
    if (len == 0)
        return 0;
    if (memchr(body, '\0', len))
        return err_set(err, EINVAL, "%s: is not text, it has a NUL byte", CONFIG_BODY_NAME);
    cleanup_free char *text = malloc(len + 2); /* no line becomes longer */
    if (!text)
        return err_set(err, ENOMEM, "out of memory");
    const char *end = (const char *)body + len;
    struct rewriter w = {.line = (const char *)body, .out = text};
    while (w.line < end) {
        w.number++;
        const char *newline = memchr(w.line, '\n', (size_t)(end - w.line));
        w.end = newline ? newline : end;
        int r = rewrite_line(&w, err);
        if (r < 0)
            return r;
        *w.out++ = '\n'; /* a line that was left out stays as an empty one: numbers are those of the body */
        w.line = w.end + 1;
    }
    *w.out = '\0';
    return config_parse(config, CONFIG_BODY_NAME, text, err);
}
