/* SPDX-License-Identifier: Apache-2.0 */
#define ERR_IMPLEMENTATION
#include "base/err.h"

#include <stdio.h>
#include <string.h>

#include "base/util.h"

/* Messages end up in logs and on terminals: bytes that a peer chose must not carry control characters there. */
static void sanitise(char *s) {
    str_printable(s, "\n\t");
}

int err_set(struct err *err, int code, const char *fmt, ...) {
    if (code <= 0)
        code = EIO;
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
        va_end(ap);
        err->code = code;
        sanitise(err->msg);
    }
    return -code;
}

int err_errno(struct err *err, int code, const char *fmt, ...) {
    if (code <= 0)
        code = EIO;
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
        va_end(ap);
        err->code = code;
        size_t n = strlen(err->msg);
        snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", strerror(code));
        sanitise(err->msg);
    }
    return -code;
}

int err_wrap(struct err *err, const char *fmt, ...) {
    if (!err)
        return -EIO;
    if (err->code == 0)
        err->code = EIO;

    char head[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(head, sizeof(head), fmt, ap);
    va_end(ap);

    char tail[ERR_MSG_MAX];
    memcpy(tail, err->msg, sizeof(tail));
    if (snprintf(err->msg, sizeof(err->msg), "%s%s%s", head, tail[0] ? ": " : "", tail) < 0)
        err->msg[0] = '\0';
    sanitise(err->msg);
    return -err->code;
}

int err_wrap_once(struct err *err, const char *what, const char *id) {
    size_t n = strlen(what);
    if (err && strncmp(err->msg, what, n) == 0 && err->msg[n] == ' ' && strncmp(err->msg + n + 1, id, strlen(id)) == 0)
        return err->code ? -err->code : -EIO;
    return err_wrap(err, "%s %s", what, id);
}

int err_append(struct err *err, const char *fmt, ...) {
    if (!err)
        return -EIO;
    size_t n = strlen(err->msg);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->msg + n, sizeof(err->msg) - n, fmt, ap);
    va_end(ap);
    sanitise(err->msg);
    return err->code ? -err->code : -EIO;
}

int err_copy(struct err *dst, const struct err *src) {
    int code = src && src->code ? src->code : EIO;
    if (dst && src)
        *dst = *src;
    else if (dst)
        err_set(dst, code, "unknown error");
    return -code;
}
