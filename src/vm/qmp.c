/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/qmp.h"

#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/util.h"

enum phase { PHASE_GREETING, PHASE_NEGOTIATION, PHASE_READY, PHASE_CLOSED };

#define IN_KEEP ((size_t)16384) /* bytes of the input buffer that stay when it is empty */
#define NEGOTIATION_ID 0        /* of qmp_capabilities; commands count from 1 */

struct command {
    struct command *next;
    uint64_t id, deadline_usec;
    char *name;
    char *text; /* the message, malloc'd; NULL once it is sent whole */
    size_t len, sent;
    int fd; /* owned; -1: none, or already sent */
    qmp_reply_fn fn;
    void *userdata;
};

struct qmp {
    int fd;
    char *name;
    const struct qmp_ops *ops;
    void *userdata;
    enum phase phase;
    uint64_t next_id;
    sd_event_source *io, *timer, *over;

    struct command *commands; /* in the order of sending; those sent whole first */
    size_t n_commands;

    char *in; /* unparsed input */
    size_t in_len, in_size;
    size_t scanned; /* bytes of it known to have no newline, so that a line sent byte by byte is not searched anew */
    struct err closing; /* why, for those who are told later */
};

static struct command *command_free(struct command *c) {
    if (!c)
        return NULL;
    fd_close(c->fd);
    free(c->name);
    free(c->text);
    free(c);
    return NULL;
}

/* Takes the command out of the list and tells its owner. */
static void command_done(struct qmp *q, struct command *c, const json_t *ret, const struct err *err) {
    for (struct command **p = &q->commands; *p; p = &(*p)->next)
        if (*p == c) {
            *p = c->next;
            q->n_commands--;
            break;
        }
    qmp_reply_fn fn = c->fn;
    void *userdata = c->userdata;
    command_free(c);
    if (fn)
        fn(userdata, ret, err);
}

static void fail_all(struct qmp *q, const struct err *why) {
    while (q->commands) {
        struct command *c = q->commands;
        struct err e = ERR_INIT;
        err_copy(&e, why);
        err_wrap(&e, "%s: %s", q->name, c->name);
        command_done(q, c, NULL, &e);
    }
}

/* Ends the connection. The owners learn of it from the loop (on_over). */
static int close_connection(struct qmp *q, int code, const char *what) {
    if (q->phase == PHASE_CLOSED)
        return -code;
    q->phase = PHASE_CLOSED;
    q->io = sd_event_source_disable_unref(q->io);
    q->fd = fd_close(q->fd);
    q->in_len = q->scanned = 0;
    err_set(&q->closing, code, "%s", what);
    sd_event_source_set_enabled(q->timer, SD_EVENT_OFF);
    sd_event_source_set_enabled(q->over, SD_EVENT_ONESHOT);
    return -code;
}

/* The timer stands at the earliest deadline. */
static void arm_timer(struct qmp *q) {
    uint64_t first = UINT64_MAX;
    for (const struct command *c = q->commands; c; c = c->next)
        first = MIN(first, c->deadline_usec);
    if (first == UINT64_MAX || q->phase == PHASE_CLOSED) {
        sd_event_source_set_enabled(q->timer, SD_EVENT_OFF);
        return;
    }
    sd_event_source_set_time(q->timer, first);
    sd_event_source_set_enabled(q->timer, SD_EVENT_ONESHOT);
}

/* One write of c's message; its fd goes with the first byte. Returns bytes or -errno. */
static ssize_t send_some(struct qmp *q, struct command *c) {
    ssize_t n;
    if (c->fd >= 0) {
        n = fd_send(q->fd, c->text, c->len, &c->fd, 1);
        if (n > 0)
            c->fd = fd_close(c->fd);
        return n;
    }
    n = send(q->fd, c->text + c->sent, c->len - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    return n < 0 ? -errno : n;
}

static void flush(struct qmp *q) {
    bool blocked = false;
    for (struct command *c = q->commands; c && !blocked && q->phase != PHASE_CLOSED; c = c->next) {
        bool may = q->phase == PHASE_READY || (q->phase == PHASE_NEGOTIATION && c->id == NEGOTIATION_ID);
        if (!c->text || !may)
            continue;
        ssize_t n = send_some(q, c);
        if (n == -EINTR || n == -EAGAIN)
            n = 0;
        if (n < 0) {
            close_connection(q, ENOTCONN, strerror((int)-n));
            return;
        }
        c->sent += (size_t)n;
        if (c->sent == c->len) {
            free(c->text);
            c->text = NULL;
        } else {
            blocked = true;
        }
    }
    if (q->io)
        sd_event_source_set_io_events(q->io, EPOLLIN | (blocked ? EPOLLOUT : 0));
}

static int add_command(struct qmp *q, uint64_t id, const char *name, json_t *args, int fd, uint64_t timeout_usec,
                       qmp_reply_fn fn, void *userdata, struct err *err) {
    cleanup_json json_t *a = args;
    cleanup_json json_t *msg = json_pack("{s:s, s:I}", "execute", name, "id", (json_int_t)id);
    if (!msg || (a && json_object_set(msg, "arguments", a) < 0))
        return err_set(err, ENOMEM, "%s: %s: out of memory", q->name, name);
    cleanup_free char *text = json_text(msg, JSON_COMPACT);
    struct command *c = text ? calloc(1, sizeof(*c)) : NULL;
    if (!c)
        return err_set(err, ENOMEM, "%s: %s: out of memory", q->name, name);
    *c = (struct command){.id = id, .fd = -1, .fn = fn, .userdata = userdata, .name = strdup(name)};
    c->text = str_printf("%s\n", text);
    c->deadline_usec = now_usec() + MIN(timeout_usec, UINT64_MAX / 2);
    if (!c->text || !c->name) {
        command_free(c);
        return err_set(err, ENOMEM, "%s: %s: out of memory", q->name, name);
    }
    c->len = strlen(c->text);
    if (c->len > QMP_LINE_MAX) {
        command_free(c);
        return err_set(err, EMSGSIZE, "%s: %s: a message of more than %zu bytes", q->name, name, QMP_LINE_MAX);
    }
    if (fd >= 0 && (c->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3)) < 0) {
        int e = errno;
        command_free(c);
        return err_errno(err, e, "%s: %s: cannot duplicate fd %d", q->name, name, fd);
    }
    struct command **end = &q->commands;
    while (*end)
        end = &(*end)->next;
    *end = c;
    q->n_commands++;
    flush(q);
    arm_timer(q);
    return 0;
}

static void on_negotiated(void *userdata, const json_t *ret, const struct err *err) {
    struct qmp *q = userdata;
    (void)ret;
    if (err) {
        close_connection(q, err->code, err->msg);
        return;
    }
    q->phase = PHASE_READY;
    flush(q);
    if (q->ops->ready)
        q->ops->ready(q->userdata);
}

static int handle_reply(struct qmp *q, const json_t *msg, const json_t *ret, const json_t *error) {
    const json_t *id = json_object_get(msg, "id");
    /* An error without id answers something that was not JSON, which we do not send. */
    if (!json_is_integer(id) || json_integer_value(id) < 0 || (uint64_t)json_integer_value(id) >= q->next_id)
        return close_connection(q, EPROTO, "an answer to nothing that was asked");
    struct command *c = q->commands;
    while (c && (c->id != (uint64_t)json_integer_value(id) || c->text))
        c = c->next;
    if (!c)
        return 0; /* late: its deadline has passed */
    if (!error) {
        command_done(q, c, ret, NULL);
        return 0;
    }
    const char *desc = json_string_value(json_object_get(error, "desc"));
    struct err e = ERR_INIT;
    err_set(&e, EREMOTEIO, "%s: %s: %s", q->name, c->name, desc ? desc : "an error without description");
    command_done(q, c, NULL, &e);
    return 0;
}

static int handle_message(struct qmp *q, const char *text, size_t len) {
    cleanup_json json_t *msg = NULL;
    if (json_parse(q->name, text, len, &msg, NULL) < 0)
        return close_connection(q, EPROTO, "a message that is not a JSON object");
    if (q->phase == PHASE_GREETING) {
        if (!json_is_object(json_object_get(msg, "QMP")))
            return close_connection(q, EPROTO, "no QMP greeting");
        q->phase = PHASE_NEGOTIATION;
        flush(q);
        return 0;
    }
    const char *event = json_string_value(json_object_get(msg, "event"));
    const json_t *ret = json_object_get(msg, "return"), *error = json_object_get(msg, "error");
    if (event) {
        const json_t *data = json_object_get(msg, "data");
        if (q->ops->event)
            q->ops->event(q->userdata, event, json_is_object(data) ? data : NULL);
        return 0;
    }
    if (!ret && !error)
        return close_connection(q, EPROTO, "a message that is neither reply nor event");
    return handle_reply(q, msg, ret, error);
}

/* Handles the whole lines of the input. */
static void handle_input(struct qmp *q) {
    size_t done = 0;
    while (q->phase != PHASE_CLOSED) {
        char *start = q->in + done, *from = q->in + MAX(done, q->scanned);
        char *end = memchr(from, '\n', (size_t)(q->in + q->in_len - from));
        if (!end) {
            q->scanned = q->in_len;
            break;
        }
        size_t len = (size_t)(end - start);
        done += len + 1;
        while (len && (start[len - 1] == '\r' || start[len - 1] == ' '))
            len--;
        if (len)
            (void)handle_message(q, start, len);
    }
    if (q->phase == PHASE_CLOSED)
        return;
    if (done) {
        memmove(q->in, q->in + done, q->in_len - done);
        q->in_len -= done;
        q->scanned = q->scanned > done ? q->scanned - done : 0;
    }
    if (q->in_len == 0 && q->in_size > IN_KEEP) {
        free(q->in);
        q->in = NULL;
        q->in_size = 0;
    }
    if (q->in_len > QMP_LINE_MAX)
        close_connection(q, EPROTO, "a message of more than 1 MiB");
    arm_timer(q);
}

/* The connection is over, and here is where everybody hears of it. */
static int on_over(sd_event_source *s, void *userdata) {
    struct qmp *q = userdata;
    (void)s;
    struct err e = ERR_INIT;
    err_copy(&e, &q->closing);
    fail_all(q, &e);
    err_wrap(&e, "%s", q->name);
    if (q->ops->closed)
        q->ops->closed(q->userdata, &e);
    return 0;
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
    struct qmp *q = userdata;
    (void)s;
    if (revents & EPOLLOUT)
        flush(q);
    if (q->phase == PHASE_CLOSED || !(revents & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return 0;
    if (q->in_size - q->in_len < QMP_CHUNK) {
        size_t size = MAX(q->in_size * 2, IN_KEEP);
        char *p = realloc(q->in, size);
        if (!p) {
            close_connection(q, ENOMEM, "out of memory");
            return 0;
        }
        q->in = p;
        q->in_size = size;
    }
    ssize_t n = recv(fd, q->in + q->in_len, QMP_CHUNK, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0) {
        close_connection(q, ENOTCONN, n < 0 ? strerror(errno) : "the connection was closed");
        return 0;
    }
    q->in_len += (size_t)n;
    handle_input(q);
    return 0;
}

static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata) {
    struct qmp *q = userdata;
    uint64_t now = now_usec();
    (void)s;
    (void)usec;
    /* From the start each time: the callback may have changed the list. */
    for (;;) {
        struct command *c = q->commands;
        while (c && c->deadline_usec > now)
            c = c->next;
        if (!c || q->phase == PHASE_CLOSED)
            break;
        /* A message that is half sent cannot be taken back, and a handshake not be done without. */
        if (c->id == NEGOTIATION_ID || (c->text && c->sent)) {
            close_connection(q, ETIMEDOUT, c->id == NEGOTIATION_ID ? "no answer to the handshake" : "it does not read");
            break;
        }
        struct err e = ERR_INIT;
        err_set(&e, ETIMEDOUT, "%s: %s: no answer in time", q->name, c->name);
        command_done(q, c, NULL, &e);
    }
    arm_timer(q);
    return 0;
}

int qmp_new(sd_event *event, int fd, const char *name, const struct qmp_ops *ops, void *userdata, struct qmp **ret,
            struct err *err) {
    struct qmp *q = calloc(1, sizeof(*q));
    if (!q) {
        fd_close(fd);
        return err_set(err, ENOMEM, "%s: out of memory", name);
    }
    *q = (struct qmp){.fd = fd, .ops = ops, .userdata = userdata, .next_id = NEGOTIATION_ID + 1, .name = strdup(name)};
    int r = q->name ? fd_set_nonblock(fd, true) : -ENOMEM;
    if (r >= 0)
        r = sd_event_add_io(event, &q->io, fd, EPOLLIN, on_io, q);
    if (r >= 0)
        r = sd_event_add_time(event, &q->timer, CLOCK_MONOTONIC, UINT64_MAX, USEC_PER_MSEC, on_deadline, q);
    if (r >= 0)
        r = sd_event_source_set_enabled(q->timer, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_add_defer(event, &q->over, on_over, q);
    if (r >= 0)
        r = sd_event_source_set_enabled(q->over, SD_EVENT_OFF);
    if (r < 0)
        err_errno(err, -r, "%s: cannot watch the QMP connection", name);
    else
        r = add_command(q, NEGOTIATION_ID, "qmp_capabilities", NULL, -1, QMP_HANDSHAKE_USEC, on_negotiated, q, err);
    if (r < 0) {
        qmp_free(q);
        return r;
    }
    *ret = q;
    return 0;
}

struct qmp *qmp_free(struct qmp *q) {
    if (!q)
        return NULL;
    bool open = q->phase != PHASE_CLOSED;
    q->phase = PHASE_CLOSED; /* a callback below cannot add a command, nor close it again */
    if (open)
        err_set(&q->closing, ECANCELED, "the connection was given up");
    struct err e = ERR_INIT;
    err_copy(&e, &q->closing);
    fail_all(q, &e);
    sd_event_source_disable_unref(q->io);
    sd_event_source_disable_unref(q->timer);
    sd_event_source_disable_unref(q->over);
    fd_close(q->fd);
    free(q->in);
    free(q->name);
    free(q);
    return NULL;
}

int qmp_command_fd(struct qmp *q, const char *command, json_t *args, int fd, uint64_t timeout_usec, qmp_reply_fn fn,
                   void *userdata, struct err *err) {
    if (q->phase == PHASE_CLOSED) {
        json_decref(args);
        return err_set(err, ENOTCONN, "%s: %s: the connection is closed", q->name, command);
    }
    if (q->n_commands >= QMP_PENDING_MAX) {
        json_decref(args);
        return err_set(err, EBUSY, "%s: %s: %d commands are under way already", q->name, command, QMP_PENDING_MAX);
    }
    return add_command(q, q->next_id++, command, args, fd, timeout_usec, fn, userdata, err);
}

int qmp_command(struct qmp *q, const char *command, json_t *args, uint64_t timeout_usec, qmp_reply_fn fn,
                void *userdata, struct err *err) {
    return qmp_command_fd(q, command, args, -1, timeout_usec, fn, userdata, err);
}
