/* SPDX-License-Identifier: Apache-2.0 */
/* Ownership and small numbers: cleanup attributes, hand-over of ownership, clocks, strings. */
#pragma once

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define USEC_PER_SEC UINT64_C(1000000)
#define USEC_PER_MSEC UINT64_C(1000)

#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* Hands the value over: the variable no longer owns it. */
#define TAKE_PTR(p)                                                                                                    \
    ({                                                                                                                 \
        __typeof__(p) *take_p_ = &(p);                                                                                 \
        __typeof__(p) take_v_ = *take_p_;                                                                              \
        *take_p_ = NULL;                                                                                               \
        take_v_;                                                                                                       \
    })
#define TAKE_FD(fd)                                                                                                    \
    ({                                                                                                                 \
        int *take_p_ = &(fd);                                                                                          \
        int take_v_ = *take_p_;                                                                                        \
        *take_p_ = -1;                                                                                                 \
        take_v_;                                                                                                       \
    })

/* Defines NAMEp() for CLEANUP from a destructor that accepts NULL. */
#define DEFINE_CLEANUP(type, fn)                                                                                       \
    static inline void fn##p(type *p) {                                                                                \
        if (*p)                                                                                                        \
            (void)fn(*p);                                                                                              \
    }                                                                                                                  \
    struct cleanup_needs_semicolon_

static inline void freep(void *p) {
    free(*(void **)p);
}
DEFINE_CLEANUP(FILE *, fclose);
DEFINE_CLEANUP(DIR *, closedir);

#define cleanup_free CLEANUP(freep)
#define cleanup_file CLEANUP(fclosep)
#define cleanup_dir CLEANUP(closedirp)

/* Monotonic and wall clock, in microseconds. */
uint64_t now_usec(void);
uint64_t now_wall_usec(void);

/* "2026-01-02T03:04:05.123456789Z" (RFC 3339) into buf of at least 32 bytes. Returns buf. */
char *format_rfc3339(uint64_t wall_usec, char *buf, size_t size);

/* malloc'd printf; NULL when out of memory. */
char *str_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A NULL-terminated, growing list of strings it owns; zero-initialise. Used for argv and environments. */
struct strv {
    char **v; /* NULL until the first add */
    size_t n;
};

/* Each adds a copy. Return 0 or -ENOMEM. */
int strv_add(struct strv *s, const char *str);
int strv_addf(struct strv *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void strv_clear(struct strv *s);
#define cleanup_strv CLEANUP(strv_clear)

/* Decimal number without sign or blanks, at most max. Returns 0, -EINVAL or -ERANGE. */
int parse_u64(const char *s, uint64_t max, uint64_t *ret);

/* A size with an optional K, M, G or T (powers of 1024, "i" and "B" allowed after it). Returns 0, -EINVAL, -ERANGE. */
int parse_size(const char *s, uint64_t *ret);

/* A signal's number from "TERM", "SIGTERM", "sigterm", "RTMIN+3" or "15"; -EINVAL if there is none. */
int parse_signal(const char *s);

/* True if s is well-formed UTF-8 of len bytes without NUL. */
bool utf8_valid(const char *s, size_t len);

/* Lower-case hexadecimal digits; ret has room for 2 * n + 1 bytes. */
void hex_format(const void *bytes, size_t n, char *ret);

/* Makes text that a peer chose fit for logs, terminals and protobuf strings, in place and without changing its length:
 * control characters (those of UTF-8 above U+007F too) and bytes that are no UTF-8 become '?', but for the control
 * characters in keep ("" or "\n\t"). */
void str_printable(char *s, const char *keep);
