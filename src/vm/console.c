/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/console.h"

#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"

/* Where the parser is in an escape sequence: after ESC, in ESC [ … letter, in ESC ] … BEL or ESC \. */
enum escape { ESCAPE_NONE, ESCAPE_START, ESCAPE_CSI, ESCAPE_OSC };

struct console {
    int fd;
    console_line_fn fn;
    void *userdata;
    sd_event_source *io, *timer;
    uint64_t first_usec;

    enum escape escape;
    char line[CONSOLE_LINE_MAX + 1];
    size_t len;

    char *ring[CONSOLE_TAIL_LINES]; /* malloc'd, oldest at next when full */
    size_t next, n_lines;
    char *tail; /* what console_tail() returned */

    uint64_t refill_usec; /* when tokens was last brought up to date */
    uint64_t tokens;      /* lines that may be delivered now */
    uint64_t dropped;
};

static void remember(struct console *c, const char *line) {
    char *copy = strdup(line);
    if (!copy)
        return; /* a line less in an error message */
    free(c->ring[c->next]);
    c->ring[c->next] = copy;
    c->next = (c->next + 1) % CONSOLE_TAIL_LINES;
    c->n_lines = MIN(c->n_lines + 1, (size_t)CONSOLE_TAIL_LINES);
}

static void report_dropped(struct console *c) {
    char text[64];
    if (!c->dropped)
        return;
    snprintf(text, sizeof(text), "[%llu lines dropped, they came too fast]", (unsigned long long)c->dropped);
    c->dropped = 0;
    if (c->fn)
        c->fn(c->userdata, text);
}

static void end_line(struct console *c) {
    uint64_t now = now_usec();
    uint64_t fresh = (now - c->refill_usec) * CONSOLE_LINES_PER_SEC / USEC_PER_SEC;
    if (fresh) {
        c->tokens = MIN(c->tokens + fresh, (uint64_t)CONSOLE_LINES_BURST);
        c->refill_usec = now;
    }
    while (c->len && c->line[c->len - 1] == ' ')
        c->len--;
    c->line[c->len] = '\0';
    bool empty = c->len == 0;
    c->len = 0;
    if (empty)
        return;
    remember(c, c->line);
    if (c->tokens == 0) {
        c->dropped++;
        return;
    }
    c->tokens--;
    report_dropped(c);
    if (c->fn)
        c->fn(c->userdata, c->line);
}

/* True if the byte belongs to an escape sequence. */
static bool in_escape(struct console *c, unsigned char b) {
    switch (c->escape) {
    case ESCAPE_NONE:
        if (b != 0x1b)
            return false;
        c->escape = ESCAPE_START;
        return true;
    case ESCAPE_START:
        c->escape = b == '[' ? ESCAPE_CSI : b == ']' ? ESCAPE_OSC : ESCAPE_NONE;
        return b >= ' ';
    case ESCAPE_CSI:
        if (b >= 0x40 && b <= 0x7e)
            c->escape = ESCAPE_NONE;
        break;
    case ESCAPE_OSC:
        if (b == 0x07)
            c->escape = ESCAPE_NONE;
        else if (b == 0x1b)
            c->escape = ESCAPE_START; /* ESC \ ends it */
        break;
    }
    /* A sequence that never ends must not swallow the lines after it. */
    if (b == '\n') {
        c->escape = ESCAPE_NONE;
        return false;
    }
    return true;
}

void console_feed(struct console *c, const char *bytes, size_t n) {
    if (n && !c->first_usec)
        c->first_usec = now_usec();
    for (size_t i = 0; i < n; i++) {
        unsigned char b = (unsigned char)bytes[i];
        if (in_escape(c, b) || b == '\r')
            continue;
        if (b == '\n') {
            end_line(c);
            continue;
        }
        if (c->len == CONSOLE_LINE_MAX)
            end_line(c);
        c->line[c->len++] = b == '\t' ? ' ' : b >= ' ' && b < 0x7f ? (char)b : '?';
    }
}

/* Reads at most max bytes. Returns false when the stream has ended. */
static bool take(struct console *c, size_t max) {
    char buf[4096];
    while (max > 0) {
        ssize_t n = read(c->fd, buf, MIN(sizeof(buf), max));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n <= 0)
            return false;
        console_feed(c, buf, (size_t)n);
        max -= (size_t)n;
    }
    return true;
}

static int on_input(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
    struct console *c = userdata;
    (void)fd;
    (void)revents;
    /* The pause is a timer and not a wait: the rest of the daemon goes on. */
    sd_event_source_set_enabled(s, SD_EVENT_OFF);
    if (!take(c, CONSOLE_GULP)) {
        console_drain(c);
        return 0;
    }
    if (sd_event_source_set_time_relative(c->timer, CONSOLE_PAUSE_USEC) < 0 ||
        sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT) < 0)
        sd_event_source_set_enabled(s, SD_EVENT_ON);
    return 0;
}

static int on_pause_over(sd_event_source *s, uint64_t usec, void *userdata) {
    struct console *c = userdata;
    (void)s;
    (void)usec;
    sd_event_source_set_enabled(c->io, SD_EVENT_ON);
    return 0;
}

int console_new(sd_event *event, int fd, console_line_fn fn, void *userdata, struct console **ret, struct err *err) {
    struct console *c = calloc(1, sizeof(*c));
    if (!c) {
        fd_close(fd);
        return err_set(err, ENOMEM, "console: out of memory");
    }
    *c = (struct console){
        .fd = fd, .fn = fn, .userdata = userdata, .refill_usec = now_usec(), .tokens = CONSOLE_LINES_BURST};
    int r = fd_set_nonblock(fd, true);
    if (r >= 0)
        r = sd_event_add_io(event, &c->io, fd, EPOLLIN, on_input, c);
    if (r >= 0)
        r = sd_event_add_time_relative(event, &c->timer, CLOCK_MONOTONIC, 0, USEC_PER_MSEC, on_pause_over, c);
    if (r >= 0)
        r = sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
    if (r < 0) {
        console_free(c);
        return err_errno(err, -r, "console: cannot watch fd %d", fd);
    }
    *ret = c;
    return 0;
}

struct console *console_free(struct console *c) {
    if (!c)
        return NULL;
    sd_event_source_disable_unref(c->io);
    sd_event_source_disable_unref(c->timer);
    fd_close(c->fd);
    for (size_t i = 0; i < CONSOLE_TAIL_LINES; i++)
        free(c->ring[i]);
    free(c->tail);
    free(c);
    return NULL;
}

void console_drain(struct console *c) {
    (void)take(c, CONSOLE_DRAIN_MAX);
    end_line(c);
    report_dropped(c);
}

const char *console_tail(struct console *c) {
    size_t size = 1;
    for (size_t i = 0; i < c->n_lines; i++)
        size += strlen(c->ring[i]) + 1;
    free(c->tail);
    c->tail = malloc(size);
    if (!c->tail)
        return "";
    char *p = c->tail;
    size_t oldest = c->n_lines < CONSOLE_TAIL_LINES ? 0 : c->next;
    for (size_t i = 0; i < c->n_lines; i++)
        p = stpcpy(stpcpy(p, i ? "\n" : ""), c->ring[(oldest + i) % CONSOLE_TAIL_LINES]);
    *p = '\0';
    return c->tail;
}

const char *console_last_line(const struct console *c) {
    return c->n_lines ? c->ring[(c->next + CONSOLE_TAIL_LINES - 1) % CONSOLE_TAIL_LINES] : "";
}

uint64_t console_first_usec(const struct console *c) {
    return c->first_usec;
}
