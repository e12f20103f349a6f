/* SPDX-License-Identifier: Apache-2.0 */
/* containerd's end of the events: a ttrpc server on a socket in the test's directory that keeps what it is sent. */
#pragma once

#include "../sandbox/support.h"

#include <sys/un.h>

#include "base/log.h"
#include "proto/events.pb-c.h"
#include "proto/forward.pb-c.h"
#include "shim/publish.h"
#include "ttrpc/server.h"

typedef Containerd__Services__Events__Ttrpc__V1__ForwardRequest ForwardRequest;

#define RECEIVED_MAX 4096

struct mock_events {
    struct tmpdir *dir;
    sd_event *event; /* the test's and the publisher's */
    char *path;      /* of the socket */
    struct ttrpc_server *server;
    bool unimplemented;
    bool hold;                  /* keep the next request, answered or not by the test */
    struct ttrpc_request *kept; /* one at most */
    int fail;                   /* errno; answers so, */
    size_t fail_first;          /* to the first so many, */
    size_t fail_at;             /* and to the one with this number */
    size_t n_disconnects;
    ForwardRequest *received[RECEIVED_MAX];
    size_t n;
    struct publisher *p;
    char *log;
};

static inline void on_forward(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct mock_events *m = userdata;
    struct err err = ERR_INIT;
    size_t len = protobuf_c_message_get_packed_size(in);
    cleanup_free uint8_t *buf = malloc(len);
    assert_non_null(buf);
    protobuf_c_message_pack(in, buf);
    assert_true(m->n < RECEIVED_MAX);
    m->received[m->n] =
        (ForwardRequest *)protobuf_c_message_unpack(in->descriptor, NULL, len, buf); /* a copy that stays */
    assert_non_null(m->received[m->n]);
    m->n++;
    if (m->hold) {
        assert_null(m->kept);
        m->kept = req;
    } else if (m->n <= m->fail_first || m->n == m->fail_at) {
        err_set(&err, m->fail, "refused by the test");
        ttrpc_fail(req, &err);
    } else {
        ttrpc_reply(req, NULL);
    }
}

/* Bound, listening and with nobody who accepts. Takes the place of one that is there. */
static inline int mock_events_bind(struct mock_events *m, int backlog) {
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", m->path);
    unlink(m->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, backlog), 0);
    return fd;
}

static inline void on_events_disconnect(void *userdata) {
    struct mock_events *m = userdata;
    m->n_disconnects++;
}

/* Takes fd. */
static inline void mock_events_serve(struct mock_events *m, int fd) {
    static const struct ttrpc_handler all[] = {{"Forward", on_forward}, {NULL, NULL}};
    static const struct ttrpc_service service = {.desc = &containerd__services__events__ttrpc__v1__events__descriptor,
                                                 .handlers = all};
    struct err err = ERR_INIT;
    assert_int_equal(ttrpc_server_new(m->event, &m->server, &err), 0);
    ttrpc_server_on_disconnect(m->server, on_events_disconnect, m);
    if (!m->unimplemented)
        assert_int_equal(ttrpc_server_add(m->server, &service, m, &err), 0);
    assert_int_equal(ttrpc_server_listen(m->server, fd, &err), 0);
}

static inline void mock_events_start(struct mock_events *m) {
    mock_events_serve(m, mock_events_bind(m, 16));
}

static inline void mock_events_stop(struct mock_events *m) {
    struct ttrpc_request *kept = TAKE_PTR(m->kept);
    m->server = ttrpc_server_free(m->server);
    if (kept)
        ttrpc_reply(kept, NULL); /* to nobody */
    m->hold = false;
}

static inline int mock_events_setup(void **state) {
    struct mock_events *m = calloc(1, sizeof(*m));
    void *dir = NULL;
    signal(SIGPIPE, SIG_IGN);
    if (tmpdir_setup(&dir) < 0 || sd_event_new(&m->event) < 0)
        return -1;
    m->dir = dir;
    m->path = tmpdir_path(m->dir, "events.sock");
    cleanup_free char *log = tmpdir_path(m->dir, "log");
    int fd = open(log, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    log_set_fd(fd);
    log_set_level(LOG_LEVEL_DEBUG);
    *state = m;
    return fd < 0 ? -1 : 0;
}

static inline int mock_events_teardown(void **state) {
    struct mock_events *m = *state;
    void *dir = m->dir;
    publisher_free(m->p);
    mock_events_stop(m);
    for (size_t i = 0; i < m->n; i++)
        protobuf_c_message_free_unpacked(&m->received[i]->base, NULL);
    fd_close(log_get_fd());
    log_set_fd(STDERR_FILENO);
    sd_event_unref(m->event);
    free(m->path);
    free(m->log);
    free(m);
    return tmpdir_teardown(&dir);
}

static inline void mock_events_connect(struct mock_events *m, const char *program) {
    struct err err = ERR_INIT;
    cleanup_free char *address = str_printf("unix://%s", m->path);
    struct publisher_spec spec = {
        .ttrpc_address = address, .grpc_address = "/run/grpc.sock", .namespace = "ns", .publish_binary = program};
    assert_int_equal(publisher_new(m->event, &spec, &m->p, &err), 0);
}

/* A file in the test's directory; NULL if there is none. Valid until the next call. */
static inline const char *text_of(struct mock_events *m, const char *name) {
    cleanup_free char *path = tmpdir_path(m->dir, name);
    free(TAKE_PTR(m->log));
    (void)file_read_at(AT_FDCWD, path, 1 << 20, &m->log, NULL, NULL);
    return m->log;
}

/* How often the log says so. */
static inline size_t logged(struct mock_events *m, const char *what) {
    size_t n = 0;
    for (const char *at = text_of(m, "log"); at && (at = strstr(at, what)); at++)
        n++;
    return n;
}

/* The i-th event that came, checked and decoded. The caller frees it. */
static inline void *received(struct mock_events *m, size_t i, const char *topic, const char *type_url,
                             const ProtobufCMessageDescriptor *desc) {
    assert_true(i < m->n);
    const Containerd__Services__Events__Ttrpc__V1__Envelope *e = m->received[i]->envelope;
    assert_non_null(e);
    assert_non_null(e->event);
    assert_non_null(e->timestamp);
    assert_string_equal(e->namespace_, "ns");
    assert_string_equal(e->topic, topic);
    assert_string_equal(e->event->type_url, type_url);
    void *msg = protobuf_c_message_unpack(desc, NULL, e->event->value.len, e->event->value.data);
    assert_non_null(msg);
    return msg;
}
