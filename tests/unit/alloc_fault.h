/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nth allocation fails, for each n. The functions are put in the place of the C library's by the linker (ALLOC_WRAP
 * in tests/unit/meson.build), in all objects of this project; jansson gets them from alloc_sweep(). Leaks are
 * LeakSanitizer's to find, so a test with this is one for the build with sanitizers.
 */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/err.h"

#define ALLOC_SWEEP_MAX 100000 /* allocations in one call; more is a loop */

static size_t alloc_left; /* 0: none fails */
static bool alloc_failed, alloc_trace;

extern void __sanitizer_print_stack_trace(void) __attribute__((weak));

/* True when this one has to fail. */
static inline bool alloc_fails(void) {
    if (alloc_left == 0 || --alloc_left > 0)
        return false;
    alloc_failed = true;
    if (alloc_trace && __sanitizer_print_stack_trace)
        __sanitizer_print_stack_trace();
    errno = ENOMEM;
    return true;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
int __real_vasprintf(char **ret, const char *fmt, va_list ap);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
int __wrap_vasprintf(char **ret, const char *fmt, va_list ap);

void *__wrap_malloc(size_t size) {
    return alloc_fails() ? NULL : __real_malloc(size);
}
void *__wrap_calloc(size_t n, size_t size) {
    return alloc_fails() ? NULL : __real_calloc(n, size);
}
void *__wrap_realloc(void *p, size_t size) {
    return alloc_fails() ? NULL : __real_realloc(p, size);
}
void *__wrap_reallocarray(void *p, size_t n, size_t size) {
    return alloc_fails() ? NULL : __real_reallocarray(p, n, size);
}
char *__wrap_strdup(const char *s) {
    return alloc_fails() ? NULL : __real_strdup(s);
}
char *__wrap_strndup(const char *s, size_t n) {
    return alloc_fails() ? NULL : __real_strndup(s, n);
}
int __wrap_vasprintf(char **ret, const char *fmt, va_list ap) {
    return alloc_fails() ? -1 : __real_vasprintf(ret, fmt, ap);
}

static inline size_t alloc_open_fds(void) {
    DIR *d = opendir("/proc/self/fd");
    size_t n = 0;
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* Shows where the nth one is. */
static inline void alloc_show(int (*fn)(void *arg, struct err *err), void *arg, size_t n) {
    struct err err = ERR_INIT;
    alloc_trace = true;
    alloc_left = n;
    (void)fn(arg, &err);
    alloc_left = 0;
    alloc_trace = false;
}

/* Calls fn again and again, with the first, the second, … allocation failing, until it gets by with none: each time it
 * fails and says why, leaving no file open. fn must free what it gets. */
static inline void alloc_sweep(int (*fn)(void *arg, struct err *err), void *arg) {
    size_t fds = alloc_open_fds();
    json_set_alloc_funcs(__wrap_malloc, free); /* json.c does the same */
    for (size_t n = 1; n < ALLOC_SWEEP_MAX; n++) {
        struct err err = ERR_INIT;
        alloc_failed = false;
        alloc_left = n;
        int r = fn(arg, &err);
        alloc_left = 0;
        assert_int_equal(alloc_open_fds(), fds);
        if (!alloc_failed) {
            if (r < 0)
                fail_msg("%s", err.msg);
            assert_true(n > 1); /* it did allocate */
            return;
        }
        if (r < 0 && strstr(err.msg, "memory"))
            continue;
        alloc_show(fn, arg, n);
        fail_msg("allocation %zu fails: %s", n, r < 0 ? err.msg : "nothing is said");
    }
    fail_msg("no end");
}
