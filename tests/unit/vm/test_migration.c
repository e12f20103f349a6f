/* SPDX-License-Identifier: Apache-2.0 */
/* Saving and loading the device state against a mock QEMU: the test itself at the other end of a socket pair. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "vm/migration.h"

#define DEADLINE_USEC (20 * USEC_PER_SEC)
#define GREETING "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 10}}, \"capabilities\": []}}\r\n"

struct fixture {
    sd_event *event;
    struct qmp *qmp;
    struct migration *m;
    int peer;
    int state[2]; /* a pipe in place of the file */
    int received; /* the fd that came with add-fd; -1 */
    unsigned done, closed;
    struct err err; /* done's */
    bool free_in_done;
};

static void on_event(void *userdata, const char *name, const json_t *data) {
    struct fixture *f = userdata;
    migration_event(f->m, name, data);
}

static void on_closed(void *userdata, const struct err *err) {
    struct fixture *f = userdata;
    (void)err;
    f->closed++;
}

static const struct qmp_ops ops = {.event = on_event, .closed = on_closed};

static void on_done(void *userdata, const struct err *err) {
    struct fixture *f = userdata;
    f->done++;
    f->err.code = 0;
    if (err)
        err_copy(&f->err, err);
    if (f->free_in_done)
        f->m = migration_free(f->m);
}

static void run_what_is_there(struct fixture *f) {
    while (sd_event_run(f->event, 0) > 0)
        ;
}

static void say(struct fixture *f, const char *text) {
    assert_int_equal(fd_write_all(f->peer, text, strlen(text)), 0);
    run_what_is_there(f);
}

/* The next command, which must be this one. Its answer is the caller's. */
static json_t *hear(struct fixture *f, const char *want) {
    char buf[4096];
    size_t len = 0;
    uint64_t end = now_usec() + DEADLINE_USEC;
    while ((len == 0 || buf[len - 1] != '\n') && now_usec() < end) {
        int fds[FD_PASS_MAX];
        size_t n = 0;
        run_what_is_there(f);
        if (fd_wait(f->peer, POLLIN, 10 * USEC_PER_MSEC) <= 0)
            continue;
        ssize_t r = fd_receive(f->peer, buf + len, 1, fds, &n);
        assert_int_equal(r, 1);
        len++;
        assert_true(n <= 1 && len < sizeof(buf));
        if (n == 1)
            f->received = fds[0];
    }
    json_t *msg = json_loadb(buf, len, 0, NULL);
    assert_non_null(msg);
    assert_string_equal(json_string_value(json_object_get(msg, "execute")), want);
    return msg;
}

static void answer(struct fixture *f, json_t *msg, const char *rest) {
    char text[512];
    snprintf(text, sizeof(text), "{%s, \"id\": %lld}\n", rest,
             (long long)json_integer_value(json_object_get(msg, "id")));
    json_decref(msg);
    say(f, text);
}

static void accept_command(struct fixture *f, const char *name) {
    answer(f, hear(f, name), "\"return\": {}");
}

static void settle(struct fixture *f, const char *status) {
    char text[64];
    snprintf(text, sizeof(text), "\"return\": {\"status\": \"%s\"}", status);
    answer(f, hear(f, "query-status"), text);
}

static void refuse(struct fixture *f, const char *name) {
    answer(f, hear(f, name), "\"error\": {\"class\": \"GenericError\", \"desc\": \"no such luck\"}");
}

static void tell(struct fixture *f, const char *status) {
    char text[256];
    snprintf(text, sizeof(text),
             "{\"event\": \"MIGRATION\", \"data\": {\"status\": \"%s\"}, \"timestamp\": {\"seconds\": 1}}\n", status);
    say(f, text);
}

/* Nothing more is asked of QEMU. */
static void expect_silence(struct fixture *f) {
    run_what_is_there(f);
    assert_int_equal(fd_wait(f->peer, POLLIN, 0), 0);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    int s[2];
    f->received = -1;
    assert_int_equal(sd_event_new(&f->event), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
    assert_int_equal(pipe2(f->state, O_CLOEXEC), 0);
    f->peer = s[1];
    assert_int_equal(qmp_new(f->event, s[0], "box", &ops, f, &f->qmp, NULL), 0);
    say(f, GREETING);
    accept_command(f, "qmp_capabilities");
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    f->m = migration_free(f->m);
    f->qmp = qmp_free(f->qmp);
    fd_close(f->peer);
    fd_close(f->received);
    fd_close(f->state[0]);
    fd_close(f->state[1]);
    sd_event_unref(f->event);
    free(f);
    return 0;
}

static void start(struct fixture *f, enum migration_direction direction) {
    struct err err = ERR_INIT;
    assert_int_equal(migration_start(f->event, f->qmp, direction, f->state[1], on_done, f, &f->m, &err), 0);
    /* The caller's end is not needed any more. */
    f->state[1] = fd_close(f->state[1]);
}

/* Up to the command that begins the transfer, which is not answered. */
static json_t *begin(struct fixture *f, enum migration_direction direction) {
    start(f, direction);
    if (direction == MIGRATION_SAVE)
        accept_command(f, "stop");
    accept_command(f, "migrate-set-capabilities");
    accept_command(f, "add-fd");
    return hear(f, direction == MIGRATION_SAVE ? "migrate" : "migrate-incoming");
}

static void assert_failed(const struct fixture *f, const char *word) {
    assert_int_equal(f->done, 1);
    assert_true(f->err.code != 0);
    if (!strstr(f->err.msg, word) || !strstr(f->err.msg, "the state of the devices"))
        fail_msg("\"%s\" does not say \"%s\"", f->err.msg, word);
}

static bool has_capability(const json_t *msg, const char *name) {
    const json_t *list = json_object_get(json_object_get(msg, "arguments"), "capabilities"), *c;
    size_t i;
    json_array_foreach(list, i, c) {
        if (strcmp(json_string_value(json_object_get(c, "capability")), name) == 0)
            return json_is_true(json_object_get(c, "state"));
    }
    return false;
}

static void save_in_steps(void **state) {
    struct fixture *f = *state;
    start(f, MIGRATION_SAVE);
    accept_command(f, "stop");
    json_t *msg = hear(f, "migrate-set-capabilities");
    assert_true(has_capability(msg, "x-ignore-shared"));
    assert_true(has_capability(msg, "events"));
    answer(f, msg, "\"return\": {}");
    msg = hear(f, "add-fd");
    assert_true(f->received >= 0);
    json_int_t set = json_integer_value(json_object_get(json_object_get(msg, "arguments"), "fdset-id"));
    answer(f, msg, "\"return\": {\"fdset-id\": 9, \"fd\": 33}");
    msg = hear(f, "migrate");
    char uri[64];
    snprintf(uri, sizeof(uri), "file:/dev/fdset/%lld", (long long)set);
    assert_string_equal(json_string_value(json_object_get(json_object_get(msg, "arguments"), "uri")), uri);
    answer(f, msg, "\"return\": {}");
    tell(f, "setup");
    tell(f, "active");
    expect_silence(f);
    /* What QEMU writes to its descriptor comes to the file. */
    char c;
    assert_int_equal(write(f->received, "x", 1), 1);
    assert_int_equal(read(f->state[0], &c, 1), 1);
    tell(f, "completed");
    assert_int_equal(f->done, 0);
    accept_command(f, "remove-fd");
    /* Not before QEMU takes a cont again. */
    settle(f, "finish-migrate");
    assert_int_equal(f->done, 0);
    settle(f, "finish-migrate");
    assert_int_equal(f->done, 0);
    settle(f, "postmigrate");
    assert_int_equal(f->done, 1);
    assert_int_equal(f->err.code, 0);
    expect_silence(f);
    /* Neither side keeps it. */
    f->received = fd_close(f->received);
    assert_int_equal(read(f->state[0], &c, 1), 0);
}

static void load_does_not_stop(void **state) {
    struct fixture *f = *state;
    answer(f, begin(f, MIGRATION_LOAD), "\"return\": {}");
    tell(f, "completed");
    accept_command(f, "remove-fd");
    assert_int_equal(f->done, 1);
    assert_int_equal(f->err.code, 0);
    expect_silence(f);
}

static void the_end_may_come_before_the_answer(void **state) {
    struct fixture *f = *state;
    json_t *msg = begin(f, MIGRATION_SAVE);
    tell(f, "completed");
    expect_silence(f);
    assert_int_equal(f->done, 0);
    answer(f, msg, "\"return\": {}");
    refuse(f, "remove-fd"); /* which hurts nobody */
    settle(f, "postmigrate");
    assert_int_equal(f->done, 1);
    assert_int_equal(f->err.code, 0);
}

static void each_command_may_be_refused(void **state) {
    struct fixture *f = *state;
    static const char *const before[] = {"stop", "migrate-set-capabilities", "add-fd"};
    for (size_t n = 0; n < 3; n++) {
        f->done = 0;
        f->state[1] = fcntl(f->state[0], F_DUPFD_CLOEXEC, 3);
        start(f, MIGRATION_SAVE);
        for (size_t i = 0; i < n; i++)
            accept_command(f, before[i]);
        refuse(f, before[n]);
        assert_failed(f, "no such luck");
        assert_non_null(strstr(f->err.msg, before[n]));
        expect_silence(f);
        f->m = migration_free(f->m);
        f->received = fd_close(f->received);
    }
}

static void a_refused_transfer_gives_the_descriptor_back(void **state) {
    struct fixture *f = *state;
    answer(f, begin(f, MIGRATION_LOAD), "\"error\": {\"class\": \"GenericError\", \"desc\": \"no such luck\"}");
    assert_int_equal(f->done, 0);
    refuse(f, "remove-fd"); /* which hurts nobody */
    assert_failed(f, "migrate-incoming: no such luck");
    expect_silence(f);
}

static void a_failed_transfer_says_why(void **state) {
    struct fixture *f = *state;
    answer(f, begin(f, MIGRATION_SAVE), "\"return\": {}");
    tell(f, "failed");
    answer(f, hear(f, "query-migrate"), "\"return\": {\"status\": \"failed\", \"error-desc\": \"the disk is full\"}");
    accept_command(f, "remove-fd");
    settle(f, "running");
    assert_failed(f, "the disk is full");
    expect_silence(f);
}

static void a_failed_transfer_that_says_nothing(void **state) {
    struct fixture *f = *state;
    answer(f, begin(f, MIGRATION_SAVE), "\"return\": {}");
    tell(f, "cancelled");
    refuse(f, "query-migrate");
    accept_command(f, "remove-fd");
    refuse(f, "query-status"); /* then a cont says what is wrong */
    assert_failed(f, "no such luck");
}

/* QEMU says so in both ways. */
static void failed_twice_is_told_once(void **state) {
    struct fixture *f = *state;
    json_t *msg = begin(f, MIGRATION_LOAD);
    tell(f, "failed");
    json_t *query = hear(f, "query-migrate");
    answer(f, msg, "\"error\": {\"class\": \"GenericError\", \"desc\": \"the answer\"}");
    json_t *remove = hear(f, "remove-fd");
    answer(f, query, "\"return\": {\"error-desc\": \"the status\"}");
    answer(f, remove, "\"return\": {}");
    assert_failed(f, "the answer");
    expect_silence(f);
}

static void other_events_mean_nothing(void **state) {
    struct fixture *f = *state;
    migration_event(NULL, "MIGRATION", NULL);
    start(f, MIGRATION_SAVE);
    tell(f, "completed"); /* of what? nothing was begun */
    accept_command(f, "stop");
    accept_command(f, "migrate-set-capabilities");
    accept_command(f, "add-fd");
    accept_command(f, "migrate");
    say(f, "{\"event\": \"STOP\", \"data\": {\"status\": \"completed\"}}\n");
    say(f, "{\"event\": \"MIGRATION\"}\n");
    expect_silence(f);
    assert_int_equal(f->done, 0);
}

static void the_connection_is_lost(void **state) {
    struct fixture *f = *state;
    json_t *msg = begin(f, MIGRATION_SAVE);
    json_decref(msg);
    f->peer = fd_close(f->peer);
    uint64_t end = now_usec() + DEADLINE_USEC;
    while (!f->closed && now_usec() < end)
        assert_true(sd_event_run(f->event, 100 * USEC_PER_MSEC) >= 0);
    run_what_is_there(f);
    assert_failed(f, "");
}

/* At each step; the answer comes when nobody waits for it. */
static void freeing_cancels(void **state) {
    struct fixture *f = *state;
    static const char *const commands[] = {"stop",        "migrate-set-capabilities", "add-fd", "migrate", "remove-fd",
                                           "query-status"};
    for (size_t n = 0; n < 6; n++) {
        f->state[1] = fcntl(f->state[0], F_DUPFD_CLOEXEC, 3);
        start(f, MIGRATION_SAVE);
        for (size_t i = 0; i < n; i++) {
            if (i == 4)
                tell(f, "completed");
            accept_command(f, commands[i]);
        }
        if (n == 4)
            tell(f, "completed");
        json_t *msg = hear(f, commands[n]);
        f->m = migration_free(f->m);
        answer(f, msg, "\"return\": {}");
        expect_silence(f);
        f->received = fd_close(f->received);
    }
    assert_int_equal(f->done, 0);
    /* And from within done. */
    f->free_in_done = true;
    f->state[1] = fcntl(f->state[0], F_DUPFD_CLOEXEC, 3);
    answer(f, begin(f, MIGRATION_SAVE), "\"return\": {}");
    tell(f, "completed");
    accept_command(f, "remove-fd");
    settle(f, "postmigrate");
    assert_int_equal(f->done, 1);
    assert_null(f->m);
}

static void a_descriptor_that_is_none(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    assert_int_equal(migration_start(f->event, f->qmp, MIGRATION_SAVE, 12345, on_done, f, &f->m, &err), -EBADF);
    assert_null(f->m);
    assert_int_equal(f->done, 0);
    expect_silence(f);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(save_in_steps),
        TEST(load_does_not_stop),
        TEST(the_end_may_come_before_the_answer),
        TEST(each_command_may_be_refused),
        TEST(a_refused_transfer_gives_the_descriptor_back),
        TEST(a_failed_transfer_says_why),
        TEST(a_failed_transfer_that_says_nothing),
        TEST(failed_twice_is_told_once),
        TEST(other_events_mean_nothing),
        TEST(the_connection_is_lost),
        TEST(freeing_cancels),
        TEST(a_descriptor_that_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
