/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <sys/resource.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "ttrpc/server.h"

struct fixture {
    sd_event *event;
    struct ttrpc_server *server;
    struct sockaddr_un addr; /* abstract, chosen by the kernel */
    socklen_t len;
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = ERR_INIT;
    assert_non_null(f);
    f->event = new_event();
    f->addr.sun_family = AF_UNIX;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&f->addr, sizeof(sa_family_t)), 0);
    assert_int_equal(listen(fd, 300), 0);
    f->len = sizeof(f->addr);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&f->addr, &f->len), 0);
    assert_int_equal(ttrpc_server_new(f->event, &f->server, &err), 0);
    assert_int_equal(ttrpc_server_listen(f->server, fd, &err), 0);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    ttrpc_server_free(f->server);
    sd_event_unref(f->event);
    free(f);
    return 0;
}

static int connect_peer(struct fixture *f) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&f->addr, f->len), 0);
    return fd;
}

/* One more than fits ends at once, the others stay, and there is room again when they have gone. */
static void bounded(void **state) {
    struct fixture *f = *state;
    int peers[TTRPC_SERVER_CONNS_MAX + 1];
    for (size_t i = 0; i < ARRAY_SIZE(peers); i++)
        peers[i] = connect_peer(f);
    RUN_UNTIL(f->event, has_ended(peers[TTRPC_SERVER_CONNS_MAX]));
    assert_int_equal(ttrpc_server_connections(f->server), TTRPC_SERVER_CONNS_MAX);
    for (size_t i = 0; i < TTRPC_SERVER_CONNS_MAX; i++)
        assert_false(has_ended(peers[i]));
    for (size_t i = 0; i < ARRAY_SIZE(peers); i++)
        fd_close(peers[i]);
    RUN_UNTIL(f->event, ttrpc_server_connections(f->server) == 0);
    int again = connect_peer(f);
    RUN_UNTIL(f->event, ttrpc_server_connections(f->server) == 1);
    fd_close(again);
}

/* Without a free fd the loop must not spin on the connection that waits, and must take it when there is one again. */
static void out_of_fds(void **state) {
    struct fixture *f = *state;
    struct rlimit old, none;
    int peer = connect_peer(f);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    size_t turns = 0;
    for (uint64_t end = now_usec() + 150 * USEC_PER_MSEC; now_usec() < end; turns++)
        assert_true(sd_event_run(f->event, 30 * USEC_PER_MSEC) >= 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_true(turns < 20);
    assert_int_equal(ttrpc_server_connections(f->server), 0);
    RUN_UNTIL(f->event, ttrpc_server_connections(f->server) == 1);
    fd_close(peer);
}

/* Threat 23: the socket was made reachable for another user. */
static void other_users_are_refused(void **state) {
    struct fixture *f = *state;
    if (getuid() != 0)
        skip();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (setuid(65534) < 0 || connect(fd, (struct sockaddr *)&f->addr, f->len) < 0)
            _exit(2);
        char b;
        _exit(read(fd, &b, 1) == 0 ? 0 : 1); /* the end, at once */
    }
    int status = -1;
    RUN_UNTIL(f->event, waitpid(pid, &status, WNOHANG) == pid);
    assert_int_equal(status, 0);
    assert_int_equal(ttrpc_server_connections(f->server), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(out_of_fds, setup, teardown),
        cmocka_unit_test_setup_teardown(other_users_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
