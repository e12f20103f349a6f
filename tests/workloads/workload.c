/* SPDX-License-Identifier: Apache-2.0 */
#include "workload.h"

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>

#define LINE_MAX_BYTES 512 /* of what is printed: one write, so that lines of several processes do not mix */

static void say(const char *line) {
    ssize_t n = write(STDOUT_FILENO, line, strlen(line));
    (void)n; /* nobody listens: there is nothing else to tell it to */
}

void fail(const char *format, ...) {
    char why[LINE_MAX_BYTES - 16], line[LINE_MAX_BYTES];
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(why, sizeof(why), format, ap);
    va_end(ap);
    (void)snprintf(line, sizeof(line), "fail: %s\n", why);
    say(line);
    _exit(1);
}

bool readable(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n;
    do {
        n = poll(&p, 1, PATIENCE_MSEC);
    } while (n < 0 && errno == EINTR);
    return n == 1 && p.revents & POLLIN;
}

bool reads(int fd, const void *bytes, size_t size) {
    char got[4096];
    size_t n = 0;
    if (size > sizeof(got))
        return false;
    while (n < size) {
        ssize_t r = read(fd, got + n, size - n);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return false;
        n += (size_t)r;
    }
    return !memcmp(got, bytes, size);
}

/* Each word holds its place and the seed: a page that came back elsewhere, or as it was earlier, is seen. */
static uint64_t pattern_word(size_t i, unsigned seed) {
    return (i + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ seed;
}

void pattern_fill(void *memory, size_t size, unsigned seed) {
    uint64_t *words = memory;
    for (size_t i = 0; i < size / sizeof(*words); i++)
        words[i] = pattern_word(i, seed);
}

bool pattern_continues(const void *memory, size_t from, size_t size, unsigned seed) {
    const uint64_t *words = memory;
    for (size_t i = from / sizeof(*words); i < size / sizeof(*words); i++)
        if (words[i] != pattern_word(i, seed))
            return false;
    return true;
}

bool pattern_is(const void *memory, size_t size, unsigned seed) {
    return pattern_continues(memory, 0, size, seed);
}

pid_t fork_bound(void) {
    pid_t pid = fork();
    if (pid == 0)
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
}

/* Waits for the next request, one line; false at the end of the input. */
static bool wait_for_request(void) {
    char c;
    for (;;) {
        ssize_t n = read(STDIN_FILENO, &c, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        if (c == '\n')
            return true;
    }
}

int main(void) {
    set_up();
    say("ready\n");
    while (wait_for_request()) {
        check();
        say("pass\n");
    }
    return 0;
}
