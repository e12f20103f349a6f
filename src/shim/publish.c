/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/publish.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"
#include "base/log.h"
#include "proto/forward.pb-c.h"
#include "shim/event_queue.h"
#include "shim/publish_program.h"
#include "shim/timestamp.h"
#include "ttrpc/client.h"

#define SERVICE (&containerd__services__events__ttrpc__v1__events__descriptor)
#define UNIX_SCHEME "unix://"
#define TURNS_MAX 64 /* of the own loop in one turn of the daemon's */
/* How much later than asked a pause may end, for the sake of fewer wake-ups. */
#define PAUSE_ACCURACY_USEC (10 * USEC_PER_MSEC)

struct publisher {
    sd_event_source *due, *kick; /* in the daemon's loop */
    sd_event *loop;              /* own */
    sd_event_source *step, *resume;

    struct sockaddr_un address; /* of the ttrpc socket */
    bool use_socket;
    char *grpc_address, *namespace, *program;

    struct event_queue queue;
    struct ttrpc_client *client;
    struct ttrpc_call *call;     /* the first event, on its way; or */
    struct publish_program *run; /* the same, by the program; */
    bool paused;                 /* or the pause before the next attempt */
    uint64_t pause;              /* how long the next one is */
    unsigned refusals;           /* of the first event */
    bool away;                   /* logged */
    size_t lost;                 /* since the queue was last empty */
};

/* ---- the two loops ---- */

static void kick(struct publisher *p) {
    /* Fails only for a source that is gone. */
    (void)sd_event_source_set_enabled(p->kick, SD_EVENT_ONESHOT);
}

/* Turns the own loop until nothing is due, which also leaves its fd armed for what comes next. */
static void turn(struct publisher *p) {
    int r = 1;
    for (int i = 0; i < TURNS_MAX && r > 0; i++)
        r = sd_event_run(p->loop, 0);
    if (r > 0)
        kick(p);
    else if (r < 0)
        log_error("publishing events: event loop: %s", strerror(-r));
}

static int on_due(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
    (void)source, (void)fd, (void)revents;
    turn(userdata);
    return 0;
}

static int on_kick(sd_event_source *source, void *userdata) {
    (void)source;
    turn(userdata);
    return 0;
}

/* Goes on with the first event in the next turn of the own loop. */
static void next(struct publisher *p) {
    (void)sd_event_source_set_enabled(p->step, SD_EVENT_ONESHOT);
}

/* ---- what became of an event ---- */

static void drop_connection(struct publisher *p) {
    p->client = ttrpc_client_free(p->client);
}

/* The first event is done with. */
static void advance(struct publisher *p) {
    event_queue_pop(&p->queue);
    p->pause = PUBLISH_PAUSE_MIN_USEC;
    p->refusals = 0;
    if (p->queue.n == 0 && p->lost > 0) {
        log_warn("%zu events for containerd were lost", p->lost);
        p->lost = 0;
    }
    next(p);
}

static void delivered(struct publisher *p) {
    if (p->away)
        log_info("containerd takes events again: %zu had to wait", p->queue.n);
    p->away = false;
    advance(p);
}

static void refuse(struct publisher *p, const struct err *err) {
    log_error("event %s is dropped: %s", p->queue.first->topic, err->msg);
    advance(p);
}

/* The first event stays where it is and is tried again after a pause. */
static void hold(struct publisher *p, const struct err *err) {
    if (!p->away)
        log_warn("containerd takes no events, they wait: %s", err->msg);
    else
        log_debug("containerd takes no events: %s", err->msg);
    p->away = true;
    p->paused = true;
    (void)sd_event_source_set_time_relative(p->resume, p->pause);
    (void)sd_event_source_set_enabled(p->resume, SD_EVENT_ONESHOT);
    p->pause = MIN(p->pause * 2, PUBLISH_PAUSE_MAX_USEC);
}

/* ---- by the program ---- */

static void on_program_done(void *userdata, const struct err *err) {
    struct publisher *p = userdata;
    p->run = NULL;
    /* Its exit code does not tell why it failed; nearly always it could not reach containerd. */
    if (err)
        hold(p, err);
    else
        delivered(p);
}

static Containerd__Task__V2__Any any_of(struct event *e) {
    Containerd__Task__V2__Any any = CONTAINERD__TASK__V2__ANY__INIT;
    any.type_url = (char *)(uintptr_t)e->type_url;
    any.value.data = e->value;
    any.value.len = e->len;
    return any;
}

static int run_program(struct publisher *p, struct err *err) {
    Containerd__Task__V2__Any any = any_of(p->queue.first);
    size_t len = containerd__task__v2__any__get_packed_size(&any);
    cleanup_free uint8_t *buf = malloc(len);
    if (!buf)
        return err_set(err, ENOMEM, "out of memory");
    containerd__task__v2__any__pack(&any, buf);
    struct publish_program_spec spec = {
        .path = p->program,
        .address = p->grpc_address,
        .namespace = p->namespace,
        .topic = p->queue.first->topic,
        .any = buf,
        .len = len,
        .timeout_usec = PUBLISH_PROGRAM_TIMEOUT_USEC,
    };
    return publish_program_start(p->loop, &spec, on_program_done, p, &p->run, err);
}

/* ---- by the socket ---- */

/* While an event is on its way, its callback has come first. */
static void on_closed(struct ttrpc_client *c, const struct err *err, void *userdata) {
    struct publisher *p = userdata;
    (void)c;
    log_debug("the connection to containerd's events is over: %s", err->code != 0 ? err->msg : "closed by containerd");
    drop_connection(p);
}

static const struct ttrpc_client_ops client_ops = {.closed = on_closed};

/* A unix socket is connected at once or not at all: a full backlog is EAGAIN. */
static int connect_socket(struct publisher *p, struct err *err) {
    cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&p->address, sizeof(p->address)) < 0)
        return err_errno(err, errno, "cannot connect to %s", p->address.sun_path);
    return ttrpc_client_new_plain(p->loop, TAKE_FD(fd), &client_ops, p, &p->client, err);
}

/* The server has none of the service, now and later. */
static void without_service(struct publisher *p, const struct err *err) {
    if (!p->program[0]) {
        refuse(p, err);
        return;
    }
    log_info("%s takes no events (%s): %s is run for each", p->address.sun_path, err->msg, p->program);
    p->use_socket = false;
    drop_connection(p);
    next(p);
}

/* True of an answer that says no, other than by a server that is about to end or slow. */
static bool is_refusal(const struct publisher *p, const struct err *err) {
    return ttrpc_client_is_ready(p->client) && err->code != ETIMEDOUT && err->code != ECONNRESET &&
           err->code != ECANCELED;
}

static void on_forwarded(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct publisher *p = userdata;
    (void)reply;
    p->call = NULL;
    if (!err) {
        delivered(p);
    } else if (!is_refusal(p, err)) {
        drop_connection(p);
        hold(p, err);
    } else if (err->code == ENOSYS) {
        without_service(p, err);
    } else if (err->code == EINVAL || ++p->refusals >= PUBLISH_REFUSALS_MAX) {
        refuse(p, err);
    } else {
        hold(p, err);
    }
}

static int forward(struct publisher *p, struct err *err) {
    Containerd__Task__V2__Any any = any_of(p->queue.first);
    Containerd__Task__V2__Timestamp ts = timestamp_of(p->queue.first->wall_usec);
    Containerd__Services__Events__Ttrpc__V1__Envelope envelope =
        CONTAINERD__SERVICES__EVENTS__TTRPC__V1__ENVELOPE__INIT;
    Containerd__Services__Events__Ttrpc__V1__ForwardRequest req =
        CONTAINERD__SERVICES__EVENTS__TTRPC__V1__FORWARD_REQUEST__INIT;
    envelope.timestamp = &ts;
    envelope.namespace_ = p->namespace;
    envelope.topic = (char *)(uintptr_t)p->queue.first->topic;
    envelope.event = &any;
    req.envelope = &envelope;
    int r = p->client ? 0 : connect_socket(p, err);
    if (r < 0)
        return r;
    return ttrpc_client_call(p->client, SERVICE, "Forward", &req.base, PUBLISH_TIMEOUT_USEC, on_forwarded, p, &p->call,
                             err);
}

/* ---- one event at a time ---- */

static int on_step(sd_event_source *source, void *userdata) {
    struct publisher *p = userdata;
    struct err err = ERR_INIT;
    (void)source;
    if (p->queue.n == 0 || p->call || p->run || p->paused)
        return 0;
    int r = p->use_socket ? forward(p, &err) : run_program(p, &err);
    if (r == -EMSGSIZE) {
        refuse(p, &err);
    } else if (r < 0) {
        drop_connection(p);
        hold(p, &err);
    }
    return 0;
}

static int on_resume(sd_event_source *source, uint64_t usec, void *userdata) {
    struct publisher *p = userdata;
    (void)source, (void)usec;
    p->paused = false;
    next(p);
    return 0;
}

/* ---- interface ---- */

static int take_address(struct publisher *p, const char *address, struct err *err) {
    if (!address || !address[0])
        return 0;
    const char *path = address;
    if (strncmp(path, UNIX_SCHEME, strlen(UNIX_SCHEME)) == 0)
        path += strlen(UNIX_SCHEME);
    if (path[0] != '/')
        return err_set(err, EINVAL, "containerd's ttrpc address \"%s\" must be a socket's absolute path", address);
    if (strlen(path) >= sizeof(p->address.sun_path))
        return err_set(err, EINVAL, "containerd's ttrpc address %s is longer than a socket's path can be", address);
    p->address.sun_family = AF_UNIX;
    snprintf(p->address.sun_path, sizeof(p->address.sun_path), "%s", path);
    p->use_socket = true;
    return 0;
}

static char *copy_of(const char *s) {
    return strdup(s ? s : "");
}

static int take_spec(struct publisher *p, const struct publisher_spec *spec, struct err *err) {
    p->pause = PUBLISH_PAUSE_MIN_USEC;
    p->grpc_address = copy_of(spec->grpc_address);
    p->namespace = copy_of(spec->namespace);
    p->program = copy_of(spec->publish_binary);
    if (!p->grpc_address || !p->namespace || !p->program)
        return err_set(err, ENOMEM, "out of memory");
    int r = take_address(p, spec->ttrpc_address, err);
    if (r == 0 && !p->use_socket && !p->program[0])
        r = err_set(err, EINVAL, "containerd gave neither a ttrpc address nor a program to publish events with");
    return r;
}

static int make_loops(struct publisher *p, sd_event *event, struct err *err) {
    int r;
    if ((r = sd_event_new(&p->loop)) < 0 || (r = sd_event_add_defer(p->loop, &p->step, on_step, p)) < 0 ||
        (r = sd_event_source_set_enabled(p->step, SD_EVENT_OFF)) < 0 ||
        (r = sd_event_add_time(p->loop, &p->resume, CLOCK_MONOTONIC, UINT64_MAX, PAUSE_ACCURACY_USEC, on_resume, p)) <
            0 ||
        (r = sd_event_source_set_enabled(p->resume, SD_EVENT_OFF)) < 0 ||
        (r = sd_event_add_io(event, &p->due, sd_event_get_fd(p->loop), EPOLLIN, on_due, p)) < 0 ||
        (r = sd_event_add_defer(event, &p->kick, on_kick, p)) < 0 ||
        (r = sd_event_source_set_enabled(p->kick, SD_EVENT_OFF)) < 0)
        return err_errno(err, -r, "publishing events: event loop");
    return 0;
}

int publisher_new(sd_event *event, const struct publisher_spec *spec, struct publisher **ret, struct err *err) {
    struct publisher *p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(err, ENOMEM, "out of memory");
    int r = take_spec(p, spec, err);
    if (r == 0)
        r = make_loops(p, event, err);
    if (r < 0) {
        publisher_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

struct publisher *publisher_free(struct publisher *p) {
    if (!p)
        return NULL;
    if (p->queue.n + p->lost > 0)
        log_warn("%zu events did not reach containerd", p->queue.n + p->lost);
    ttrpc_call_cancel(p->call);
    drop_connection(p);
    publish_program_free(p->run);
    event_queue_clear(&p->queue);
    sd_event_source_disable_unref(p->due);
    sd_event_source_disable_unref(p->kick);
    sd_event_source_disable_unref(p->step);
    sd_event_source_disable_unref(p->resume);
    sd_event_unref(p->loop);
    free(p->grpc_address);
    free(p->namespace);
    free(p->program);
    free(p);
    return NULL;
}

void publisher_send(struct publisher *p, const char *topic, const char *type_url, const ProtobufCMessage *event) {
    if (!p)
        return;
    struct event *e = event_new(topic, type_url, event, now_wall_usec());
    size_t lost = e ? event_queue_push(&p->queue, e) : 1;
    if (lost > 0 && p->lost == 0)
        log_warn("event %s: %s; events are lost from here on", topic,
                 e ? "too many wait for containerd already" : "out of memory");
    p->lost += lost;
    next(p);
    kick(p);
}

bool publisher_is_idle(const struct publisher *p) {
    return !p || p->queue.n == 0;
}

int publisher_flush(struct publisher *p, uint64_t timeout_usec) {
    uint64_t now = now_usec(), end = timeout_usec < UINT64_MAX - now ? now + timeout_usec : UINT64_MAX;
    if (publisher_is_idle(p))
        return 0;
    if (p->paused) {
        p->pause = PUBLISH_PAUSE_MIN_USEC;
        (void)sd_event_source_set_time(p->resume, now);
    }
    /* At least one turn: a timeout of 0 does what can be done without waiting. */
    do {
        int r = sd_event_run(p->loop, end > now ? end - now : 0);
        if (r < 0)
            return r;
        now = now_usec();
    } while (!publisher_is_idle(p) && now < end);
    return publisher_is_idle(p) ? 0 : -ETIMEDOUT;
}
