/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent that lives in the test's own loop: what it is asked it counts and answers at once, or keeps until the test
 * says so. One process at a time.
 */
#pragma once

#include "support.h"

#include "proto/agent.pb-c.h"
#include "ttrpc/client.h"
#include "ttrpc/server.h"

/* What a process wrote and nobody has read yet. */
struct mock_output {
    uint8_t *data;
    size_t len;
    bool eof;
    struct ttrpc_request *read; /* unanswered: nothing to read yet */
    uint32_t max;               /* of it */
    size_t n_reads;
    size_t n_closed; /* CloseOutput */
};

struct mock_agent {
    struct ttrpc_server *server;
    struct mock_output output[3]; /* by Stream */
    uint8_t *input;               /* all that was written to stdin */
    size_t input_len;
    size_t n_writes, n_close_stdin;
    struct ttrpc_request *write; /* kept because of hold_write */
    bool hold_write;
    bool input_gone;            /* the process closed its stdin: a write takes nothing */
    struct ttrpc_request *kept; /* by hold: the last request of a method without a rule of its own */
    bool hold;                  /* keep it */
    int fail;                   /* answer it with this errno instead */
    struct ttrpc_request *waiter,
        *exec_waiter; /* of Wait: of an init (or the only process), and of an exec beside it */
    size_t n_waits, n_signals, n_others;
    uint32_t signal;
    bool signal_all;
    struct ttrpc_request *events; /* unanswered Events */
    char *spec;                   /* of the last CreateContainer */
    bool pin_namespaces;          /* of it */
    char last[256];  /* "container/exec" of the last call about a process, "container" of one about a container */
    char trace[256]; /* names of calls that change a container's state, as they came, each with a space before it */
    void (*on_dump)(
        const Stasis__Agent__V1__CheckpointRequest *req); /* what it does before it answers; NULL: nothing */
    Stasis__Agent__V1__CheckpointRequest *checkpoint;     /* the last one; NULL: none */
    Stasis__Agent__V1__RestoreRequest *restore;
    const char *says;                /* in each text of its answers; NULL: what fits */
    const char *fail_criu;           /* answers Checkpoint and Restore with this error (EIO) */
    bool hold_criu;                  /* keeps it */
    struct ttrpc_request *kept_criu; /* because of that */
};

static inline void mock_note(struct mock_agent *m, const Stasis__Agent__V1__ProcessId *id) {
    assert_non_null(id);
    snprintf(m->last, sizeof(m->last), "%.120s/%.120s", id->container_id, id->exec_id);
}

static inline void mock_fail(struct ttrpc_request **req, int code, const char *text) {
    struct err err = ERR_INIT;
    if (!*req)
        return;
    err_set(&err, code, "%s", text);
    ttrpc_fail(TAKE_PTR(*req), &err);
}

/* Output. */

static inline void mock_answer_read(struct mock_output *o) {
    Stasis__Agent__V1__ReadResponse out = STASIS__AGENT__V1__READ_RESPONSE__INIT;
    if (!o->read || (!o->len && !o->eof))
        return;
    out.eof = o->len == 0;
    out.data.data = o->data;
    out.data.len = MIN(o->len, (size_t)o->max);
    ttrpc_reply(TAKE_PTR(o->read), &out.base);
    o->len -= out.data.len;
    if (o->len)
        memmove(o->data, o->data + out.data.len, o->len);
}

static inline void mock_on_read(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct mock_agent *m = userdata;
    const Stasis__Agent__V1__ReadRequest *r = (const void *)in;
    mock_note(m, r->id);
    assert_true(r->stream == STASIS__AGENT__V1__STREAM__STDOUT || r->stream == STASIS__AGENT__V1__STREAM__STDERR);
    struct mock_output *o = &m->output[r->stream];
    assert_null(o->read); /* one at a time */
    o->n_reads++;
    o->read = req;
    o->max = r->max;
    mock_answer_read(o);
}

static inline void mock_on_close_output(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct mock_agent *m = userdata;
    const Stasis__Agent__V1__ReadRequest *r = (const void *)in;
    mock_note(m, r->id);
    struct mock_output *o = &m->output[r->stream];
    o->n_closed++;
    o->eof = true;
    o->len = 0;
    mock_answer_read(o);
    ttrpc_reply(req, NULL);
}

/* The process writes. */
static inline void mock_output(struct mock_agent *m, Stasis__Agent__V1__Stream stream, const void *data, size_t len) {
    struct mock_output *o = &m->output[stream];
    o->data = realloc(o->data, o->len + len);
    assert_non_null(o->data);
    memcpy(o->data + o->len, data, len);
    o->len += len;
    mock_answer_read(o);
}

static inline void mock_output_end(struct mock_agent *m, Stasis__Agent__V1__Stream stream) {
    m->output[stream].eof = true;
    mock_answer_read(&m->output[stream]);
}

/* Input. */

static inline void mock_answer_write(struct mock_agent *m, uint64_t written) {
    Stasis__Agent__V1__WriteResponse out = STASIS__AGENT__V1__WRITE_RESPONSE__INIT;
    out.written = written;
    assert_non_null(m->write);
    ttrpc_reply(TAKE_PTR(m->write), &out.base);
}

static inline void mock_on_write(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct mock_agent *m = userdata;
    const Stasis__Agent__V1__WriteRequest *w = (const void *)in;
    mock_note(m, w->id);
    assert_null(m->write); /* one at a time */
    assert_true(w->data.len > 0);
    assert_int_equal(m->n_close_stdin, 0); /* nothing after the end */
    m->n_writes++;
    m->write = req;
    if (m->input_gone) {
        mock_answer_write(m, 0);
        return;
    }
    m->input = realloc(m->input, m->input_len + w->data.len);
    assert_non_null(m->input);
    memcpy(m->input + m->input_len, w->data.data, w->data.len);
    m->input_len += w->data.len;
    if (!m->hold_write)
        mock_answer_write(m, w->data.len);
}

static inline void mock_on_close_stdin(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct mock_agent *m = userdata;
    mock_note(m, (const void *)in);
    m->n_close_stdin++;
    ttrpc_reply(req, NULL);
}

/* Exit and signals. */

static inline void mock_on_wait(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct mock_agent *m = userdata;
    mock_note(m, (const void *)in);
    m->n_waits++;
    struct ttrpc_request **at = m->waiter ? &m->exec_waiter : &m->waiter;
    assert_null(*at);
    *at = req;
}

static inline void mock_answer_wait(struct ttrpc_request **waiter, uint32_t code, uint64_t wall_usec, bool oom) {
    Stasis__Agent__V1__WaitResponse out = STASIS__AGENT__V1__WAIT_RESPONSE__INIT;
    out.exit_code = code;
    out.exited_wall_usec = wall_usec;
    out.oom_killed = oom;
    assert_non_null(*waiter);
    ttrpc_reply(TAKE_PTR(*waiter), &out.base);
}

static inline void mock_exit(struct mock_agent *m, uint32_t code, uint64_t wall_usec, bool oom) {
    mock_answer_wait(&m->waiter, code, wall_usec, oom);
}

static inline void mock_trace(struct mock_agent *m, const char *method) {
    size_t n = strlen(m->trace);
    snprintf(m->trace + n, sizeof(m->trace) - n, " %s", method);
}

static inline void mock_on_signal(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct mock_agent *m = userdata;
    mock_trace(m, "Signal");
    const Stasis__Agent__V1__SignalRequest *s = (const void *)in;
    mock_note(m, s->id);
    m->n_signals++;
    m->signal = s->signal;
    m->signal_all = s->all;
    ttrpc_reply(req, NULL);
}

/* All else. */

static inline void mock_on_other(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct mock_agent *m = userdata;
    if (in->descriptor == &stasis__agent__v1__container_request__descriptor)
        snprintf(m->last, sizeof(m->last), "%.250s",
                 ((const Stasis__Agent__V1__ContainerRequest *)(const void *)in)->id);
    m->n_others++;
    if (m->fail) {
        mock_fail(&req, m->fail, "the agent says no");
    } else if (m->hold) {
        assert_null(m->kept);
        m->kept = req;
    } else {
        ttrpc_reply(req, NULL);
    }
}

static inline void mock_on_start(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    mock_trace(userdata, "StartContainer");
    mock_on_other(req, in, userdata);
}

static inline void mock_on_pause(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    mock_trace(userdata, "Pause");
    mock_on_other(req, in, userdata);
}

static inline void mock_on_resume(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    mock_trace(userdata, "Resume");
    mock_on_other(req, in, userdata);
}

static inline void mock_on_create(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct mock_agent *m = userdata;
    const Stasis__Agent__V1__CreateContainerRequest *r = (const void *)in;
    free(m->spec);
    m->spec = strndup((const char *)r->spec.data, r->spec.len);
    assert_non_null(m->spec);
    m->pin_namespaces = r->pin_namespaces;
    mock_trace(m, "CreateContainer");
    mock_on_other(req, in, userdata);
}

/* Checkpoint and Restore. */

/* A copy that stays. */
static inline void *mock_copy(const ProtobufCMessage *in) {
    size_t len = protobuf_c_message_get_packed_size(in);
    cleanup_free uint8_t *buf = malloc(len + 1);
    assert_non_null(buf);
    protobuf_c_message_pack(in, buf);
    void *copy = protobuf_c_message_unpack(in->descriptor, NULL, len, buf);
    assert_non_null(copy);
    return copy;
}

static inline void mock_forget(void *message) {
    if (message)
        protobuf_c_message_free_unpacked(message, NULL);
}

/* With texts of its own, if it has any. */

static inline void mock_on_processes(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct mock_agent *m = userdata;
    if (!m->says) {
        mock_on_other(req, in, userdata);
        return;
    }
    Stasis__Agent__V1__ProcessDetails one = STASIS__AGENT__V1__PROCESS_DETAILS__INIT, *list[] = {&one};
    Stasis__Agent__V1__ProcessesResponse out = STASIS__AGENT__V1__PROCESSES_RESPONSE__INIT;
    one.pid = 1;
    one.tty = one.command = (char *)(uintptr_t)m->says;
    out.processes = list;
    out.n_processes = 1;
    ttrpc_reply(req, &out.base);
}

static inline void mock_on_check(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct mock_agent *m = userdata;
    if (!m->says) {
        mock_on_other(req, in, userdata);
        return;
    }
    Stasis__Agent__V1__CheckItem one = STASIS__AGENT__V1__CHECK_ITEM__INIT, *list[] = {&one};
    Stasis__Agent__V1__CheckResponse out = STASIS__AGENT__V1__CHECK_RESPONSE__INIT;
    one.name = one.detail = out.criu_version = (char *)(uintptr_t)m->says;
    out.items = list;
    out.n_items = 1;
    ttrpc_reply(req, &out.base);
}

static inline void mock_answer_checkpoint_as(struct ttrpc_request *req, const char *version) {
    Stasis__Agent__V1__CheckpointResponse out = STASIS__AGENT__V1__CHECKPOINT_RESPONSE__INIT;
    out.criu_version = (char *)(uintptr_t)version;
    out.duration_usec = 5;
    ttrpc_reply(req, &out.base);
}

static inline void mock_answer_checkpoint(struct ttrpc_request *req) {
    mock_answer_checkpoint_as(req, "4.mock");
}

static inline void mock_on_checkpoint(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct mock_agent *m = userdata;
    mock_trace(m, "Checkpoint");
    mock_forget(m->checkpoint);
    m->checkpoint = mock_copy(in);
    if (m->on_dump)
        m->on_dump(m->checkpoint);
    if (m->fail_criu)
        mock_fail(&req, EIO, m->fail_criu);
    else if (m->hold_criu)
        m->kept_criu = req;
    else
        mock_answer_checkpoint_as(req, m->says ? m->says : "4.mock");
}

static inline void mock_answer_restore(struct ttrpc_request *req) {
    Stasis__Agent__V1__CreateContainerResponse out = STASIS__AGENT__V1__CREATE_CONTAINER_RESPONSE__INIT;
    out.pid = 77;
    ttrpc_reply(req, &out.base);
}

static inline void mock_on_restore(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct mock_agent *m = userdata;
    mock_trace(m, "Restore");
    mock_forget(m->restore);
    m->restore = mock_copy(in);
    if (m->fail_criu)
        mock_fail(&req, EIO, m->fail_criu);
    else if (m->hold_criu)
        m->kept_criu = req;
    else
        mock_answer_restore(req);
}

static inline void mock_on_events(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    struct mock_agent *m = userdata;
    (void)in;
    assert_null(m->events); /* one at a time */
    m->events = req;
}

static inline void mock_oom(struct mock_agent *m, const char *container_id) {
    Stasis__Agent__V1__EventResponse out = STASIS__AGENT__V1__EVENT_RESPONSE__INIT;
    out.container_id = (char *)(uintptr_t)container_id;
    out.oom_kills = 1;
    assert_non_null(m->events);
    ttrpc_reply(TAKE_PTR(m->events), &out.base);
}

static inline void mock_on_hello(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    (void)in;
    (void)userdata;
    Stasis__Agent__V1__HelloResponse out = STASIS__AGENT__V1__HELLO_RESPONSE__INIT;
    out.version = 1;
    out.agent_version = (char *)(uintptr_t) "mock";
    out.kernel_version = (char *)(uintptr_t) "6.12-mock";
    ttrpc_reply(req, &out.base);
}

static const struct ttrpc_handler mock_handlers[] = {{"Hello", mock_on_hello},
                                                     {"Read", mock_on_read},
                                                     {"CloseOutput", mock_on_close_output},
                                                     {"Write", mock_on_write},
                                                     {"CloseStdin", mock_on_close_stdin},
                                                     {"Wait", mock_on_wait},
                                                     {"Signal", mock_on_signal},
                                                     {"CreateContainer", mock_on_create},
                                                     {"StartContainer", mock_on_start},
                                                     {"DeleteContainer", mock_on_other},
                                                     {"Exec", mock_on_other},
                                                     {"DeleteProcess", mock_on_other},
                                                     {"Resize", mock_on_other},
                                                     {"Pause", mock_on_pause},
                                                     {"Resume", mock_on_resume},
                                                     {"Update", mock_on_other},
                                                     {"Processes", mock_on_processes},
                                                     {"Stats", mock_on_other},
                                                     {"Check", mock_on_check},
                                                     {"Console", mock_on_other},
                                                     {"Checkpoint", mock_on_checkpoint},
                                                     {"Restore", mock_on_restore},
                                                     {"Events", mock_on_events},
                                                     {NULL, NULL}};

static const struct ttrpc_service mock_service = {.desc = &stasis__agent__v1__agent__descriptor,
                                                  .handlers = mock_handlers};

/* Serves fd (taken), a socket or the guest's end of a channel. */
static inline struct mock_agent *mock_agent_new(sd_event *event, int fd, bool channel) {
    struct mock_agent *m = calloc(1, sizeof(*m));
    struct err err = ERR_INIT;
    assert_non_null(m);
    assert_int_equal(ttrpc_server_new(event, &m->server, &err), 0);
    assert_int_equal(ttrpc_server_add(m->server, &mock_service, m, &err), 0);
    assert_int_equal(
        channel ? ttrpc_server_add_channel(m->server, fd, &err) : ttrpc_server_add_plain(m->server, fd, &err), 0);
    return m;
}

/* The agent is gone with all that it owed. */
static inline void mock_agent_die(struct mock_agent *m) {
    m->server = ttrpc_server_free(m->server);
    for (size_t i = 0; i < ARRAY_SIZE(m->output); i++)
        mock_fail(&m->output[i].read, ECANCELED, "end");
    mock_fail(&m->write, ECANCELED, "end");
    mock_fail(&m->waiter, ECANCELED, "end");
    mock_fail(&m->exec_waiter, ECANCELED, "end");
    mock_fail(&m->kept, ECANCELED, "end");
    mock_fail(&m->kept_criu, ECANCELED, "end");
    mock_fail(&m->events, ECANCELED, "end");
}

static inline void mock_agent_free(struct mock_agent *m) {
    mock_agent_die(m);
    for (size_t i = 0; i < ARRAY_SIZE(m->output); i++)
        free(m->output[i].data);
    mock_forget(m->checkpoint);
    mock_forget(m->restore);
    free(m->input);
    free(m->spec);
    free(m);
}
