/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors: a code, a message and the chain of contexts it passed through.
 *
 * Every function that can fail takes a `struct err *` last and returns 0 or more on success and a negative errno on
 * failure. The caller owns the struct (normally on its stack, ERR_INIT) and may pass NULL when only the code matters.
 * The lowest layer sets it, each layer above may wrap it, and it is logged or sent to the peer once, at the boundary.
 */
#pragma once

#include <errno.h>
#include <stdarg.h>

#define ERR_MSG_MAX 4096

struct err {
    int code;              /* positive errno; 0: no error */
    char msg[ERR_MSG_MAX]; /* "outer context: inner context: cause"; cut at the end if too long */
};

#define ERR_INIT                                                                                                       \
    { .code = 0, .msg = "" }

/* Sets code (positive errno) and message. Returns -code. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As err_set, and appends ": " and strerror(code). */
int err_errno(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The static analyser sees the declarations only; that both return less than 0 it learns here. */
#if defined(__clang_analyzer__) && !defined(ERR_IMPLEMENTATION)
static inline int err_negative(int r) {
    if (r >= 0)
        __builtin_unreachable();
    return r;
}
#define err_set(...) err_negative(err_set(__VA_ARGS__))
#define err_errno(...) err_negative(err_errno(__VA_ARGS__))
#endif

/* Puts "context: " before the message of an error that is already set. Returns -code (-EIO if none was set). */
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* err_wrap with "what id", unless the message begins with that already. Returns -code. */
int err_wrap_once(struct err *err, const char *what, const char *id);

/* Appends text to the message, for details that come last (log lines, hints). Returns -code. */
int err_append(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Copies src to dst. Either may be NULL. Returns -src->code. */
int err_copy(struct err *dst, const struct err *src);
