/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "vm/console.h"

#define DEADLINE_USEC (20 * USEC_PER_SEC)

struct fixture {
    sd_event *event;
    struct console *console;
    int wr;
    char last[CONSOLE_LINE_MAX + 1];
    char all[8192];
    unsigned lines, dropped;
    size_t longest;
};

static void on_line(void *userdata, const char *line) {
    struct fixture *f = userdata;
    for (const char *p = line; *p; p++)
        assert_true(*p >= ' ' && *p < 0x7f);
    f->lines++;
    f->longest = MAX(f->longest, strlen(line));
    if (strstr(line, "lines dropped"))
        f->dropped += (unsigned)strtoul(line + 1, NULL, 10);
    snprintf(f->last, sizeof(f->last), "%s", line);
    size_t len = strlen(f->all);
    snprintf(f->all + len, sizeof(f->all) - len, "%s|", line);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    int p[2];
    assert_int_equal(sd_event_new(&f->event), 0);
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    assert_int_equal(console_new(f->event, p[0], on_line, f, &f->console, NULL), 0);
    f->wr = p[1];
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    console_free(f->console);
    fd_close(f->wr);
    sd_event_unref(f->event);
    free(f);
    return 0;
}

static void feed(struct fixture *f, const char *text) {
    console_feed(f->console, text, strlen(text));
}

static void run_until_lines(struct fixture *f, unsigned n) {
    uint64_t end = now_usec() + DEADLINE_USEC;
    while (f->lines < n && now_usec() < end)
        assert_true(sd_event_run(f->event, 100 * USEC_PER_MSEC) >= 0);
    assert_true(f->lines >= n);
}

static void lines_from_the_stream(void **state) {
    struct fixture *f = *state;
    assert_int_equal(console_first_usec(f->console), 0);
    assert_int_equal(fd_write_all(f->wr, "one\r\ntwo\nthr", 12), 0);
    run_until_lines(f, 2);
    assert_string_equal(f->all, "one|two|");
    assert_int_equal(fd_write_all(f->wr, "ee\n", 3), 0);
    run_until_lines(f, 3);
    assert_string_equal(f->last, "three");
    assert_string_equal(console_tail(f->console), "one\ntwo\nthree");
    assert_string_equal(console_last_line(f->console), "three");
    assert_true(console_first_usec(f->console) > 0);
}

static void drain_ends_the_last_line(void **state) {
    struct fixture *f = *state;
    assert_string_equal(console_tail(f->console), "");
    assert_string_equal(console_last_line(f->console), "");
    assert_int_equal(fd_write_all(f->wr, "a\nlast words", 12), 0);
    console_drain(f->console);
    assert_string_equal(f->all, "a|last words|");
    console_drain(f->console);
    assert_string_equal(f->all, "a|last words|");
}

static void end_of_stream_delivers_the_rest(void **state) {
    struct fixture *f = *state;
    assert_int_equal(fd_write_all(f->wr, "cut off", 7), 0);
    f->wr = fd_close(f->wr);
    run_until_lines(f, 1);
    assert_string_equal(f->all, "cut off|");
}

static void everything_becomes_printable(void **state) {
    struct fixture *f = *state;
    char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    console_feed(f->console, all, sizeof(all)); /* on_line() checks each byte */
    feed(f, "\x1b[0m\n");
    f->all[0] = '\0';
    feed(f, "a\tb\x01"
            "c\x7f\xc3\xa4\n");
    assert_string_equal(f->all, "a b?c???|");
}

static void escape_sequences_are_removed(void **state) {
    struct fixture *f = *state;
    feed(f, "\x1b[1;31mred\x1b[0m \x1b]0;title\x07text\x1b(\x1b\\\n");
    feed(f, "\x1b[2J\x1b[H");
    feed(f, "x\n\x1b[999\ny\n\x1b]unended\nz\n");
    assert_string_equal(f->all, "red text|x|y|z|");
}

static void empty_lines_are_left_out(void **state) {
    struct fixture *f = *state;
    feed(f, "\n\r\n   \n\x1b[0m\nx  \n");
    assert_string_equal(f->all, "x|");
}

static void long_lines_are_cut(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 3 * CONSOLE_LINE_MAX; i++)
        feed(f, "x");
    feed(f, "yz\n");
    assert_int_equal(f->lines, 4);
    assert_int_equal(f->longest, CONSOLE_LINE_MAX);
    assert_string_equal(f->last, "yz");
}

static void tail_keeps_the_last(void **state) {
    struct fixture *f = *state;
    char text[32], want[CONSOLE_TAIL_LINES * 8] = "";
    for (int i = 0; i < 3 * CONSOLE_TAIL_LINES + 7; i++) {
        snprintf(text, sizeof(text), "l%d\n", i);
        feed(f, text);
        if (i >= 2 * CONSOLE_TAIL_LINES + 7)
            snprintf(want + strlen(want), sizeof(want) - strlen(want), "%s", text);
    }
    want[strlen(want) - 1] = '\0';
    assert_string_equal(console_tail(f->console), want);
}

static void a_flood_is_counted(void **state) {
    struct fixture *f = *state;
    unsigned sent = 10 * CONSOLE_LINES_BURST;
    for (unsigned i = 0; i < sent; i++)
        feed(f, "flood\n");
    /* the time this takes gives some lines more than the burst */
    assert_true(f->lines >= CONSOLE_LINES_BURST);
    assert_true(f->lines < sent / 2);
    feed(f, "the end\n");
    console_drain(f->console);
    assert_true(f->dropped > 0);
    assert_string_equal(console_last_line(f->console), "the end");
}

/* A writer that never stops gets its turn, and so do the others on the loop. */
static int tick(sd_event_source *s, uint64_t usec, void *userdata) {
    (void)usec;
    ++*(unsigned *)userdata;
    sd_event_source_set_time_relative(s, USEC_PER_MSEC);
    return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static void a_flood_does_not_hold_the_loop(void **state) {
    struct fixture *f = *state;
    unsigned ticks = 0;
    char chunk[4096];
    memset(chunk, 'x', sizeof(chunk));
    sd_event_source *timer = NULL;
    assert_true(sd_event_add_time_relative(f->event, &timer, CLOCK_MONOTONIC, 0, 0, tick, &ticks) >= 0);
    fd_set_nonblock(f->wr, true);
    uint64_t end = now_usec() + DEADLINE_USEC;
    unsigned runs = 0;
    while (ticks < 50 && now_usec() < end) {
        while (write(f->wr, chunk, sizeof(chunk)) > 0)
            ;
        assert_true(sd_event_run(f->event, 100 * USEC_PER_MSEC) >= 0);
        runs++;
    }
    assert_true(ticks >= 50);
    /* most turns of the loop were the timer's: the pause between gulps works */
    assert_true(runs < 3 * ticks);
    sd_event_source_disable_unref(timer);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(lines_from_the_stream),
        TEST(drain_ends_the_last_line),
        TEST(end_of_stream_delivers_the_rest),
        TEST(everything_becomes_printable),
        TEST(escape_sequences_are_removed),
        TEST(empty_lines_are_left_out),
        TEST(long_lines_are_cut),
        TEST(tail_keeps_the_last),
        TEST(a_flood_is_counted),
        TEST(a_flood_does_not_hold_the_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
