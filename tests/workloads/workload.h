/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A workload: a small static program that makes something, and says afterwards whether it is still as it was made.
 *
 * It defines set_up(), which makes it, and check(), which compares, and which may be called any number of times. main()
 * is in workload.c: set_up(), the line "ready"; then for each line on standard input check() and the line "pass". At
 * the input's end it exits 0. What is not as it should be ends the process: the line "fail: WHY", exit code 1. So one
 * can be run by hand; in a container runner.c starts many.
 *
 * Each has a working directory of its own, on the container's root file system. There are a tmpfs on /tmpfs and a
 * volume on /volume.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_MSEC 60000 /* for what must happen by itself: the machine may be slow, it is emulated */

void set_up(void);
void check(void);

/* The line "fail: WHY", and the end. In a child process as well: the runner reads what any of them prints. */
__attribute__((format(printf, 1, 2), noreturn)) void fail(const char *format, ...);

/* Fails with the expression and errno's text unless it is true. */
#define must(expression)                                                                                               \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        if (!(expression))                                                                                             \
            fail("%s:%d: %s (%s)", __FILE_NAME__, __LINE__, #expression, strerror(errno));                             \
    } while (0)

/* Waits up to PATIENCE_MSEC for the fd to be readable. */
bool readable(int fd);

/* True if exactly these bytes can be read; waits for them. */
bool reads(int fd, const void *bytes, size_t size);

/* Fills with, or compares to, a pattern that differs from page to page and from seed to seed. */
void pattern_fill(void *memory, size_t size, unsigned seed);
bool pattern_is(const void *memory, size_t size, unsigned seed);
/* As pattern_is(), of the bytes from this one on, a multiple of 8. */
bool pattern_continues(const void *memory, size_t from, size_t size, unsigned seed);

/* A child that ends with this process; returns as fork() does. */
pid_t fork_bound(void);
