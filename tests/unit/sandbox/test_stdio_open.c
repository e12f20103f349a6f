/* SPDX-License-Identifier: Apache-2.0 */
/* stdio_open.c and logger.c: every scheme, with real FIFOs, files and logger scripts. */
#include "sandbox/logger.h"
#include "sandbox/stdio_open.h"
#include "support.h"

#include <sys/stat.h>

struct fixture {
    struct tmpdir *t;
    sd_event *event;
    struct stdio_spec spec;
    struct stdio_opening *opening;
    struct process_stdio io; /* done's */
    struct err err;          /* done's */
    size_t n_done;
    int fds[3]; /* of the request */
    size_t n_fds, n_taken;
};

static int take_fd(void *userdata, struct err *err) {
    struct fixture *f = userdata;
    if (f->n_taken >= f->n_fds)
        return err_set(err, EINVAL, "no file descriptor came with the request");
    int i = (int)f->n_taken++;
    return TAKE_FD(f->fds[i]);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    signal(SIGPIPE, SIG_IGN);
    if (tmpdir_setup((void **)&f->t) < 0 || sd_event_new(&f->event) < 0)
        return -1;
    f->io = PROCESS_STDIO_NONE;
    f->spec = (struct stdio_spec){.in = "",
                                  .out = "",
                                  .err = "",
                                  .container_id = "ctr-1",
                                  .namespace = "k8s.io",
                                  .take_fd = take_fd,
                                  .userdata = f};
    f->fds[0] = f->fds[1] = f->fds[2] = -1;
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    stdio_cancel(f->opening);
    process_stdio_close(&f->io);
    for (size_t i = 0; i < ARRAY_SIZE(f->fds); i++)
        fd_close(f->fds[i]);
    sd_event_unref(f->event);
    int r = tmpdir_teardown((void **)&f->t);
    free(f);
    return r;
}

static void on_done(void *userdata, struct process_stdio *io, const struct err *err) {
    struct fixture *f = userdata;
    f->opening = NULL;
    f->n_done++;
    assert_true(!io != !err);
    if (io) {
        f->io = *io;
        *io = PROCESS_STDIO_NONE;
    } else {
        err_copy(&f->err, err);
    }
}

static void open_ok(struct fixture *f) {
    struct err err = ERR_INIT;
    if (stdio_open(f->event, &f->spec, on_done, f, &f->opening, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(f->n_done, 0);
    RUN_UNTIL(f->event, f->n_done);
    if (f->err.code)
        fail_msg("%s", f->err.msg);
    assert_int_equal(f->n_done, 1);
    f->n_done = 0;
}

static void open_fails(struct fixture *f, int code, const char *says) {
    struct err err = ERR_INIT;
    assert_int_equal(stdio_open(f->event, &f->spec, on_done, f, &f->opening, &err), code);
    ASSERT_SAYS(&err, says);
    run_idle(f->event);
    assert_int_equal(f->n_done, 0);
}

/* It begins, and done brings the error. */
static void open_fails_later(struct fixture *f, int code, const char *says) {
    struct err err = ERR_INIT;
    if (stdio_open(f->event, &f->spec, on_done, f, &f->opening, &err) < 0)
        fail_msg("%s", err.msg);
    RUN_UNTIL(f->event, f->n_done);
    assert_int_equal(f->n_done, 1);
    assert_int_equal(f->err.code, code);
    ASSERT_SAYS(&f->err, says);
}

static size_t count_fds(void) {
    size_t n = 0;
    cleanup_dir DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d))
        n++;
    return n;
}

static void add_fds(struct fixture *f, size_t n) {
    while (n--)
        assert_true((f->fds[f->n_fds++] = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0);
}

static char *read_text(struct fixture *f, const char *name) {
    cleanup_free char *path = tmpdir_path(f->t, name);
    char *text = NULL;
    if (file_read_at(AT_FDCWD, path, 65536, &text, NULL, NULL) < 0)
        text = strdup("");
    return text;
}

/* Runs the loop until the file holds exactly this. */
static void expect_text(struct fixture *f, const char *name, const char *expected) {
    uint64_t end = now_usec() + TEST_DEADLINE;
    for (;;) {
        cleanup_free char *text = read_text(f, name);
        if (strcmp(text, expected) == 0)
            return;
        if (now_usec() > end)
            fail_msg("%s holds \"%s\", not \"%s\"", name, text, expected);
        assert_true(sd_event_run(f->event, 10 * USEC_PER_MSEC) >= 0);
    }
}

static bool exists(struct fixture *f, const char *name) {
    cleanup_free char *path = tmpdir_path(f->t, name);
    return access(path, F_OK) == 0;
}

/* ---- without loggers ---- */

static void test_none(void **state) {
    struct fixture *f = *state;
    open_ok(f);
    assert_int_equal(f->io.in, -1);
    assert_int_equal(f->io.out, -1);
    assert_int_equal(f->io.err, -1);
    assert_false(f->io.terminal);
}

static void test_fds(void **state) {
    struct fixture *f = *state;
    add_fds(f, 2);
    int first = f->fds[0], second = f->fds[1];
    f->spec.in = f->spec.err = "fd://";
    open_ok(f);
    assert_int_equal(f->io.in, first);
    assert_int_equal(f->io.out, -1);
    assert_int_equal(f->io.err, second);
    assert_int_equal(f->io.in_kind, STDIO_FD);
    assert_int_equal(f->io.err_kind, STDIO_FD);
}

/* All are taken though the first URI is bad. */
static void test_fds_of_refused(void **state) {
    struct fixture *f = *state;
    size_t before = count_fds();
    add_fds(f, 2);
    f->spec.in = "nonsense";
    f->spec.out = f->spec.err = "fd://";
    open_fails(f, -EOPNOTSUPP, "stdin: \"nonsense\": cannot be used");
    assert_int_equal(f->n_taken, 2);
    assert_int_equal(count_fds(), before);
}

static void test_fds_missing(void **state) {
    struct fixture *f = *state;
    add_fds(f, 1);
    f->spec.in = f->spec.out = "fd://";
    open_fails(f, -EINVAL, "stdout: no file descriptor came");
}

static void test_fds_terminal(void **state) {
    struct fixture *f = *state;
    size_t before = count_fds();
    add_fds(f, 3);
    f->spec.terminal = true;
    f->spec.in = f->spec.out = f->spec.err = "fd://";
    open_ok(f);
    assert_int_equal(f->n_taken, 3);
    assert_int_equal(count_fds(), before + 2);
    assert_int_equal(f->io.err, -1);
    assert_true(f->io.terminal);
}

static void expect_mode(int fd, mode_t type, int access) {
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & S_IFMT, type);
    assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, access);
}

static void test_fifos(void **state) {
    struct fixture *f = *state;
    cleanup_free char *plain = tmpdir_path(f->t, "a%20b"), *spaced = tmpdir_path(f->t, "c d"),
                      *uri = str_printf("fifo://%s/c%%20d", f->t->path);
    assert_int_equal(mkfifo(plain, 0600), 0);
    assert_int_equal(mkfifo(spaced, 0600), 0);
    f->spec.in = f->spec.out = plain; /* a bare path is taken as it is */
    f->spec.err = uri;
    open_ok(f);
    expect_mode(f->io.in, S_IFIFO, O_RDONLY);
    expect_mode(f->io.out, S_IFIFO, O_WRONLY);
    expect_mode(f->io.err, S_IFIFO, O_WRONLY);
    assert_int_equal(f->io.in_kind, STDIO_FIFO);
    assert_int_equal(f->io.out_kind, STDIO_FIFO);
    assert_int_equal(f->io.err_kind, STDIO_FIFO);
}

static void test_fifo_wrong(void **state) {
    struct fixture *f = *state;
    cleanup_free char *none = tmpdir_path(f->t, "none"), *file = tmpdir_path(f->t, "file");
    tmpdir_write(f->t, "file", "x");
    f->spec.out = none;
    open_fails(f, -ENOENT, "stdout: cannot open FIFO");
    f->spec.out = "";
    f->spec.in = file;
    open_fails(f, -EINVAL, "is a regular file, not a FIFO");
}

static void test_file(void **state) {
    struct fixture *f = *state;
    cleanup_free char *uri = str_printf("file://%s/new/dir/log%%2Dfile?ignored=1", f->t->path);
    umask(022);
    f->spec.out = f->spec.err = uri;
    open_ok(f);
    assert_int_equal(f->io.out_kind, STDIO_LOG);
    assert_int_equal(f->io.err_kind, STDIO_LOG);
    assert_int_equal(write(f->io.out, "one ", 4), 4);
    assert_int_equal(write(f->io.err, "two ", 4), 4);
    assert_int_equal(write(f->io.out, "three", 5), 5);
    expect_text(f, "new/dir/log-file", "one two three");
    process_stdio_close(&f->io);
    open_ok(f);
    assert_int_equal(write(f->io.out, " four", 5), 5);
    expect_text(f, "new/dir/log-file", "one two three four");
    struct stat st;
    cleanup_free char *dir = tmpdir_path(f->t, "new/dir"), *file = tmpdir_path(f->t, "new/dir/log-file");
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
}

static void test_file_wrong(void **state) {
    struct fixture *f = *state;
    cleanup_free char *fifo = tmpdir_path(f->t, "fifo"), *fifo_uri = str_printf("file://%s", fifo),
                      *dir_uri = str_printf("file://%s", f->t->path),
                      *below = str_printf("file://%s/fifo/log", f->t->path);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    f->spec.out = fifo_uri;
    open_fails(f, -EINVAL, "is not a regular file");
    f->spec.out = dir_uri;
    open_fails(f, -EINVAL, "is not a regular file");
    f->spec.out = "file:///dev/null";
    open_fails(f, -EINVAL, "/dev/null is not a regular file");
    f->spec.out = below;
    open_fails(f, -ENOTDIR, "stdout: ");
}

static void test_bad_uris(void **state) {
    struct fixture *f = *state;
    char longest[STDIO_URI_MAX + 2];
    memset(longest, 'a', sizeof(longest));
    longest[0] = '/';
    longest[STDIO_URI_MAX + 1] = '\0';
    char many[STDIO_URI_MAX] = "binary:///bin/true?a";
    for (size_t i = 0; i < STDIO_LOGGER_ARGS_MAX; i++)
        strcat(many, "&a");
    const struct {
        const char *uri;
        int code;
        const char *says;
    } bad[] = {{"npipe:////x", -EOPNOTSUPP, "cannot be used"},
               {"relative", -EOPNOTSUPP, "cannot be used"},
               {"fd://3", -EOPNOTSUPP, "cannot be used"},
               {"fifo://relative", -EINVAL, "the path is not absolute"},
               {"file://", -EINVAL, "the path is not absolute"},
               {"binary://host/bin/true", -EINVAL, "the path is not absolute"},
               {"file:///tmp/%", -EINVAL, "damaged percent-encoding"},
               {"file:///tmp/%4", -EINVAL, "damaged percent-encoding"},
               {"file:///tmp/%4g", -EINVAL, "damaged percent-encoding"},
               {"file:///tmp/%00", -EINVAL, "damaged percent-encoding"},
               {"binary:///bin/true?a=%", -EINVAL, "damaged percent-encoding"},
               {"binary:///bin/true?%00", -EINVAL, "damaged percent-encoding"},
               {many, -E2BIG, "too many arguments"},
               {longest, -ENAMETOOLONG, "the URI is too long"}};
    size_t before = count_fds();
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        f->spec.err = bad[i].uri;
        open_fails(f, bad[i].code, bad[i].says);
        cleanup_free char *start = str_printf("stderr: \"%.20s", bad[i].uri);
        open_fails(f, bad[i].code, start);
    }
    f->spec.err = "";
    f->spec.in = "file:///tmp/x";
    open_fails(f, -EOPNOTSUPP, "stdin: \"file:///tmp/x\": cannot be used");
    f->spec.in = "binary:///bin/true";
    open_fails(f, -EOPNOTSUPP, "stdin: ");
    assert_int_equal(count_fds(), before);
}

static void test_cancel(void **state) {
    struct fixture *f = *state;
    size_t before = count_fds();
    add_fds(f, 1);
    f->spec.out = "fd://";
    assert_int_equal(stdio_open(f->event, &f->spec, on_done, f, &f->opening, NULL), 0);
    f->opening = stdio_cancel(f->opening);
    run_idle(f->event);
    assert_int_equal(f->n_done, 0);
    assert_int_equal(count_fds(), before);
}

/* ---- loggers ---- */

/* malloc'd URI of a logger script in the test's directory, which is its $D. */
static char *logger_uri(struct fixture *f, const char *name, const char *body, const char *query) {
    cleanup_free char *path = tmpdir_path(f->t, name), *text = str_printf("#!/bin/sh\nD='%s'\n%s\n", f->t->path, body);
    tmpdir_write(f->t, name, text);
    assert_int_equal(chmod(path, 0755), 0);
    return str_printf("binary://%s%s", path, query);
}

/* Keeps both streams and says what it was given. */
#define KEEP                                                                                                           \
    "echo $CONTAINER_ID $CONTAINER_NAMESPACE $KEPT \"$(pwd)\" >$D/env; tr '\\0' '\\n' </proc/$$/environ | grep -c "    \
    "-E '^CONTAINER_(ID|NAMESPACE)=' >>$D/env; printf '[%s]' \"$@\" >$D/args\n"                                        \
    "std=$(readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2); echo \"$std\" >$D/std\n"                               \
    "echo >&5; cat <&3 >$D/out; cat <&4 >$D/err; touch $D/ended"

static void expect_no_children(struct fixture *f) {
    siginfo_t si;
    RUN_UNTIL(f->event, waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD);
}

static void test_logger(void **state) {
    struct fixture *f = *state;
    assert_int_equal(setenv("KEPT", "kept", 1), 0);
    assert_int_equal(setenv("CONTAINER_ID", "stale", 1), 0);
    cleanup_free char *uri = logger_uri(f, "log ger", KEEP, "?key=a%20v%26+x&flag&empty=&%6B2=v2");
    char *blank = strchr(uri, ' ');
    *blank = '?'; /* replaced by %20 below */
    cleanup_free char *encoded = str_printf("%.*s%%20%s", (int)(blank - uri), uri, blank + 1);
    f->spec.out = f->spec.err = encoded;
    open_ok(f);
    assert_int_equal(unsetenv("CONTAINER_ID"), 0);
    assert_int_equal(f->io.out_kind, STDIO_LOG);
    assert_int_equal(f->io.err_kind, STDIO_LOG);
    expect_text(f, "env", "ctr-1 k8s.io kept /\n2\n");
    expect_text(f, "args", "[key][a v& x][flag][empty][][k2][v2]");
    expect_text(f, "std", "/dev/null\n/dev/null\n/dev/null\n");
    assert_int_equal(write(f->io.out, "to stdout", 9), 9);
    assert_int_equal(write(f->io.err, "to stderr", 9), 9);
    process_stdio_close(&f->io);
    RUN_UNTIL(f->event, exists(f, "ended"));
    expect_text(f, "out", "to stdout");
    expect_text(f, "err", "to stderr");
    expect_no_children(f); /* reaped by the loop */
}

/* Two programs, or one stream only: the other fd is at its end. */
static void test_two_loggers(void **state) {
    struct fixture *f = *state;
    cleanup_free char *one = logger_uri(f, "one", "exec 5>&-; cat <&3 >$D/out1; cat <&4 >$D/err1; touch $D/end1", ""),
                      *two = logger_uri(f, "two", "exec 5>&-; cat <&3 >$D/out2; cat <&4 >$D/err2; touch $D/end2", "");
    f->spec.out = one;
    f->spec.err = two;
    open_ok(f);
    assert_int_equal(write(f->io.out, "O", 1), 1);
    assert_int_equal(write(f->io.err, "E", 1), 1);
    process_stdio_close(&f->io);
    RUN_UNTIL(f->event, exists(f, "end1") && exists(f, "end2"));
    expect_text(f, "out1", "O");
    expect_text(f, "err1", "");
    expect_text(f, "out2", "");
    expect_text(f, "err2", "E");
    expect_no_children(f);
}

static void test_logger_terminal(void **state) {
    struct fixture *f = *state;
    cleanup_free char *uri = logger_uri(f, "logger", KEEP, "");
    f->spec.terminal = true;
    f->spec.out = f->spec.err = uri;
    open_ok(f);
    assert_true(f->io.terminal);
    assert_int_equal(f->io.err, -1);
    assert_int_equal(write(f->io.out, "tty", 3), 3);
    process_stdio_close(&f->io);
    RUN_UNTIL(f->event, exists(f, "ended"));
    expect_text(f, "out", "tty");
    expect_text(f, "err", "");
    expect_no_children(f);
}

static void test_logger_missing(void **state) {
    struct fixture *f = *state;
    size_t before = count_fds();
    f->spec.out = f->spec.err = "binary:///nonexistent/logger";
    open_fails(f, -ENOENT, "stdout: cannot run /nonexistent/logger");
    assert_int_equal(count_fds(), before);
}

static void test_logger_never_ready(void **state) {
    struct fixture *f = *state;
    cleanup_free char *uri = logger_uri(f, "logger", "exec sleep 600", "");
    size_t before = count_fds();
    f->spec.logger_ready_usec = 100 * USEC_PER_MSEC;
    f->spec.out = uri;
    open_fails_later(f, ETIMEDOUT, "stdout: logger ");
    ASSERT_SAYS(&f->err, "was not ready within 0.1 s and was killed");
    expect_no_children(f);
    assert_true(count_fds() <= before + 1); /* sd-event's timerfd */
}

static void test_logger_dies_early(void **state) {
    struct fixture *f = *state;
    cleanup_free char *exits = logger_uri(f, "exits", "exit 7", ""), *dies = logger_uri(f, "dies", "kill -KILL $$", "");
    f->spec.out = f->spec.err = exits;
    open_fails_later(f, EIO, "exits ended with exit code 7 before it was ready");
    f->n_done = 0;
    f->err = (struct err)ERR_INIT;
    f->spec.out = "";
    f->spec.err = dies;
    open_fails_later(f, EIO, "stderr: logger ");
    ASSERT_SAYS(&f->err, "ended with signal 9");
    expect_no_children(f);
}

/* The other one is not left behind. */
static void test_one_of_two_fails(void **state) {
    struct fixture *f = *state;
    cleanup_free char *bad = logger_uri(f, "bad", "exit 1", ""), *slow = logger_uri(f, "slow", "exec sleep 600", "");
    f->spec.out = slow;
    f->spec.err = bad;
    open_fails_later(f, EIO, "stderr: ");
    expect_no_children(f);
}

/* A logger that dies at work is reaped, and the loop's end leaves one at work alone. */
static void test_logger_dies_late(void **state) {
    struct fixture *f = *state;
    cleanup_free char *uri = logger_uri(f, "logger", "echo >&5; read line <&3; exit 3", "");
    f->spec.out = uri;
    open_ok(f);
    assert_int_equal(write(f->io.out, "go\n", 3), 3);
    expect_no_children(f);
    assert_int_equal(write(f->io.out, "x", 1), -1);
    assert_int_equal(errno, EPIPE);
}

static void test_logger_outlives_loop(void **state) {
    struct fixture *f = *state;
    cleanup_free char *uri = logger_uri(f, "logger", KEEP, "");
    f->spec.out = uri;
    open_ok(f);
    f->event = sd_event_unref(f->event);
    assert_int_equal(sd_event_new(&f->event), 0);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), 0); /* alive */
    assert_int_equal(write(f->io.out, "last words", 10), 10);
    process_stdio_close(&f->io);
    expect_text(f, "out", "last words");
    assert_true(waitpid(-1, NULL, 0) > 0);
}

static void test_cancel_logger(void **state) {
    struct fixture *f = *state;
    cleanup_free char *uri = logger_uri(f, "logger", "touch $D/started; exec sleep 600", "");
    f->spec.out = f->spec.err = uri;
    assert_int_equal(stdio_open(f->event, &f->spec, on_done, f, &f->opening, NULL), 0);
    RUN_UNTIL(f->event, exists(f, "started"));
    f->opening = stdio_cancel(f->opening);
    expect_no_children(f);
    assert_int_equal(f->n_done, 0);
}

/* A daemon has a mount namespace of its own, the logger the host's; it goes on when the daemon ends. In a child, which
 * can do both. */
static void test_logger_of_daemon(void **state) {
    struct fixture *f = *state;
    cleanup_free char *uri = logger_uri(f, "logger", "ls $D/mnt >$D/seen; echo >&5; cat <&3 >$D/out; echo end >>$D/out",
                                        ""),
                      *mnt = tmpdir_path(f->t, "mnt"), *host = tmpdir_path(f->t, "mnt/host");
    assert_int_equal(mkdir(mnt, 0755), 0);
    assert_int_equal(mkdir(host, 0755), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = dup2(open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC), 3); /* where the logger has another */
        if (fd < 0 || !own_mounts() || mount("none", mnt, "tmpfs", 0, NULL) < 0)
            _exit(EXIT_SKIPPED);
        f->spec.out = uri;
        f->spec.host = &(struct host_namespaces){.mnt = fd, .net = -1};
        sd_event *event = NULL;
        struct err err = ERR_INIT;
        if (sd_event_new(&event) < 0 || stdio_open(event, &f->spec, on_done, f, &f->opening, &err) < 0) {
            fprintf(stderr, "%s\n", err.msg);
            _exit(1);
        }
        for (uint64_t end = now_usec() + TEST_DEADLINE; !f->n_done && now_usec() < end;)
            if (sd_event_run(event, 10 * USEC_PER_MSEC) < 0)
                _exit(1);
        _exit(f->n_done == 1 && !f->err.code && write(f->io.out, "last words ", 11) == 11 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WEXITSTATUS(status) == EXIT_SKIPPED)
        skip();
    assert_int_equal(status, 0);
    expect_text(f, "seen", "host\n");
    expect_text(f, "out", "last words end\n");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_none),
        TEST(test_fds),
        TEST(test_fds_of_refused),
        TEST(test_fds_missing),
        TEST(test_fds_terminal),
        TEST(test_fifos),
        TEST(test_fifo_wrong),
        TEST(test_file),
        TEST(test_file_wrong),
        TEST(test_bad_uris),
        TEST(test_cancel),
        TEST(test_logger),
        TEST(test_two_loggers),
        TEST(test_logger_terminal),
        TEST(test_logger_missing),
        TEST(test_logger_never_ready),
        TEST(test_logger_dies_early),
        TEST(test_one_of_two_fails),
        TEST(test_logger_dies_late),
        TEST(test_logger_outlives_loop),
        TEST(test_cancel_logger),
        TEST(test_logger_of_daemon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
