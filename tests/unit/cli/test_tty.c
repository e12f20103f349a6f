/* SPDX-License-Identifier: Apache-2.0 */
/* Terminals: relayed in the foreground, handed out over a console socket, and the debug console. */
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>

#include "program.h"

/* The other side of a terminal and what it has shown so far. */
struct screen {
    int fd;
    char text[65536];
    size_t len;
};

/* Reads until the text was shown (after what was expected before). */
static void expect(struct screen *s, const char *text) {
    uint64_t end = now_usec() + TEST_DEADLINE;
    for (;;) {
        s->text[s->len] = '\0';
        char *at = strstr(s->text, text);
        if (at) {
            size_t used = (size_t)(at - s->text) + strlen(text);
            memmove(s->text, s->text + used, s->len - used + 1);
            s->len -= used;
            return;
        }
        uint64_t now = now_usec();
        if (now > end || fd_wait(s->fd, POLLIN, end - now) == 0 || s->len == sizeof(s->text) - 1)
            fail_msg("\"%s\" was not shown, but \"%s\"", text, s->text);
        ssize_t n = read(s->fd, s->text + s->len, sizeof(s->text) - 1 - s->len);
        if (n <= 0)
            fail_msg("the end came before \"%s\", after \"%s\"", text, s->text);
        s->len += (size_t)n;
    }
}

static void type(struct screen *s, const char *text) {
    assert_int_equal(fd_write_all(s->fd, text, strlen(text)), 0);
}

static void resize(struct screen *s, unsigned short width, unsigned short height) {
    struct winsize ws = {.ws_col = width, .ws_row = height};
    assert_int_equal(ioctl(s->fd, TIOCSWINSZ, &ws), 0);
}

static bool is_raw(int fd) {
    struct termios t;
    return tcgetattr(fd, &t) == 0 && !(t.c_lflag & ICANON);
}

/* Starts stasis with a terminal of its own. */
static pid_t spawn_on_terminal(const struct program *p, struct screen *s, ...) {
    char *argv[ARGS_MAX] = {p->stasis, (char *)"--root", p->root};
    size_t n = 3;
    va_list ap;
    va_start(ap, s);
    while ((argv[n] = va_arg(ap, char *)))
        assert_true(++n < ARGS_MAX);
    va_end(ap);
    struct winsize ws = {.ws_col = 77, .ws_row = 33};
    *s = (struct screen){.fd = -1};
    pid_t pid = forkpty(&s->fd, NULL, NULL, &ws);
    if (pid == 0) {
        execv(argv[0], argv);
        _exit(99);
    }
    assert_true(pid > 0);
    fd_set_cloexec(s->fd, true);
    return pid;
}

#define SHELL "PS1='# ' ENV= exec /bin/sh -i"

static void relays_in_the_foreground(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", true, NULL, SHELL);
    struct screen *s = malloc(sizeof(*s));
    pid_t pid = spawn_on_terminal(p, s, "run", "-b", b, "c1", NULL);
    expect(s, "# ");
    assert_true(is_raw(s->fd));
    type(s, "stty size\n");
    expect(s, "33 77");
    resize(s, 100, 40);
    /* The signal is on its way; the question is asked until the answer is new. */
    type(s, "until test \"$(stty size)\" = '40 100'; do sleep 0.05; done; echo resi''zed\n");
    expect(s, "resized");
    expect(s, "# ");
    type(s, "sh -c 'echo sle\"\"eping; exec sleep 1000'\n");
    expect(s, "sleeping");
    type(s, "\x03");
    expect(s, "# ");
    type(s, "head -c 200000 /dev/zero | tr '\\0' x; exit 5\n");
    expect(s, "xxxxxxxxxx");
    size_t n = 0;
    char buf[4096];
    ssize_t got;
    while ((got = read(s->fd, buf, sizeof(buf))) > 0)
        n += (size_t)got;
    assert_true(n > 100000);
    assert_int_equal(program_wait(pid), 5);
    close(s->fd);
    free(s);
}

/* After the end the terminal is as it was. */
static void restores_the_terminal(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", true, NULL, "echo re''ady; exec sleep 1000");
    struct screen *s = malloc(sizeof(*s));
    int slave = -1;
    *s = (struct screen){.fd = -1};
    assert_int_equal(openpty(&s->fd, &slave, NULL, NULL, NULL), 0);
    assert_false(is_raw(slave));
    pid_t pid = program_spawn(p, (int[]){slave, slave, slave}, "run", "-b", b, "c1", NULL);
    expect(s, "ready");
    assert_true(is_raw(slave));
    kill(pid, SIGTERM);
    assert_int_equal(program_wait(pid), 128 + SIGTERM);
    assert_false(is_raw(slave));
    close(slave);
    close(s->fd);
    free(s);
}

static void needs_a_terminal(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", true, NULL, "true");
    /* Not in a session with one: the test itself may have been started on a terminal. */
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        cleanup_result struct result r = program_run(p, NULL, "run", "-b", b, "c1", NULL);
        _exit(r.code == 1 && strstr(r.err, "this process has none") ? 0 : 1);
    }
    assert_int_equal(program_wait(pid), 0);
}

/* stdin is a terminal, but the process has none. */
static void relays_stdin_of_a_terminal(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, NULL, "echo re''ady; cat; exit 3");
    struct screen *s = malloc(sizeof(*s));
    pid_t pid = spawn_on_terminal(p, s, "run", "-b", b, "c1", NULL);
    expect(s, "ready");
    assert_false(is_raw(s->fd));
    type(s, "abc\n");
    expect(s, "abc\r\nabc\r\n"); /* the echo, and what cat wrote */
    type(s, "\x04");
    assert_int_equal(program_wait(pid), 3);
    close(s->fd);
    free(s);
}

/* A console socket, as conmon has one. */
struct console {
    int listener;
    char *path;
};

static void console_open(const struct program *p, struct console *c) {
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    c->path = tmpdir_path(p->dir, "console.sock");
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", c->path);
    c->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(c->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(c->listener, 1), 0);
}

/* Takes the terminal that was sent. */
static struct screen *console_accept(struct console *c) {
    int fds[FD_PASS_MAX];
    char name[128];
    size_t n = 0;
    assert_true(fd_wait(c->listener, POLLIN, TEST_DEADLINE) & POLLIN);
    int conn = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd_wait(conn, POLLIN, TEST_DEADLINE) & POLLIN);
    ssize_t len = fd_receive(conn, name, sizeof(name) - 1, fds, &n);
    assert_true(len > 0);
    name[len] = '\0';
    assert_memory_equal(name, "/dev/pts/", 9);
    assert_int_equal(n, 1);
    assert_true(isatty(fds[0]));
    close(conn);
    struct screen *s = malloc(sizeof(*s));
    *s = (struct screen){.fd = fds[0]};
    return s;
}

static void console_close(struct console *c) {
    close(c->listener);
    unlink(c->path);
    free(c->path);
}

static void hands_the_terminal_out(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", true, NULL, SHELL);
    struct console c;
    pid_t monitor = 0;
    console_open(p, &c);
    RUN(p, NULL, 0, "", NULL, "create", "--console-socket", c.path, "-b", b, "c1");
    struct screen *s = console_accept(&c);
    resize(s, 90, 30); /* before the start */
    (void)program_status(p, "c1", &monitor, NULL);
    RUN(p, NULL, 0, "", NULL, "start", "c1");
    expect(s, "# ");
    type(s, "until test \"$(stty size)\" = '30 90'; do sleep 0.05; done; echo resi''zed\n");
    expect(s, "resized");
    type(s, "exit 6\n");
    assert_int_equal(program_wait(monitor), 6);
    close(s->fd);
    free(s);
    RUN(p, NULL, 0, "", NULL, "delete", "c1");
    console_close(&c);
}

/* Whoever holds the master lets go: the process is hung up. */
static void hangs_up(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, NULL, "exec sleep 1000");
    cleanup_free char *pid_file = tmpdir_path(p->dir, "pid");
    cleanup_free char *text = NULL;
    struct console c;
    console_open(p, &c);
    RUN(p, NULL, 0, "", NULL, "run", "-d", "-b", b, "c1");
    RUN(p, NULL, 0, "", NULL, "exec", "-d", "-t", "--console-socket", c.path, "--pid-file", pid_file, "c1", "/bin/sh",
        "-c", "trap 'exit 11' HUP; echo re''ady; while :; do sleep 0.05; done");
    struct screen *s = console_accept(&c);
    expect(s, "ready");
    close(s->fd);
    free(s);
    assert_int_equal(file_read_at(AT_FDCWD, pid_file, 32, &text, NULL, NULL), 0);
    assert_int_equal(program_wait(atoi(text)), 11);
    RUN(p, NULL, 0, "", NULL, "delete", "-f", "c1");
    console_close(&c);
}

static void opens_the_debug_console(void **state) {
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, NULL, "exec sleep 1000");
    RUN(p, NULL, 0, "", NULL, "run", "-d", "-b", b, "c1");
    struct screen *s = malloc(sizeof(*s));
    pid_t pid = spawn_on_terminal(p, s, "console", "c1", NULL);
    expect(s, "a shell in the guest of c1");
    expect(s, "# ");
    type(s, "stty size; exit 3\n");
    expect(s, "33 77");
    assert_int_equal(program_wait(pid), 3);
    close(s->fd);
    pid = spawn_on_terminal(p, s, "console", "c1", NULL);
    expect(s, "# ");
    type(s, "\x1d");
    type(s, "\x1d");
    expect(s, "left the console");
    assert_int_equal(program_wait(pid), 0);
    close(s->fd);
    free(s);
    RUN(p, NULL, 0, "", NULL, "delete", "-f", "c1");
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, program_setup, program_teardown)
    const struct CMUnitTest tests[] = {
        TEST(relays_in_the_foreground),   TEST(restores_the_terminal),  TEST(needs_a_terminal),
        TEST(relays_stdin_of_a_terminal), TEST(hands_the_terminal_out), TEST(hangs_up),
        TEST(opens_the_debug_console),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
