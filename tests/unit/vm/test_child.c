/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/log.h"
#include "jail_harness.h"
#include "vm/child.h"

#define LOG_MAX ((size_t)16 << 10)

struct fixture {
    sd_event *event;
    struct child *child;
    int fd;
    unsigned ended;
};

static void on_ended(void *userdata) {
    struct fixture *f = userdata;
    f->ended++;
}

static void start(const struct harness *h, struct fixture *f) {
    char name[] = "jailed", *argv[] = {name, NULL};
    struct jail_spec jail = {.root = h->root, .uid = 0x50000001u, .nofile = 64};
    struct err err = ERR_INIT;
    int s[2];
    *f = (struct fixture){0};
    assert_int_equal(sd_event_new(&f->event), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
    struct proc_spec proc = {.path = "/usr/bin/jailed", .argv = argv, .fds = {{.from = s[1], .to = 3}}, .n_fds = 1};
    struct child_spec spec = {.name = "helper", .log_max = LOG_MAX, .jail = &jail, .proc = &proc};
    if (child_start(f->event, &spec, on_ended, f, &f->child, &err) < 0)
        fail_msg("%s", err.msg);
    close(s[1]);
    f->fd = s[0];
}

static void stop(struct fixture *f) {
    f->child = child_free(f->child);
    close(f->fd);
    sd_event_unref(f->event);
}

static void run_until_ended(struct fixture *f) {
    uint64_t end = now_usec() + DEADLINE_USEC;
    while (!f->ended && now_usec() < end)
        assert_true(sd_event_run(f->event, 100 * USEC_PER_MSEC) >= 0);
    assert_int_equal(f->ended, 1);
}

static void an_exit_comes_with_the_last_words(void **state) {
    struct harness *h = *state;
    struct fixture f;
    struct err err = ERR_INIT;
    if (!h) {
        skip();
        return;
    }
    start(h, &f);
    assert_false(child_has_ended(f.child));
    static const char words[] = "complain first\ncomplain \x1b[31mdisk on fire\nexit 7\n";
    assert_int_equal(fd_write_all(f.fd, words, strlen(words)), 0);
    run_until_ended(&f);
    assert_true(child_has_ended(f.child));
    assert_true(child_failed(f.child));
    assert_false(child_was_killed(f.child));
    child_describe_end(f.child, &err);
    assert_string_equal(err.msg, "helper exited with 7: disk on fire");
    child_kill(f.child); /* too late, and must hit no one else */
    assert_int_equal(f.ended, 1);
    stop(&f);
}

/* The kernel tells of the end before the loop has seen the last words. */
static void the_last_words_may_come_late(void **state) {
    struct harness *h = *state;
    struct fixture f;
    struct err err = ERR_INIT;
    if (!h) {
        skip();
        return;
    }
    start(h, &f);
    static const char words[] = "complain too late\nexit 7\n";
    assert_int_equal(fd_write_all(f.fd, words, strlen(words)), 0);
    for (uint64_t end = now_usec() + DEADLINE_USEC; !child_has_ended(f.child) && now_usec() < end;)
        poll(NULL, 0, 1);
    child_describe_end(f.child, &err);
    assert_string_equal(err.msg, "helper exited with 7: too late");
    stop(&f);
}

static size_t count(const char *text, const char *what) {
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, what)); p++)
        n++;
    return n;
}

/* One that was taken over may not fill the host's disk with its errors, and still has its last words. */
static void a_flood_ends_in_the_log_only(void **state) {
    struct harness *h = *state;
    struct fixture f;
    struct err err = ERR_INIT;
    char line[1024], text[4 * LOG_MAX];
    if (!h) {
        skip();
        return;
    }
    cleanup_fd int log = memfd_create("log", MFD_CLOEXEC);
    assert_true(log >= 0);
    log_set_fd(log);
    log_set_level(LOG_LEVEL_WARN);
    start(h, &f);
    snprintf(line, sizeof(line), "complain %0*d\n", 1000, 0);
    for (size_t i = 0; i < 2 * LOG_MAX / 1000; i++)
        assert_int_equal(fd_write_all(f.fd, line, strlen(line)), 0);
    assert_int_equal(fd_write_all(f.fd, "complain disk on fire\nexit 7\n", 29), 0);
    run_until_ended(&f);
    child_describe_end(f.child, &err);
    log_set_fd(STDERR_FILENO);
    log_set_level(LOG_LEVEL_ERROR);
    assert_string_equal(err.msg, "helper exited with 7: disk on fire");
    ssize_t n = pread(log, text, sizeof(text) - 1, 0);
    assert_true(n > (ssize_t)LOG_MAX && n < (ssize_t)LOG_MAX + 1500);
    text[n] = '\0';
    assert_int_equal(count(text, "no more of it is logged"), 1);
    assert_int_equal(count(text, "on fire"), 0);
    stop(&f);
}

static void a_good_end(void **state) {
    struct harness *h = *state;
    struct fixture f;
    struct err err = ERR_INIT;
    if (!h) {
        skip();
        return;
    }
    start(h, &f);
    assert_int_equal(fd_write_all(f.fd, "exit 0\n", 7), 0);
    run_until_ended(&f);
    assert_false(child_failed(f.child));
    child_describe_end(f.child, &err);
    assert_string_equal(err.msg, "helper exited with 0");
    stop(&f);
}

static void a_signal_is_named(void **state) {
    struct harness *h = *state;
    struct fixture f;
    struct err err = ERR_INIT;
    if (!h) {
        skip();
        return;
    }
    start(h, &f);
    assert_int_equal(kill(child_pid(f.child), SIGKILL), 0);
    run_until_ended(&f);
    assert_true(child_was_killed(f.child));
    child_describe_end(f.child, &err);
    assert_string_equal(err.msg, "helper was killed by signal 9");
    stop(&f);
}

static void freeing_kills(void **state) {
    struct harness *h = *state;
    struct fixture f;
    uint64_t start_time;
    if (!h) {
        skip();
        return;
    }
    start(h, &f);
    pid_t pid = child_pid(f.child);
    assert_int_equal(proc_start_time(pid, &start_time), 0);
    f.child = child_free(f.child);
    assert_int_equal(kill(pid, 0), -1); /* reaped too */
    while (sd_event_run(f.event, 0) > 0)
        ;
    assert_int_equal(f.ended, 0);
    stop(&f);
    assert_null(child_free(NULL));
}

static void a_failed_start_leaves_nothing(void **state) {
    struct harness *h = *state;
    char name[] = "none", *argv[] = {name, NULL};
    struct proc_spec proc = {.path = "/usr/bin/none", .argv = argv};
    struct fixture f = {0};
    struct err err = ERR_INIT;
    if (!h) {
        skip();
        return;
    }
    struct jail_spec jail = {.root = h->root, .uid = 0x50000001u, .nofile = 64};
    struct child_spec spec = {.name = "helper", .log_max = LOG_MAX, .jail = &jail, .proc = &proc};
    assert_int_equal(sd_event_new(&f.event), 0);
    assert_int_equal(child_start(f.event, &spec, on_ended, &f, &f.child, &err), -ENOENT);
    assert_null(f.child);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    sd_event_unref(f.event);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_exit_comes_with_the_last_words),
        cmocka_unit_test(the_last_words_may_come_late),
        cmocka_unit_test(a_flood_ends_in_the_log_only),
        cmocka_unit_test(a_good_end),
        cmocka_unit_test(a_signal_is_named),
        cmocka_unit_test(freeing_kills),
        cmocka_unit_test(a_failed_start_leaves_nothing),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, harness_setup, harness_teardown);
}
