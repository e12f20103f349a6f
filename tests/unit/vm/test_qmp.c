/* SPDX-License-Identifier: Apache-2.0 */
/* The client against a mock QEMU: the test itself at the other end of a socket pair. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "vm/qmp.h"

#define DEADLINE_USEC (20 * USEC_PER_SEC)
#define LONG (10 * USEC_PER_SEC)
#define GREETING "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 10}}, \"capabilities\": [\"oob\"]}}\r\n"

struct answer {
    unsigned calls;
    int code; /* 0, or the err's */
    char msg[256];
    char ret[256]; /* JSON */
};

struct fixture {
    sd_event *event;
    struct qmp *qmp;
    int peer;
    unsigned ready, closed, events;
    struct err why;
    char last_event[64];
    char last_data[256];
    unsigned seen, most;     /* events between two turns of another source */
    struct answer *at_close; /* had it been answered when closed() came? */
    unsigned calls_at_close;
};

static void on_ready(void *userdata) {
    struct fixture *f = userdata;
    f->ready++;
}

static void on_event(void *userdata, const char *name, const json_t *data) {
    struct fixture *f = userdata;
    f->events++;
    snprintf(f->last_event, sizeof(f->last_event), "%s", name);
    cleanup_free char *text = data ? json_dumps(data, JSON_COMPACT) : NULL;
    snprintf(f->last_data, sizeof(f->last_data), "%s", text ? text : "none");
}

static void on_closed(void *userdata, const struct err *err) {
    struct fixture *f = userdata;
    f->closed++;
    err_copy(&f->why, err);
    f->calls_at_close = f->at_close ? f->at_close->calls : 0;
}

static const struct qmp_ops ops = {.ready = on_ready, .event = on_event, .closed = on_closed};

static void on_reply(void *userdata, const json_t *ret, const struct err *err) {
    struct answer *a = userdata;
    a->calls++;
    assert_true(!ret != !err);
    a->code = err ? err->code : 0;
    snprintf(a->msg, sizeof(a->msg), "%.250s", err ? err->msg : "");
    cleanup_free char *text = ret ? json_dumps(ret, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    snprintf(a->ret, sizeof(a->ret), "%s", text ? text : "");
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    int s[2];
    assert_int_equal(sd_event_new(&f->event), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
    f->peer = s[1];
    assert_int_equal(qmp_new(f->event, s[0], "box", &ops, f, &f->qmp, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    f->qmp = qmp_free(f->qmp);
    fd_close(f->peer);
    sd_event_unref(f->event);
    free(f);
    return 0;
}

/* Runs the loop until *counter is at least n. */
static void run_until(struct fixture *f, const unsigned *counter, unsigned n) {
    uint64_t end = now_usec() + DEADLINE_USEC;
    while (*counter < n && now_usec() < end)
        assert_true(sd_event_run(f->event, 100 * USEC_PER_MSEC) >= 0);
    assert_true(*counter >= n);
}

/* Handles all that is there without waiting for more. */
static void run_what_is_there(struct fixture *f) {
    while (sd_event_run(f->event, 0) > 0)
        ;
}

static void say(struct fixture *f, const char *text) {
    assert_int_equal(fd_write_all(f->peer, text, strlen(text)), 0);
}

/* The next message of the client; runs its loop meanwhile. */
static json_t *hear(struct fixture *f) {
    char buf[4096];
    size_t len = 0;
    uint64_t end = now_usec() + DEADLINE_USEC;
    while (now_usec() < end) {
        run_what_is_there(f);
        if (fd_wait(f->peer, POLLIN, 10 * USEC_PER_MSEC) <= 0)
            continue;
        assert_int_equal(read(f->peer, buf + len, 1), 1);
        if (buf[len++] == '\n')
            break;
        assert_true(len < sizeof(buf));
    }
    json_t *msg = json_loadb(buf, len, 0, NULL);
    assert_non_null(msg);
    return msg;
}

/* Hears the command and returns its id. */
static long long hear_command(struct fixture *f, const char *want) {
    json_t *msg = hear(f);
    assert_string_equal(json_string_value(json_object_get(msg, "execute")), want);
    long long id = json_integer_value(json_object_get(msg, "id"));
    json_decref(msg);
    return id;
}

static void answer(struct fixture *f, long long id, const char *what) {
    char text[512];
    snprintf(text, sizeof(text), "{%s, \"id\": %lld}\r\n", what, id);
    say(f, text);
}

static void handshake(struct fixture *f) {
    say(f, GREETING);
    answer(f, hear_command(f, "qmp_capabilities"), "\"return\": {}");
    run_until(f, &f->ready, 1);
}

static void nothing_is_said_before_the_greeting(void **state) {
    struct fixture *f = *state;
    struct answer a = {0};
    assert_int_equal(qmp_command(f->qmp, "stop", NULL, LONG, on_reply, &a, NULL), 0);
    run_what_is_there(f);
    assert_int_equal(fd_wait(f->peer, POLLIN, 0), 0);
    say(f, GREETING);
    long long id = hear_command(f, "qmp_capabilities");
    run_what_is_there(f);
    assert_int_equal(fd_wait(f->peer, POLLIN, 0), 0);
    answer(f, id, "\"return\": {}");
    answer(f, hear_command(f, "stop"), "\"return\": {}");
    run_until(f, &a.calls, 1);
    assert_int_equal(a.code, 0);
    assert_int_equal(f->ready, 1);
}

static void commands_and_their_answers(void **state) {
    struct fixture *f = *state;
    struct answer a = {0}, b = {0};
    handshake(f);
    assert_int_equal(qmp_command(f->qmp, "migrate", json_pack("{s:s}", "uri", "fd:state"), LONG, on_reply, &a, NULL),
                     0);
    assert_int_equal(qmp_command(f->qmp, "query-migrate", NULL, LONG, on_reply, &b, NULL), 0);
    json_t *msg = hear(f);
    assert_string_equal(json_string_value(json_object_get(json_object_get(msg, "arguments"), "uri")), "fd:state");
    long long first = json_integer_value(json_object_get(msg, "id"));
    json_decref(msg);
    long long second = hear_command(f, "query-migrate");
    /* answered in the other order */
    answer(f, second, "\"return\": {\"status\": \"completed\"}");
    run_until(f, &b.calls, 1);
    assert_string_equal(b.ret, "{\"status\":\"completed\"}");
    assert_int_equal(a.calls, 0);
    answer(f, first, "\"return\": 7");
    run_until(f, &a.calls, 1);
    assert_string_equal(a.ret, "7");
}

static void an_error_names_the_command(void **state) {
    struct fixture *f = *state;
    struct answer a = {0};
    handshake(f);
    assert_int_equal(qmp_command(f->qmp, "cont", NULL, LONG, on_reply, &a, NULL), 0);
    answer(f, hear_command(f, "cont"), "\"error\": {\"class\": \"GenericError\", \"desc\": \"not now\"}");
    run_until(f, &a.calls, 1);
    assert_int_equal(a.code, EREMOTEIO);
    assert_string_equal(a.msg, "box: cont: not now");
    assert_int_equal(f->closed, 0);
    assert_int_equal(qmp_command(f->qmp, "cont", NULL, LONG, on_reply, &a, NULL), 0);
    answer(f, hear_command(f, "cont"), "\"error\": 5");
    run_until(f, &a.calls, 2);
    assert_int_equal(a.code, EREMOTEIO);
}

static void a_deadline_passes_and_the_late_answer_is_ignored(void **state) {
    struct fixture *f = *state;
    struct answer a = {0}, b = {0};
    handshake(f);
    uint64_t start = now_usec();
    assert_int_equal(qmp_command(f->qmp, "stop", NULL, 50 * USEC_PER_MSEC, on_reply, &a, NULL), 0);
    long long id = hear_command(f, "stop");
    run_until(f, &a.calls, 1);
    assert_int_equal(a.code, ETIMEDOUT);
    assert_true(now_usec() - start >= 50 * USEC_PER_MSEC);
    answer(f, id, "\"return\": {}");
    assert_int_equal(qmp_command(f->qmp, "cont", NULL, LONG, on_reply, &b, NULL), 0);
    answer(f, hear_command(f, "cont"), "\"return\": {}");
    run_until(f, &b.calls, 1);
    assert_int_equal(b.code, 0);
    assert_int_equal(a.calls, 1);
    assert_int_equal(f->closed, 0);
}

static void deadlines_run_before_the_greeting_too(void **state) {
    struct fixture *f = *state;
    struct answer a = {0};
    assert_int_equal(qmp_command(f->qmp, "stop", NULL, 20 * USEC_PER_MSEC, on_reply, &a, NULL), 0);
    run_until(f, &a.calls, 1);
    assert_int_equal(a.code, ETIMEDOUT);
    handshake(f);
    run_what_is_there(f);
    assert_int_equal(fd_wait(f->peer, POLLIN, 0), 0); /* it was not sent after all */
}

static void a_disconnect_fails_all(void **state) {
    struct fixture *f = *state;
    struct answer a[5] = {0};
    handshake(f);
    f->at_close = &a[4];
    for (size_t i = 0; i < ARRAY_SIZE(a); i++)
        assert_int_equal(qmp_command(f->qmp, "stop", NULL, LONG, on_reply, &a[i], NULL), 0);
    f->peer = fd_close(f->peer);
    run_until(f, &f->closed, 1);
    for (size_t i = 0; i < ARRAY_SIZE(a); i++) {
        assert_int_equal(a[i].calls, 1);
        assert_int_not_equal(a[i].code, 0);
        assert_non_null(strstr(a[i].msg, "stop"));
    }
    assert_int_equal(f->calls_at_close, 1); /* the callers heard of it first */
    assert_non_null(strstr(f->why.msg, "box"));
    struct err err = ERR_INIT;
    assert_int_equal(qmp_command(f->qmp, "cont", json_object(), LONG, on_reply, &a[0], &err), -ENOTCONN);
    run_what_is_there(f);
    assert_int_equal(f->closed, 1);
    assert_int_equal(a[0].calls, 1);
}

static void freeing_cancels(void **state) {
    struct fixture *f = *state;
    struct answer a = {0}, b = {0};
    assert_int_equal(qmp_command(f->qmp, "stop", NULL, LONG, on_reply, &a, NULL), 0);
    f->qmp = qmp_free(f->qmp);
    assert_int_equal(a.calls, 1);
    assert_int_equal(a.code, ECANCELED);
    assert_int_equal(f->closed, 0);
    assert_int_equal(b.calls, 0);
    assert_null(qmp_free(NULL));
}

static void events_are_delivered(void **state) {
    struct fixture *f = *state;
    handshake(f);
    say(f, "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"MIGRATION\", "
           "\"data\": {\"status\": \"active\"}}\r\n");
    run_until(f, &f->events, 1);
    assert_string_equal(f->last_event, "MIGRATION");
    assert_string_equal(f->last_data, "{\"status\":\"active\"}");
    say(f, "{\"event\": \"STOP\"}\n");
    run_until(f, &f->events, 2);
    assert_string_equal(f->last_data, "none");
    /* the last event before the end is not lost */
    say(f, "{\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"guest-reset\"}}\n");
    f->peer = fd_close(f->peer);
    run_until(f, &f->closed, 1);
    assert_string_equal(f->last_event, "SHUTDOWN");
}

static void bytes_may_come_one_by_one(void **state) {
    struct fixture *f = *state;
    for (const char *p = GREETING; *p; p++) {
        assert_int_equal(write(f->peer, p, 1), 1);
        run_what_is_there(f);
    }
    answer(f, hear_command(f, "qmp_capabilities"), "\"return\": {}");
    run_until(f, &f->ready, 1);
}

/* Each of these must close the connection, as the first message and after the handshake. */
static const char *const broken[] = {
    "garbage\n",
    "[]\n",
    "{}\n",
    "5\n",
    "{\"event\": 5}\n",
    "{\"return\": {}}\n",
    "{\"return\": {}, \"id\": 99}\n",
    "{\"return\": {}, \"id\": -1}\n",
    "{\"return\": {}, \"id\": \"1\"}\n",
    "{\"return\": {}, \"id\": 1e300}\n",
    "{\"error\": {\"desc\": \"JSON parse error\"}}\n",
    "{\"event\": \"X\", \"event\": \"Y\"}\n",
    "{\"event\": \"\xff\"}\n",
    "{\"event\": \"X\"\n",
};

static void what_is_not_qmp_closes(void **state) {
    for (size_t i = 0; i < 2 * ARRAY_SIZE(broken); i++) {
        teardown(state);
        setup(state);
        struct fixture *f = *state;
        struct answer a = {0};
        if (i >= ARRAY_SIZE(broken))
            handshake(f);
        say(f, broken[i % ARRAY_SIZE(broken)]);
        run_until(f, &f->closed, 1);
        assert_int_equal(f->why.code, EPROTO);
        assert_int_equal(qmp_command(f->qmp, "stop", NULL, LONG, on_reply, &a, NULL), -ENOTCONN);
    }
}

static void a_refused_handshake_closes(void **state) {
    struct fixture *f = *state;
    say(f, GREETING);
    answer(f, hear_command(f, "qmp_capabilities"), "\"error\": {\"desc\": \"no\"}");
    run_until(f, &f->closed, 1);
    assert_non_null(strstr(f->why.msg, "no"));
    assert_int_equal(f->ready, 0);
}

/* Writes n bytes while the client reads; stops when it has closed. */
static void pour(struct fixture *f, const char *chunk, size_t len, size_t n) {
    fd_set_nonblock(f->peer, true);
    size_t sent = 0, at = 0;
    uint64_t end = now_usec() + DEADLINE_USEC;
    while (sent < n && !f->closed && now_usec() < end) {
        ssize_t w = send(f->peer, chunk + at, len - at, MSG_NOSIGNAL);
        if (w > 0) {
            sent += (size_t)w;
            at = (at + (size_t)w) % len;
        }
        run_what_is_there(f);
    }
    assert_true(now_usec() < end);
    fd_set_nonblock(f->peer, false);
}

static void an_endless_line_closes(void **state) {
    struct fixture *f = *state;
    char chunk[8192];
    handshake(f);
    memset(chunk, 'x', sizeof(chunk));
    pour(f, chunk, sizeof(chunk), 4 * QMP_LINE_MAX);
    run_until(f, &f->closed, 1);
    assert_int_equal(f->why.code, EPROTO);
}

static void a_long_line_within_the_limit_passes(void **state) {
    static const char head[] = "{\"event\": \"BIG\", \"data\": {\"x\": \"", end[] = "\"}}\n";
    struct fixture *f = *state;
    static char line[QMP_LINE_MAX - 4096];
    handshake(f);
    memset(line, 'y', sizeof(line));
    memcpy(line, head, sizeof(head) - 1);
    memcpy(line + sizeof(line) - (sizeof(end) - 1), end, sizeof(end) - 1);
    pour(f, line, sizeof(line), sizeof(line));
    run_until(f, &f->events, 1);
    assert_string_equal(f->last_event, "BIG");
}

/* Another source that always has something to do. */
static int on_other(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
    struct fixture *f = userdata;
    (void)s;
    (void)fd;
    (void)revents;
    f->most = MAX(f->most, f->events - f->seen);
    f->seen = f->events;
    return 0;
}

static void a_flood_of_events_gives_others_their_turn(void **state) {
    struct fixture *f = *state;
    char text[64 * 1024] = "";
    size_t len = 0;
    unsigned n = 0;
    handshake(f);
    while (len < sizeof(text) - 64) {
        len += (size_t)sprintf(text + len, "{\"event\":\"E\",\"data\":{\"n\":%u}}\n", n);
        n++;
    }
    sd_event_source *other = NULL;
    cleanup_fd int efd = eventfd(1, EFD_CLOEXEC);
    assert_true(sd_event_add_io(f->event, &other, efd, EPOLLIN, on_other, f) >= 0);
    fd_set_nonblock(f->peer, true);
    uint64_t end = now_usec() + DEADLINE_USEC;
    for (size_t sent = 0; f->events < n && now_usec() < end;) {
        ssize_t w = sent < len ? send(f->peer, text + sent, len - sent, MSG_NOSIGNAL) : 0;
        sent += w > 0 ? (size_t)w : 0;
        assert_true(sd_event_run(f->event, 100 * USEC_PER_MSEC) >= 0);
    }
    /* the other one gets its turn after each chunk, or after two */
    assert_in_range(f->most, 1, 2 * QMP_CHUNK / strlen("{'event':'E','data':{'n':0}}"));
    assert_int_equal(f->events, n);
    char want[32];
    snprintf(want, sizeof(want), "{\"n\":%u}", n - 1);
    assert_string_equal(f->last_data, want);
    sd_event_source_disable_unref(other);
}

static void the_number_under_way_is_bounded(void **state) {
    struct fixture *f = *state;
    struct answer a[QMP_PENDING_MAX] = {0};
    struct err err = ERR_INIT;
    handshake(f);
    for (size_t i = 0; i < ARRAY_SIZE(a); i++)
        assert_int_equal(qmp_command(f->qmp, "stop", NULL, LONG, on_reply, &a[i], NULL), 0);
    assert_int_equal(qmp_command(f->qmp, "stop", json_object(), LONG, on_reply, &a[0], &err), -EBUSY);
    answer(f, hear_command(f, "stop"), "\"return\": {}");
    run_until(f, &a[0].calls, 1);
    assert_int_equal(qmp_command(f->qmp, "stop", NULL, LONG, on_reply, &a[0], &err), 0);
    f->qmp = qmp_free(f->qmp);
    assert_int_equal(a[0].calls, 2);
    assert_int_equal(a[1].calls, 1);
}

static void a_peer_that_does_not_read(void **state) {
    struct fixture *f = *state;
    struct answer a[QMP_PENDING_MAX] = {0};
    handshake(f);
    char *text = malloc(64 * 1024);
    memset(text, 'x', 64 * 1024 - 1);
    text[64 * 1024 - 1] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(a); i++)
        assert_int_equal(
            qmp_command(f->qmp, "stop", json_pack("{s:s}", "x", text), 50 * USEC_PER_MSEC, on_reply, &a[i], NULL), 0);
    free(text);
    /* one of them is half sent, and the stream is of no use after that */
    run_until(f, &f->closed, 1);
    for (size_t i = 0; i < ARRAY_SIZE(a); i++)
        assert_int_equal(a[i].calls, 1);
    assert_int_equal(f->why.code, ETIMEDOUT);
}

static void a_message_too_long_is_not_sent(void **state) {
    struct fixture *f = *state;
    struct answer a = {0};
    handshake(f);
    char *text = malloc(QMP_LINE_MAX + 1);
    memset(text, 'x', QMP_LINE_MAX);
    text[QMP_LINE_MAX] = '\0';
    assert_int_equal(qmp_command(f->qmp, "stop", json_pack("{s:s}", "x", text), LONG, on_reply, &a, NULL), -EMSGSIZE);
    free(text);
    assert_int_equal(a.calls, 0);
}

static void a_file_descriptor_goes_along(void **state) {
    struct fixture *f = *state;
    struct answer a = {0};
    int p[2];
    handshake(f);
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    assert_int_equal(qmp_command_fd(f->qmp, "getfd", json_pack("{s:s}", "fdname", "s"), p[1], LONG, on_reply, &a, NULL),
                     0);
    p[1] = fd_close(p[1]);
    run_what_is_there(f);
    char buf[512];
    int fds[FD_PASS_MAX];
    size_t n = 0;
    ssize_t len = fd_receive(f->peer, buf, sizeof(buf) - 1, fds, &n);
    assert_true(len > 0);
    assert_int_equal(n, 1);
    assert_int_equal(write(fds[0], "x", 1), 1);
    fd_close(fds[0]);
    assert_int_equal(read(p[0], buf, 2), 1);
    assert_int_equal(read(p[0], buf, 2), 0); /* the client kept no copy */
    fd_close(p[0]);
    answer(f, 1, "\"return\": {}");
    run_until(f, &a.calls, 1);
    assert_int_equal(a.code, 0);
    assert_int_equal(qmp_command_fd(f->qmp, "getfd", NULL, 12345, LONG, on_reply, &a, NULL), -EBADF);
}

/* A callback may send the next command: how a sequence like stop, migrate, cont is made. */
static void chain(void *userdata, const json_t *ret, const struct err *err) {
    struct fixture *f = userdata;
    (void)ret;
    if (!err)
        (void)qmp_command(f->qmp, "cont", NULL, LONG, NULL, NULL, NULL);
}

static void callbacks_may_send(void **state) {
    struct fixture *f = *state;
    handshake(f);
    assert_int_equal(qmp_command(f->qmp, "stop", NULL, LONG, chain, f, NULL), 0);
    answer(f, hear_command(f, "stop"), "\"return\": {}");
    answer(f, hear_command(f, "cont"), "\"return\": {}");
    run_what_is_there(f);
    assert_int_equal(f->closed, 0);
    /* and nothing comes of it when the connection is gone */
    assert_int_equal(qmp_command(f->qmp, "stop", NULL, LONG, chain, f, NULL), 0);
    f->peer = fd_close(f->peer);
    run_until(f, &f->closed, 1);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_said_before_the_greeting),
        TEST(commands_and_their_answers),
        TEST(an_error_names_the_command),
        TEST(a_deadline_passes_and_the_late_answer_is_ignored),
        TEST(deadlines_run_before_the_greeting_too),
        TEST(a_disconnect_fails_all),
        TEST(freeing_cancels),
        TEST(events_are_delivered),
        TEST(bytes_may_come_one_by_one),
        TEST(what_is_not_qmp_closes),
        TEST(a_refused_handshake_closes),
        TEST(an_endless_line_closes),
        TEST(a_long_line_within_the_limit_passes),
        TEST(a_flood_of_events_gives_others_their_turn),
        TEST(the_number_under_way_is_bounded),
        TEST(a_peer_that_does_not_read),
        TEST(a_message_too_long_is_not_sent),
        TEST(a_file_descriptor_goes_along),
        TEST(callbacks_may_send),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
