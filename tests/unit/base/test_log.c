/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>
#include <unistd.h>

#include "base/log.h"
#include "tmpdir.h"

/* Logs into a file and reads it back. */
struct fixture {
    struct tmpdir *t;
    char *path;
    char *text;
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    if (tmpdir_setup((void **)&f->t) < 0)
        return -1;
    f->path = tmpdir_path(f->t, "log");
    log_set_level(LOG_LEVEL_INFO);
    log_set_format(LOG_FORMAT_TEXT);
    log_set_id(NULL);
    *state = f;
    return log_open(f->path, NULL);
}

static int teardown(void **state) {
    struct fixture *f = *state;
    log_set_fd(2);
    log_set_tee(-1, LOG_LEVEL_ERROR);
    free(f->path);
    free(f->text);
    int r = tmpdir_teardown((void **)&f->t);
    free(f);
    return r;
}

static const char *logged(struct fixture *f) {
    free(f->text);
    f->text = NULL;
    assert_int_equal(file_read_at(AT_FDCWD, f->path, 1 << 20, &f->text, NULL, NULL), 0);
    return f->text;
}

/* After the time, which is in quotes. */
static const char *after_time(const char *line) {
    assert_memory_equal(line, "time=\"2", 7);
    assert_int_equal(line[6 + 30], '"');
    return line + 6 + 32;
}

static void text_lines(void **state) {
    struct fixture *f = *state;
    log_info("hello %d", 1);
    assert_string_equal(after_time(logged(f)), "level=info msg=\"hello 1\"\n");
}

static void text_lines_with_id(void **state) {
    struct fixture *f = *state;
    log_set_id("c\"1");
    log_error("x");
    assert_string_equal(after_time(logged(f)), "level=error msg=\"x\" id=\"c\\\"1\"\n");
}

static void plain_lines(void **state) {
    struct fixture *f = *state;
    log_set_format(LOG_FORMAT_PLAIN);
    log_error("no such container");
    log_warn("careful");
    assert_string_equal(logged(f), "stasis: no such container\nstasis: warning: careful\n");
}

static void plain_lines_do_not_drive_the_terminal(void **state) {
    struct fixture *f = *state;
    log_set_format(LOG_FORMAT_PLAIN);
    log_warn("\x1b]0;owned\a\r\xc2\x9b"
             "2J\x7f of \xc3\xa4");
    log_error("the end:\n\tone\ntwo");
    assert_string_equal(logged(f), "stasis: warning: ?]0;owned????2J? of \xc3\xa4\nstasis: the end:\n\tone\ntwo\n");
}

static void console_lines(void **state) {
    struct fixture *f = *state;
    log_set_format(LOG_FORMAT_CONSOLE);
    log_error("no exec \"a\nb\x1b\"");
    log_info("ready");
    assert_string_equal(logged(f), "stasis-agent: error: no exec \"a?b?\"\nstasis-agent: info: ready\n");
}

static void json_lines_are_json(void **state) {
    struct fixture *f = *state;
    log_set_format(LOG_FORMAT_JSON);
    log_set_id("box");
    const char *nasty = "q\" b\\ nl\n tab\t bell\a del\x7f euro\xe2\x82\xac";
    log_warn("%s", nasty);
    json_t *v = json_loads(logged(f), 0, NULL);
    assert_non_null(v);
    assert_string_equal(json_string_value(json_object_get(v, "level")), "warning");
    assert_string_equal(json_string_value(json_object_get(v, "msg")), nasty);
    assert_string_equal(json_string_value(json_object_get(v, "id")), "box");
    assert_int_equal(json_string_length(json_object_get(v, "time")), 30);
    json_decref(v);
}

static void broken_utf8_stays_loggable(void **state) {
    struct fixture *f = *state;
    log_set_format(LOG_FORMAT_JSON);
    log_info("a\xff\xc0z");
    json_t *v = json_loads(logged(f), 0, NULL);
    assert_non_null(v);
    assert_string_equal(json_string_value(json_object_get(v, "msg")), "a??z");
    json_decref(v);
}

static void levels_filter(void **state) {
    struct fixture *f = *state;
    log_debug("hidden");
    assert_string_equal(logged(f), "");
    log_set_level(LOG_LEVEL_ERROR);
    log_warn("hidden");
    assert_string_equal(logged(f), "");
    log_set_level(LOG_LEVEL_DEBUG);
    assert_int_equal(log_get_level(), LOG_LEVEL_DEBUG);
    log_debug("seen");
    assert_non_null(strstr(logged(f), "level=debug msg=\"seen\""));
}

static void a_message_is_one_line_of_bounded_length(void **state) {
    struct fixture *f = *state;
    static char big[100000];
    memset(big, '\a', sizeof(big) - 1);
    log_set_format(LOG_FORMAT_JSON);
    log_set_id(big);
    log_info("%s", big);
    const char *text = logged(f);
    assert_true(strlen(text) < 10000);
    assert_int_equal(strcspn(text, "\n"), strlen(text) - 1);
    json_t *v = json_loads(text, 0, NULL);
    assert_non_null(v);
    json_decref(v);
}

static void logging_keeps_errno_and_survives_a_closed_fd(void **state) {
    (void)state;
    log_set_fd(9999);
    errno = ENOTTY;
    log_error("x");
    assert_int_equal(errno, ENOTTY);
}

/* What the other end of the tee got. */
static const char *teed(int fd, char buf[4096]) {
    ssize_t n = read(fd, buf, 4095);
    buf[MAX(n, (ssize_t)0)] = '\0';
    return buf;
}

static void a_quota_counts_what_is_in_the_log(void **state) {
    struct fixture *f = *state;
    uint64_t used = 0, max = 10000;
    size_t n = 0, len = 0;
    log_set_id("box");
    for (int i = 0; i < 20000; i++)
        log_within(max, &used, LOG_LEVEL_INFO, "guest", "x");
    for (const char *p = logged(f); (p = strchr(p, '\n')); p++)
        n++;
    len = strlen(f->text);
    assert_true(len > max && len < max + 400);
    assert_true(n > max / 100 && n < max / 50);
    assert_non_null(strstr(f->text, "level=info msg=\"guest: x\" id=\"box\"\n"));
    const char *last = strstr(f->text, "level=warning");
    assert_non_null(last);
    assert_string_equal(last,
                        "level=warning msg=\"guest: that makes 10000 bytes ([log] guest_log_max): no more of it is "
                        "logged\" id=\"box\"\n");
    /* What is below the level costs nothing. */
    used = 0;
    log_set_level(LOG_LEVEL_ERROR);
    log_within(1, &used, LOG_LEVEL_INFO, "guest", "x");
    assert_true(used == 0);
    assert_int_equal(strlen(logged(f)), len);
}

static void tee_gets_what_is_worth_it(void **state) {
    struct fixture *f = *state;
    int fds[2];
    char buf[4096];
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    log_set_id("box");
    log_set_tee(fds[1], LOG_LEVEL_WARN);
    log_info("only in the file");
    log_warn("in both");
    assert_string_equal(after_time(teed(fds[0], buf)), "level=warning msg=\"in both\" id=\"box\"\n");
    assert_non_null(strstr(logged(f), "only in the file"));
    assert_non_null(strstr(f->text, "in both"));
    /* Never more than the log itself has. */
    log_set_tee(fds[1], LOG_LEVEL_DEBUG);
    log_debug("in neither");
    assert_string_equal(teed(fds[0], buf), "");
    log_info("in both");
    assert_non_null(strstr(teed(fds[0], buf), "level=info"));
    log_set_tee(-1, LOG_LEVEL_DEBUG);
    log_error("only in the file again");
    assert_string_equal(teed(fds[0], buf), "");
    assert_non_null(strstr(logged(f), "only in the file again"));
    close(fds[0]);
    close(fds[1]);
}

/* Nobody reads it: what does not fit is dropped, and only there. */
static void what_the_log_does_not_take(void **state) {
    (void)state;
    int fds[2];
    char buf[4096];
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC), before = log_get_fd();
    assert_true(full >= 0);
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    log_set_spare(fds[1]);
    log_error("in the log");
    assert_string_equal(teed(fds[0], buf), "");
    log_set_fd(full);
    log_error("not in the log");
    log_set_fd(before);
    assert_non_null(strstr(teed(fds[0], buf), "not in the log"));
    log_set_spare(-1);
    assert_int_equal(read(fds[0], buf, sizeof(buf)), 0);
    close(fds[0]);
    close(full);
}

static void tee_that_is_full(void **state) {
    struct fixture *f = *state;
    int fds[2];
    size_t n = 0;
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    while (write(fds[1], "0123456789abcdef", 16) == 16)
        n++;
    assert_true(n > 0);
    log_set_tee(fds[1], LOG_LEVEL_WARN);
    errno = ENOTTY;
    log_error("x");
    assert_int_equal(errno, ENOTTY);
    assert_string_equal(after_time(logged(f)), "level=error msg=\"x\"\n");
    close(fds[0]);
    close(fds[1]);
}

static void open_makes_a_private_file(void **state) {
    struct fixture *f = *state;
    struct err e = ERR_INIT;
    struct stat st;
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(log_open("/nonexistent/log", &e), -ENOENT);
    assert_string_equal(e.msg, "cannot open log file /nonexistent/log: No such file or directory");
    log_info("one");
    assert_int_equal(log_open(f->path, &e), 0);
    log_info("two");
    const char *text = logged(f);
    assert_non_null(strstr(text, "one"));
    assert_non_null(strstr(text, "two"));
}

static void names_parse(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int r;
        enum log_level level;
    } levels[] = {{"error", 0, LOG_LEVEL_ERROR}, {"warn", 0, LOG_LEVEL_WARN},   {"warning", 0, LOG_LEVEL_WARN},
                  {"info", 0, LOG_LEVEL_INFO},   {"debug", 0, LOG_LEVEL_DEBUG}, {"", -EINVAL, 0},
                  {"INFO", -EINVAL, 0},          {"infos", -EINVAL, 0}};
    for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
        enum log_level l = LOG_LEVEL_ERROR;
        assert_int_equal(log_level_parse(levels[i].name, &l), levels[i].r);
        if (levels[i].r == 0)
            assert_int_equal(l, levels[i].level);
    }
    enum log_format fmt = LOG_FORMAT_PLAIN;
    assert_int_equal(log_format_parse("text", &fmt), 0);
    assert_int_equal(fmt, LOG_FORMAT_TEXT);
    assert_int_equal(log_format_parse("json", &fmt), 0);
    assert_int_equal(fmt, LOG_FORMAT_JSON);
    assert_int_equal(log_format_parse("xml", &fmt), -EINVAL);
    assert_string_equal(log_level_name(LOG_LEVEL_WARN), "warning");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(text_lines),
        T(text_lines_with_id),
        T(plain_lines),
        T(plain_lines_do_not_drive_the_terminal),
        T(console_lines),
        T(json_lines_are_json),
        T(broken_utf8_stays_loggable),
        T(levels_filter),
        T(a_message_is_one_line_of_bounded_length),
        T(logging_keeps_errno_and_survives_a_closed_fd),
        T(a_quota_counts_what_is_in_the_log),
        T(tee_gets_what_is_worth_it),
        T(what_the_log_does_not_take),
        T(tee_that_is_full),
        T(open_makes_a_private_file),
        cmocka_unit_test(names_parse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
