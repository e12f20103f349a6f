/* SPDX-License-Identifier: Apache-2.0 */
/* The service as the daemon sees it: over a channel, in one loop with the agent. */
#include "agent/console.h"
#include "agent/rpc.h"
#include "fake_guest.h"
#include "proto/agent.pb-c.h"
#include "ttrpc/client.h"
#include "ttrpc/server.h"

#include <sys/socket.h>

#define MSG(name) Stasis__Agent__V1__##name
#define SERVICE (&stasis__agent__v1__agent__descriptor)

struct host {
    struct guest *g;
    struct ttrpc_client *client;
    int fd; /* a duplicate of the client's end, to begin another session on */
};

struct answer {
    int n, code;
    char msg[200];
    ProtobufCMessage *reply; /* the test's */
};

static void on_answer(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct answer *a = userdata;
    a->n++;
    a->code = err ? err->code : 0;
    snprintf(a->msg, sizeof(a->msg), "%.190s", err ? err->msg : "");
    if (reply)
        a->reply = TAKE_PTR(*reply);
}

static void answer_clear(struct answer *a) {
    if (a->reply)
        protobuf_c_message_free_unpacked(a->reply, NULL);
    *a = (struct answer){0};
}

static void begin_session(struct host *h) {
    assert_int_equal(ttrpc_client_new_channel(h->g->f->event, fcntl(h->fd, F_DUPFD_CLOEXEC, 3), TEST_DEADLINE, NULL,
                                              NULL, &h->client, NULL),
                     0);
    RUN_UNTIL(h->g->f->event, ttrpc_client_is_ready(h->client));
}

static int host_setup(void **state) {
    void *guest = NULL;
    int fds[2];
    if (guest_setup(&guest) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return -1;
    struct host *h = calloc(1, sizeof(*h));
    h->g = guest;
    h->fd = fds[0];
    if (rpc_start(&h->g->a, fds[1], NULL) < 0)
        return -1;
    begin_session(h);
    *state = h;
    return 0;
}

static int host_teardown(void **state) {
    struct host *h = *state;
    void *guest = h->g;
    ttrpc_client_free(h->client);
    close(h->fd);
    while (h->g->a.consoles)
        console_delete(&h->g->a, h->g->a.consoles->exec_id, NULL);
    /* First the containers: what is pending is answered into a server that still is. */
    guest_clear(h->g);
    oom_void(&h->g->a);
    ttrpc_server_free(h->g->a.server);
    free(h);
    return guest_teardown(&guest);
}

#define HOST_TEST(fn) cmocka_unit_test_setup_teardown(fn, host_setup, host_teardown)

static void call(struct host *h, const char *method, const void *request, struct answer *a) {
    struct err err = ERR_INIT;
    if (ttrpc_client_call(h->client, SERVICE, method, request, TEST_DEADLINE, on_answer, a, NULL, &err) < 0)
        fail_msg("%s: %s", method, err.msg);
}

static void call_wait(struct host *h, const char *method, const void *request, struct answer *a) {
    answer_clear(a);
    call(h, method, request, a);
    RUN_UNTIL(h->g->f->event, a->n);
}

static MSG(ProcessId) process_id(const char *container, const char *exec) {
    MSG(ProcessId) id = STASIS__AGENT__V1__PROCESS_ID__INIT;
    id.container_id = (char *)container;
    id.exec_id = (char *)exec;
    return id;
}

/* Not Shutdown, which ends this machine, and not Check, which loads modules into its kernel. */
static const char *const methods[] = {
    "CreateContainer", "StartContainer", "DeleteContainer", "Exec",    "DeleteProcess", "Signal", "Wait",   "Read",
    "CloseOutput",     "Write",          "CloseStdin",      "Resize",  "Pause",         "Resume", "Update", "Stats",
    "Processes",       "Console",        "Checkpoint",      "Restore",
};

/* Requests that name nothing, and requests that name what is not there. */
static void test_empty_requests(void **state) {
    struct host *h = *state;
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        struct answer a = {0};
        const ProtobufCMethodDescriptor *m = protobuf_c_service_descriptor_get_method_by_name(SERVICE, methods[i]);
        assert_non_null(m);
        cleanup_free ProtobufCMessage *request = calloc(1, m->input->sizeof_message);
        protobuf_c_message_init(m->input, request);
        call_wait(h, methods[i], request, &a);
        if (a.code == 0 || a.code == ENOSYS)
            fail_msg("%s: %d %s", methods[i], a.code, a.msg);
        answer_clear(&a);
    }
}

/* Every method of the service is served. */
static void test_complete(void **state) {
    (void)state;
    static const char *const others[] = {"Hello", "Events", "Check", "Freeze", "Thaw", "Forget", "Inspect", "Shutdown"};
    for (unsigned i = 0; i < SERVICE->n_methods; i++) {
        bool found = false;
        for (size_t k = 0; k < ARRAY_SIZE(methods); k++)
            found |= strcmp(methods[k], SERVICE->methods[i].name) == 0;
        for (size_t k = 0; k < ARRAY_SIZE(others); k++)
            found |= strcmp(others[k], SERVICE->methods[i].name) == 0;
        if (!found)
            fail_msg("%s has no test", SERVICE->methods[i].name);
    }
}

/* One that names nothing has nothing to do, and says so; a path that is none is refused. */
static void test_forget(void **state) {
    struct host *h = *state;
    struct answer a = {0};
    char bad[] = "../c1", good[] = "c1", *paths[] = {bad};
    MSG(ForgetRequest) req = STASIS__AGENT__V1__FORGET_REQUEST__INIT;
    assert_int_equal(path_mkdirs(h->g->a.share_dir, 0755, NULL), 0);
    call_wait(h, "Forget", &req, &a);
    assert_int_equal(a.code, 0);
    req.paths = paths;
    req.n_paths = 1;
    call_wait(h, "Forget", &req, &a);
    assert_int_equal(a.code, EINVAL);
    paths[0] = good;
    call_wait(h, "Forget", &req, &a);
    assert_int_equal(a.code, 0);
    answer_clear(&a);
}

static void test_hello(void **state) {
    struct host *h = *state;
    MSG(HelloRequest) req = STASIS__AGENT__V1__HELLO_REQUEST__INIT; /* leaves clock and host name */
    struct answer a = {0};
    req.console = true;
    call_wait(h, "Hello", &req, &a);
    assert_int_equal(a.code, 0);
    const MSG(HelloResponse) *r = (const void *)a.reply;
    assert_int_equal(r->version, AGENT_PROTOCOL_VERSION);
    assert_string_equal(r->agent_version, STASIS_VERSION);
    assert_true(r->uptime_usec > 0);
    assert_true(h->g->a.console_allowed);
    req.log_level = 9;
    call_wait(h, "Hello", &req, &a);
    assert_int_equal(a.code, EINVAL);
    answer_clear(&a);
}

static void create_and_start(struct host *h, const char *id) {
    MSG(CreateContainerRequest) create = STASIS__AGENT__V1__CREATE_CONTAINER_REQUEST__INIT;
    MSG(ContainerRequest) req = STASIS__AGENT__V1__CONTAINER_REQUEST__INIT;
    struct answer a = {0};
    create.id = req.id = (char *)id;
    create.spec.data = (uint8_t *)(char[]){"{}"};
    create.spec.len = 2;
    create.stdin = create.stdout = create.stderr = true;
    call_wait(h, "CreateContainer", &create, &a);
    if (a.code)
        fail_msg("create: %s", a.msg);
    assert_true(((const MSG(CreateContainerResponse) *)a.reply)->pid > 1);
    call_wait(h, "StartContainer", &req, &a);
    assert_int_equal(a.code, 0);
    answer_clear(&a);
}

static void test_container(void **state) {
    struct host *h = *state;
    MSG(ContainerRequest) req = STASIS__AGENT__V1__CONTAINER_REQUEST__INIT;
    MSG(ProcessId) id = process_id("c1", "");
    MSG(WriteRequest) write = STASIS__AGENT__V1__WRITE_REQUEST__INIT;
    MSG(ReadRequest) read = STASIS__AGENT__V1__READ_REQUEST__INIT;
    struct answer a = {0}, w = {0};
    tmpdir_write(h->g->f->dir, "program", "read x; echo got $x; exit 4");
    create_and_start(h, "c1");
    req.id = id.container_id;
    call(h, "Wait", &id, &w);
    write.id = read.id = &id;
    write.data.data = (uint8_t *)(char[]){"hi\n"};
    write.data.len = 3;
    call_wait(h, "Write", &write, &a);
    assert_int_equal(((const MSG(WriteResponse) *)a.reply)->written, 3);
    read.stream = STASIS__AGENT__V1__STREAM__STDOUT;
    read.max = 1000;
    call_wait(h, "Read", &read, &a);
    const MSG(ReadResponse) *r = (const void *)a.reply;
    assert_int_equal(r->data.len, 7);
    assert_memory_equal(r->data.data, "got hi\n", 7);
    assert_false(r->eof);
    call_wait(h, "Read", &read, &a);
    assert_true(((const MSG(ReadResponse) *)a.reply)->eof);
    RUN_UNTIL(h->g->f->event, w.n);
    assert_int_equal(((const MSG(WaitResponse) *)w.reply)->exit_code, 4);
    assert_true(((const MSG(WaitResponse) *)w.reply)->exited_wall_usec > 0);
    read.stream = STASIS__AGENT__V1__STREAM__STDIN;
    call_wait(h, "Read", &read, &a);
    assert_int_equal(a.code, EINVAL);
    call_wait(h, "Stats", &req, &a);
    assert_int_equal(a.code, 0);
    call_wait(h, "Processes", &req, &a);
    assert_int_equal(a.code, 0);
    call_wait(h, "DeleteContainer", &req, &a);
    assert_int_equal(a.code, 0);
    call_wait(h, "DeleteContainer", &req, &a);
    assert_int_equal(a.code, ENOENT);
    answer_clear(&a);
    answer_clear(&w);
}

static void test_exec(void **state) {
    struct host *h = *state;
    MSG(ProcessId) id = process_id("c1", "e1");
    MSG(ExecRequest) exec = STASIS__AGENT__V1__EXEC_REQUEST__INIT;
    MSG(SignalRequest) sig = STASIS__AGENT__V1__SIGNAL_REQUEST__INIT;
    struct answer a = {0};
    create_and_start(h, "c1");
    exec.id = sig.id = &id;
    exec.process.data = (uint8_t *)(char[]){"{}"};
    exec.process.len = 2;
    tmpdir_write(h->g->f->dir, "fail-exec",
                 "{\"msg\":\"executable file `foo` not found in $PATH\","
                 "\"level\":\"error\"}\n");
    call_wait(h, "Exec", &exec, &a);
    assert_int_equal(a.code, ENOENT);
    assert_non_null(strstr(a.msg, "exec: \"foo\": executable file not found in $PATH"));
    tmpdir_remove(h->g->f->dir, "fail-exec");
    call_wait(h, "Exec", &exec, &a);
    assert_int_equal(a.code, 0);
    sig.signal = 1000000;
    call_wait(h, "Signal", &sig, &a);
    assert_int_equal(a.code, EINVAL);
    sig.signal = UINT32_MAX;
    call_wait(h, "Signal", &sig, &a);
    assert_int_equal(a.code, EINVAL);
    sig.signal = SIGTERM;
    call_wait(h, "Signal", &sig, &a);
    assert_int_equal(a.code, 0);
    call_wait(h, "Wait", &id, &a);
    assert_int_equal(((const MSG(WaitResponse) *)a.reply)->exit_code, 128 + SIGTERM);
    call_wait(h, "DeleteProcess", &id, &a);
    assert_int_equal(a.code, 0);
    answer_clear(&a);
}

/* A new session voids what the old one asked for, and nothing else. */
static void test_new_session(void **state) {
    struct host *h = *state;
    MSG(ProcessId) id = process_id("c1", "");
    MSG(ReadRequest) read = STASIS__AGENT__V1__READ_REQUEST__INIT;
    MSG(ContainerRequest) any = STASIS__AGENT__V1__CONTAINER_REQUEST__INIT;
    struct answer r = {0}, w = {0}, e = {0};
    tmpdir_write(h->g->f->dir, "program", "read x; echo got $x; exec sleep 1000");
    create_and_start(h, "c1");
    struct container *c = container_find(&h->g->a, "c1");
    read.id = &id;
    read.stream = STASIS__AGENT__V1__STREAM__STDOUT;
    read.max = 1000;
    call(h, "Read", &read, &r);
    call(h, "Wait", &id, &w);
    call(h, "Events", &any, &e);
    RUN_UNTIL(h->g->f->event, c->init->out.fn && c->init->n_waiters && h->g->a.oom.n);
    ttrpc_client_free(h->client);
    assert_int_equal(r.n + w.n + e.n, 3);
    begin_session(h);
    assert_null(c->init->out.fn);
    assert_int_equal(c->init->n_waiters, 0);
    assert_int_equal(h->g->a.oom.n, 0);
    assert_int_equal(c->state, CONTAINER_RUNNING);
    answer_clear(&r);
    call(h, "Read", &read, &r);
    assert_int_equal(writer_write(&c->init->in, "hi\n", 3, NULL, NULL, NULL), 0);
    RUN_UNTIL(h->g->f->event, r.n);
    assert_int_equal(((const MSG(ReadResponse) *)r.reply)->data.len, 7);
    answer_clear(&r);
}

static void test_console(void **state) {
    struct host *h = *state;
    MSG(ProcessId) id = process_id("", "con");
    MSG(ExecRequest) req = STASIS__AGENT__V1__EXEC_REQUEST__INIT;
    MSG(WriteRequest) write = STASIS__AGENT__V1__WRITE_REQUEST__INIT;
    struct answer a = {0};
    req.id = write.id = &id;
    req.terminal = true;
    call_wait(h, "Console", &req, &a);
    assert_int_equal(a.code, EPERM);
    h->g->a.console_allowed = true;
    call_wait(h, "Console", &req, &a);
    if (a.code)
        fail_msg("console: %s", a.msg);
    call_wait(h, "Console", &req, &a);
    assert_int_equal(a.code, EEXIST);
    write.data.data = (uint8_t *)(char[]){"exit 3\n"};
    write.data.len = 7;
    call_wait(h, "Write", &write, &a);
    call_wait(h, "Wait", &id, &a);
    assert_int_equal(((const MSG(WaitResponse) *)a.reply)->exit_code, 3);
    call_wait(h, "DeleteProcess", &id, &a);
    assert_int_equal(a.code, 0);
    call_wait(h, "DeleteProcess", &id, &a);
    assert_int_equal(a.code, ENOENT);
    /* One that still runs is ended. */
    call_wait(h, "Console", &req, &a);
    call_wait(h, "DeleteProcess", &id, &a);
    assert_int_equal(a.code, 0);
    RUN_UNTIL(h->g->f->event, waitid(P_ALL, 0, NULL, WEXITED | WNOHANG | WNOWAIT) < 0);
    answer_clear(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        HOST_TEST(test_empty_requests), cmocka_unit_test(test_complete), HOST_TEST(test_forget),
        HOST_TEST(test_hello),          HOST_TEST(test_container),       HOST_TEST(test_exec),
        HOST_TEST(test_new_session),    HOST_TEST(test_console),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
