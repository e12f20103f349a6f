/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/stream.h"
#include "base/fd.h"
#include "support.h"

#include <pty.h>
#include <termios.h>

struct read_result {
    int n;
    uint8_t *data;
    size_t len;
    int code;
};

struct write_result {
    int n;
    size_t written;
    int code;
};

static void on_read(void *userdata, const uint8_t *data, size_t len, const struct err *err) {
    struct read_result *r = userdata;
    r->n++;
    r->len = len;
    r->code = err ? err->code : 0;
    free(r->data);
    r->data = NULL;
    if (len) {
        r->data = malloc(len);
        memcpy(r->data, data, len);
    }
}

static void on_written(void *userdata, size_t written, const struct err *err) {
    struct write_result *r = userdata;
    r->n++;
    r->written = written;
    r->code = err ? err->code : 0;
}

static void open_reader(struct fixture *f, struct reader *r, int *ret_writer) {
    int fds[2];
    assert_int_equal(stream_pipe(fds, NULL), 0);
    assert_int_equal(reader_open(r, f->event, fds[0], NULL), 0);
    *ret_writer = fds[1];
}

static void open_writer(struct fixture *f, struct writer *w, int *ret_reader) {
    int fds[2];
    assert_int_equal(stream_pipe(fds, NULL), 0);
    assert_int_equal(writer_open(w, f->event, fds[1], NULL), 0);
    *ret_reader = fds[0];
}

static void test_read(void **state) {
    struct fixture *f = *state;
    struct reader r = READER_NONE;
    struct read_result res = {0};
    int fd;
    open_reader(f, &r, &fd);
    /* What is there is the answer at once, up to max. */
    assert_int_equal(write(fd, "hello", 5), 5);
    assert_int_equal(reader_read(&r, 3, on_read, &res, NULL), 0);
    assert_int_equal(res.n, 1);
    assert_memory_equal(res.data, "hel", 3);
    assert_int_equal(reader_read(&r, STREAM_CHUNK_MAX, on_read, &res, NULL), 0);
    assert_int_equal(res.n, 2);
    assert_int_equal(res.len, 2);
    /* Nothing there: later. */
    assert_int_equal(reader_read(&r, 100, on_read, &res, NULL), 0);
    assert_int_equal(sd_event_run(f->event, 0), 0);
    assert_int_equal(res.n, 2);
    assert_int_equal(reader_read(&r, 100, on_read, &res, NULL), -EBUSY);
    assert_int_equal(write(fd, "x", 1), 1);
    RUN_UNTIL(f->event, res.n == 3);
    assert_int_equal(res.data[0], 'x');
    /* The end, as often as one asks. */
    close(fd);
    for (int i = 4; i < 7; i++) {
        assert_int_equal(reader_read(&r, 100, on_read, &res, NULL), 0);
        RUN_UNTIL(f->event, res.n == i);
        assert_int_equal(res.len, 0);
        assert_int_equal(res.code, 0);
    }
    assert_int_equal(r.fd, -1);
    reader_close(&r);
}

/* While held nothing leaves the pipe, also for a read that is abandoned; then all of it comes, once. */
static void test_read_held(void **state) {
    struct fixture *f = *state;
    struct reader r = READER_NONE;
    struct read_result res = {0};
    int fd;
    open_reader(f, &r, &fd);
    assert_int_equal(reader_read(&r, 100, on_read, &res, NULL), 0);
    reader_hold(&r, true);
    assert_int_equal(write(fd, "abc", 3), 3);
    assert_int_equal(sd_event_run(f->event, 0), 0);
    reader_end(&r);
    assert_int_equal(res.n, 0);
    reader_void(&r);
    assert_int_equal(res.code, ECANCELED);
    assert_int_equal(reader_read(&r, 100, on_read, &res, NULL), 0);
    assert_int_equal(res.n, 1);
    reader_hold(&r, false);
    assert_int_equal(res.n, 2);
    assert_int_equal(res.len, 3);
    assert_memory_equal(res.data, "abc", 3);
    close(fd);
    assert_int_equal(reader_read(&r, 100, on_read, &res, NULL), 0);
    assert_int_equal(res.n, 3);
    assert_int_equal(res.len, 0);
    reader_close(&r);
    free(res.data);
}

static void test_write_held(void **state) {
    struct fixture *f = *state;
    struct writer w = WRITER_NONE;
    struct write_result res = {0};
    char buf[8];
    int fd;
    open_writer(f, &w, &fd);
    assert_int_equal(fd_set_nonblock(fd, true), 0);
    writer_hold(&w, true);
    assert_int_equal(writer_write(&w, "abc", 3, on_written, &res, NULL), 0);
    assert_int_equal(res.n, 0);
    assert_int_equal(read(fd, buf, sizeof(buf)), -1);
    writer_hold(&w, false);
    assert_int_equal(res.n, 1);
    assert_int_equal(res.written, 3);
    assert_int_equal(read(fd, buf, sizeof(buf)), 3);
    writer_close(&w);
    close(fd);
}

static void test_read_errors(void **state) {
    struct fixture *f = *state;
    struct reader r = READER_NONE;
    struct read_result res = {0};
    int fd;
    assert_int_equal(reader_read(&r, 1, on_read, &res, NULL), -EINVAL);
    open_reader(f, &r, &fd);
    assert_int_equal(reader_read(&r, 0, on_read, &res, NULL), -EINVAL);
    assert_int_equal(reader_read(&r, STREAM_CHUNK_MAX + 1, on_read, &res, NULL), -EINVAL);
    assert_int_equal(res.n, 0);
    close(fd);
    reader_close(&r);
}

/* What nobody asks for stays in the pipe, also across an abandoned call. */
static void test_read_void(void **state) {
    struct fixture *f = *state;
    struct reader r = READER_NONE;
    struct read_result res = {0};
    int fd;
    open_reader(f, &r, &fd);
    assert_int_equal(reader_read(&r, 100, on_read, &res, NULL), 0);
    reader_void(&r);
    assert_int_equal(res.n, 1);
    assert_int_equal(res.code, ECANCELED);
    reader_void(&r);
    assert_int_equal(res.n, 1);
    assert_int_equal(write(fd, "kept", 4), 4);
    assert_int_equal(sd_event_run(f->event, 0), 0);
    assert_int_equal(reader_read(&r, 100, on_read, &res, NULL), 0);
    assert_int_equal(res.len, 4);
    free(res.data);
    res.data = NULL;
    /* Closing answers with the end. */
    assert_int_equal(reader_read(&r, 100, on_read, &res, NULL), 0);
    reader_close(&r);
    assert_int_equal(res.n, 3);
    assert_int_equal(res.len, 0);
    assert_int_equal(res.code, 0);
    assert_int_equal(write(fd, "x", 1), -1);
    assert_int_equal(errno, EPIPE);
    reader_close(&r);
    assert_int_equal(res.n, 3);
    close(fd);
}

static void test_write(void **state) {
    struct fixture *f = *state;
    struct writer w = WRITER_NONE;
    struct write_result res = {0};
    char buf[100];
    int fd;
    open_writer(f, &w, &fd);
    assert_int_equal(writer_write(&w, "hello", 5, on_written, &res, NULL), 0);
    assert_int_equal(res.n, 1);
    assert_int_equal(res.written, 5);
    assert_int_equal(read(fd, buf, sizeof(buf)), 5);
    assert_int_equal(writer_write(&w, "", 0, on_written, &res, NULL), 0);
    assert_int_equal(res.n, 2);
    assert_int_equal(res.written, 0);
    writer_end(&w);
    assert_int_equal(read(fd, buf, sizeof(buf)), 0);
    assert_int_equal(writer_write(&w, "x", 1, on_written, &res, NULL), -EPIPE);
    close(fd);
    writer_close(&w);
}

/* More than the pipe holds: it goes in as the reader takes it, and the end comes after it. */
static void test_write_slow(void **state) {
    struct fixture *f = *state;
    struct writer w = WRITER_NONE;
    struct write_result res = {0};
    size_t len = STREAM_CHUNK_MAX, got = 0;
    char *data = malloc(len);
    static char buf[4096];
    int fd;
    for (size_t i = 0; i < len; i++)
        data[i] = (char)(i * 31 / 7);
    open_writer(f, &w, &fd);
    assert_int_equal(writer_write(&w, data, len, on_written, &res, NULL), 0);
    assert_int_equal(res.n, 0);
    assert_int_equal(writer_write(&w, "x", 1, on_written, &res, NULL), -EBUSY);
    writer_end(&w);
    for (;;) {
        ssize_t n = read(fd, buf, sizeof(buf));
        assert_true(n >= 0);
        if (n == 0)
            break;
        assert_memory_equal(buf, data + got, (size_t)n);
        got += (size_t)n;
        assert_true(sd_event_run(f->event, 0) >= 0);
    }
    assert_int_equal(got, len);
    assert_int_equal(res.n, 1);
    assert_int_equal(res.written, len);
    free(data);
    close(fd);
    writer_close(&w);
}

static void test_write_reader_gone(void **state) {
    struct fixture *f = *state;
    struct writer w = WRITER_NONE;
    struct write_result res = {0};
    size_t len = STREAM_CHUNK_MAX;
    char *data = calloc(1, len);
    int fd;
    open_writer(f, &w, &fd);
    assert_int_equal(writer_write(&w, data, len, on_written, &res, NULL), 0);
    assert_int_equal(res.n, 0);
    close(fd);
    RUN_UNTIL(f->event, res.n == 1);
    assert_in_range(res.written, 1, len - 1);
    assert_int_equal(res.code, 0);
    assert_int_equal(writer_write(&w, data, len, on_written, &res, NULL), 0);
    assert_int_equal(res.n, 2);
    assert_int_equal(res.written, 0);
    free(data);
    writer_close(&w);
}

static void test_write_void(void **state) {
    struct fixture *f = *state;
    struct writer w = WRITER_NONE;
    struct write_result res = {0};
    char *data = calloc(1, STREAM_CHUNK_MAX);
    int fd;
    assert_int_equal(writer_write(&w, data, 1, on_written, &res, NULL), -EINVAL);
    open_writer(f, &w, &fd);
    assert_int_equal(writer_write(&w, data, STREAM_CHUNK_MAX + 1, on_written, &res, NULL), -EINVAL);
    assert_int_equal(writer_write(&w, data, STREAM_CHUNK_MAX, on_written, &res, NULL), 0);
    writer_void(&w);
    assert_int_equal(res.n, 1);
    assert_int_equal(res.code, ECANCELED);
    assert_true(w.fd >= 0);
    /* The next one waits for room again; closing answers it. */
    assert_int_equal(writer_write(&w, data, STREAM_CHUNK_MAX, on_written, &res, NULL), 0);
    writer_close(&w);
    assert_int_equal(res.n, 2);
    assert_int_equal(res.code, 0);
    assert_int_equal(res.written, 0);
    writer_close(&w);
    free(data);
    close(fd);
}

/* A terminal's end of file is EIO. */
static void test_terminal(void **state) {
    struct fixture *f = *state;
    struct reader r = READER_NONE;
    struct writer w = WRITER_NONE;
    struct read_result res = {0};
    struct write_result wres = {0};
    int master, slave;
    char buf[16];
    struct termios raw;
    assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
    tcgetattr(slave, &raw);
    cfmakeraw(&raw);
    tcsetattr(slave, TCSANOW, &raw);
    assert_int_equal(writer_open(&w, f->event, dup(master), NULL), 0);
    assert_int_equal(reader_open(&r, f->event, master, NULL), 0);
    assert_int_equal(reader_read(&r, 100, on_read, &res, NULL), 0);
    assert_int_equal(res.n, 0);
    assert_int_equal(write(slave, "hi", 2), 2);
    RUN_UNTIL(f->event, res.n == 1);
    assert_memory_equal(res.data, "hi", 2);
    assert_int_equal(writer_write(&w, "in", 2, on_written, &wres, NULL), 0);
    RUN_UNTIL(f->event, wres.n == 1);
    assert_int_equal(read(slave, buf, sizeof(buf)), 2);
    assert_int_equal(write(slave, "bye", 3), 3);
    close(slave);
    assert_int_equal(reader_read(&r, 100, on_read, &res, NULL), 0);
    RUN_UNTIL(f->event, res.n == 2);
    assert_int_equal(res.len, 3);
    assert_int_equal(reader_read(&r, 100, on_read, &res, NULL), 0);
    RUN_UNTIL(f->event, res.n == 3);
    assert_int_equal(res.len, 0);
    assert_int_equal(res.code, 0);
    reader_close(&r);
    writer_close(&w);
    free(res.data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_read),       FIXTURE_TEST(test_read_errors), FIXTURE_TEST(test_read_void),
        FIXTURE_TEST(test_write),      FIXTURE_TEST(test_write_slow),  FIXTURE_TEST(test_write_reader_gone),
        FIXTURE_TEST(test_write_void), FIXTURE_TEST(test_terminal),    FIXTURE_TEST(test_read_held),
        FIXTURE_TEST(test_write_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
