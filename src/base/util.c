/* SPDX-License-Identifier: Apache-2.0 */
#include "base/util.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static uint64_t clock_usec(clockid_t id) {
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t now_usec(void) {
    return clock_usec(CLOCK_MONOTONIC);
}

uint64_t now_wall_usec(void) {
    return clock_usec(CLOCK_REALTIME);
}

char *format_rfc3339(uint64_t wall_usec, char *buf, size_t size) {
    time_t t = (time_t)(wall_usec / USEC_PER_SEC);
    struct tm tm;
    char date[24];
    if (!gmtime_r(&t, &tm) || strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
        date[0] = '\0';
    snprintf(buf, size, "%s.%09uZ", date, (unsigned)(wall_usec % USEC_PER_SEC * 1000));
    return buf;
}

char *str_printf(const char *fmt, ...) {
    char *s = NULL;
    va_list ap;
    va_start(ap, fmt);
    int r = vasprintf(&s, fmt, ap);
    va_end(ap);
    return r < 0 ? NULL : s;
}

static int strv_take(struct strv *s, char *str) {
    if (!str)
        return -ENOMEM;
    /* Grows at each power of two; one place more for the closing NULL. */
    if (!s->v || (s->n & (s->n - 1)) == 0) {
        char **v = realloc(s->v, (MAX(s->n, 4) * 2 + 1) * sizeof(*v));
        if (!v) {
            free(str);
            return -ENOMEM;
        }
        s->v = v;
    }
    s->v[s->n++] = str;
    s->v[s->n] = NULL;
    return 0;
}

int strv_add(struct strv *s, const char *str) {
    return strv_take(s, strdup(str));
}

int strv_addf(struct strv *s, const char *fmt, ...) {
    char *str = NULL;
    va_list ap;
    va_start(ap, fmt);
    int r = vasprintf(&str, fmt, ap);
    va_end(ap);
    return r < 0 ? -ENOMEM : strv_take(s, str);
}

void strv_clear(struct strv *s) {
    for (size_t i = 0; i < s->n; i++)
        free(s->v[i]);
    free(s->v);
    *s = (struct strv){0};
}

int parse_u64(const char *s, uint64_t max, uint64_t *ret) {
    if (!s || !isdigit((unsigned char)*s))
        return -EINVAL;
    char *end;
    errno = 0;
    unsigned long long v = strtoull(s, &end, 10);
    if (*end)
        return -EINVAL;
    if (errno == ERANGE || v > max)
        return -ERANGE;
    *ret = v;
    return 0;
}

int parse_size(const char *s, uint64_t *ret) {
    static const char units[] = "KMGT";
    if (!s || !isdigit((unsigned char)*s))
        return -EINVAL;
    char *end;
    errno = 0;
    unsigned long long v = strtoull(s, &end, 10);
    if (errno == ERANGE)
        return -ERANGE;
    unsigned shift = 0;
    if (*end && toupper((unsigned char)*end) != 'B') {
        const char *u = strchr(units, toupper((unsigned char)*end));
        if (!u)
            return -EINVAL;
        shift = 10 * (unsigned)(u - units + 1);
        end++;
        if (*end == 'i')
            end++;
    }
    if (toupper((unsigned char)*end) == 'B')
        end++;
    if (*end)
        return -EINVAL;
    if (shift && v > (UINT64_MAX >> shift))
        return -ERANGE;
    *ret = (uint64_t)v << shift;
    return 0;
}

int parse_signal(const char *s) {
    if (!s || !*s)
        return -EINVAL;
    uint64_t n;
    if (parse_u64(s, 64, &n) == 0)
        return n ? (int)n : -EINVAL;
    if (strncasecmp(s, "SIG", 3) == 0)
        s += 3;
    for (int i = 1; i < 32; i++) {
        const char *name = sigabbrev_np(i);
        if (name && strcasecmp(s, name) == 0)
            return i;
    }
    if (strcasecmp(s, "IOT") == 0)
        return SIGABRT;
    if (strcasecmp(s, "CLD") == 0)
        return SIGCHLD;
    /* The numbers are the kernel's ABI as the other runtimes print it: glibc keeps 32 and 33 for itself. */
    if (strncasecmp(s, "RTMIN", 5) == 0 && (s[5] == '\0' || s[5] == '+')) {
        if (s[5] == '\0')
            return 34;
        if (parse_u64(s + 6, 30, &n) == 0)
            return 34 + (int)n;
    }
    if (strncasecmp(s, "RTMAX", 5) == 0 && (s[5] == '\0' || s[5] == '-')) {
        if (s[5] == '\0')
            return 64;
        if (parse_u64(s + 6, 30, &n) == 0)
            return 64 - (int)n;
    }
    return -EINVAL;
}

/* Well-formed sequences as in RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
bool utf8_valid(const char *str, size_t len) {
    const unsigned char *s = (const unsigned char *)str, *end = s + len;
    while (s < end) {
        unsigned c = *s++;
        if (c == 0)
            return false;
        if (c < 0x80)
            continue;
        unsigned more, low = 0x80, high = 0xbf;
        if (c >= 0xc2 && c <= 0xdf) {
            more = 1;
        } else if (c >= 0xe0 && c <= 0xef) {
            more = 2;
            low = c == 0xe0 ? 0xa0 : 0x80;
            high = c == 0xed ? 0x9f : 0xbf;
        } else if (c >= 0xf0 && c <= 0xf4) {
            more = 3;
            low = c == 0xf0 ? 0x90 : 0x80;
            high = c == 0xf4 ? 0x8f : 0xbf;
        } else {
            return false;
        }
        for (; more; more--, low = 0x80, high = 0xbf)
            if (s >= end || *s < low || *s > high)
                return false;
            else
                s++;
    }
    return true;
}

/* Bytes of the well-formed character at s, which is at least one byte long; 0: there is none. */
static size_t utf8_length(const char *s, size_t len) {
    for (size_t n = 1; n <= MIN(len, (size_t)4); n++)
        if (utf8_valid(s, n))
            return n;
    return 0;
}

static bool is_control(const char *s, size_t n) {
    const unsigned char *c = (const unsigned char *)s;
    return n == 1 ? c[0] < 0x20 || c[0] == 0x7f : n == 2 && c[0] == 0xc2 && c[1] < 0xa0;
}

void hex_format(const void *bytes, size_t n, char *ret) {
    static const char digits[] = "0123456789abcdef";
    const uint8_t *b = bytes;
    for (size_t i = 0; i < n; i++) {
        *ret++ = digits[b[i] >> 4];
        *ret++ = digits[b[i] & 15];
    }
    *ret = '\0';
}

void str_printable(char *s, const char *keep) {
    size_t n;
    for (size_t left = strlen(s); left > 0; s += n, left -= n) {
        n = utf8_length(s, left);
        if (n > 0 && (!is_control(s, n) || (n == 1 && strchr(keep, *s))))
            continue;
        n = MAX(n, (size_t)1);
        memset(s, '?', n);
    }
}
