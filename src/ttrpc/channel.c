/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packet layer (see transport.h for what it is for).
 *
 * The host, while it waits for its ACK, looks at every byte: the ACK carries a random number that nothing sent before
 * can contain. The guest takes packets whole and never looks inside one, so that a payload cannot open a session; it
 * looks for the magic only where a packet should begin and does not. A guest that was cut off within a packet takes
 * at most PACKET_MAX bytes of what comes next for the rest of it, hence the flood of SYNCs when one was not answered.
 *
 * The port in the guest (virtio-console) never ends: while no host is connected, read() gives 0 and epoll reports
 * EPOLLHUP again and again. The guest then watches it edge-triggered, and looks with a timer too.
 */
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "ttrpc/packet.h"
#include "ttrpc/transport_impl.h"

#define IN_SIZE (PACKET_MAX + TRANSPORT_READ_SIZE)
#define FLOOD_COUNT ((PACKET_MAX + PACKET_SYNC_SIZE - 1) / PACKET_SYNC_SIZE + 2)
#define SYNC_INTERVAL_MIN (50 * USEC_PER_MSEC)
#define SYNC_INTERVAL_MAX (1 * USEC_PER_SEC)
#define AWAY_INTERVAL_MIN (20 * USEC_PER_MSEC)
#define AWAY_INTERVAL_MAX (500 * USEC_PER_MSEC)
#define OLD_SESSIONS 16 /* that the guest remembers, to know a replay */

struct channel {
    struct transport t;
    enum channel_role role;
    uint64_t session; /* 0: none (guest only) */
    bool ack_due;     /* guest: the current session's SYNC came again */

    /* Host, until t.ready: */
    uint64_t sync_deadline; /* 0: none */
    uint64_t sync_interval;
    size_t discarded; /* bytes that belonged to no packet of this session */

    /* Guest: */
    bool is_device;
    bool away; /* no host is connected to the device */
    uint64_t away_interval;
    uint64_t last; /* the session that is or was the newest */
    uint64_t old[OLD_SESSIONS];
    unsigned next_old;

    sd_event_source *timer; /* host: next SYNC; guest: look whether the host is back */
    size_t have;            /* bytes in `in` */
    uint8_t in[IN_SIZE];
};

static struct channel *channel_of(struct transport *t) {
    return (struct channel *)t; /* t is the first member */
}

static void timer_start(struct channel *c, uint64_t usec) {
    /* Fails only for a source that is gone: after the end. */
    if (c->timer) {
        (void)sd_event_source_set_time(c->timer, now_usec() + usec);
        (void)sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
    }
}

static void timer_stop(struct channel *c) {
    if (c->timer)
        (void)sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
}

/* Closes with a protocol error (host only: the guest drops the session instead). */
__attribute__((format(printf, 2, 3))) static void protocol_error(struct channel *c, const char *fmt, ...) {
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    struct err err = ERR_INIT;
    err_set(&err, EPROTO, "agent channel: %s", text);
    transport_close(&c->t, &err);
}

static void close_errno(struct channel *c, int code, const char *what) {
    struct err err = ERR_INIT;
    err_errno(&err, code, "agent channel: %s", what);
    transport_close(&c->t, &err);
}

/* Queues a control packet, beyond TRANSPORT_SEND_MAX if need be: there are few and they end a jam. */
static void put_control(struct channel *c, enum packet_type type, uint64_t session) {
    uint8_t *p = outq_reserve(&c->t.queue, PACKET_SYNC_SIZE);
    if (!p) {
        struct err err = ERR_INIT;
        err_errno(&err, ENOMEM, "agent channel: control packet");
        transport_abort(&c->t, &err);
        return;
    }
    if (type == PACKET_RESET) {
        packet_write(p, type, session, NULL, 0);
        outq_commit(&c->t.queue, PACKET_OVERHEAD);
    } else {
        packet_write_version(p, type, session);
        outq_commit(&c->t.queue, PACKET_SYNC_SIZE);
    }
}

/* ---- guest ---- */

static bool is_old(const struct channel *c, uint64_t session) {
    for (size_t i = 0; i < OLD_SESSIONS; i++)
        if (c->old[i] == session)
            return true;
    return false;
}

static void forget_session(struct channel *c) {
    c->session = 0;
    c->ack_due = false;
    c->t.ready = false;
}

/* The session cannot go on, but the stream is whole: what is queued stays, so that the host gets to the RESET. */
static void drop_session(struct channel *c) {
    if (c->session == 0)
        return;
    put_control(c, PACKET_RESET, c->session);
    forget_session(c);
    transport_write(&c->t);
}

static void answer_sync(struct channel *c, uint64_t session) {
    put_control(c, PACKET_ACK, session);
    transport_write(&c->t);
}

static void begin_session(struct channel *c, uint64_t session) {
    /* Its own host may open a session that was lost once more, but when another came it is void for good. */
    if (c->last != 0 && c->last != session)
        c->old[c->next_old++ % OLD_SESSIONS] = c->last;
    forget_session(c);
    outq_clear(&c->t.queue);
    c->t.full = false;
    c->session = c->last = session;
    /* Before anything else of the session: the host takes nothing until it came. */
    answer_sync(c, session);
    c->t.ready = true;
    if (c->t.ops->ready)
        c->t.ops->ready(&c->t, c->t.userdata);
}

static void guest_packet(struct channel *c, const uint8_t *packet, const struct packet_header *h) {
    struct err err = ERR_INIT;
    if (h->type == PACKET_SYNC) {
        if (h->session == 0 || is_old(c, h->session))
            return;
        if (h->session == c->session)
            c->ack_due = true;
        else if (packet_version(packet, h) != CHANNEL_VERSION)
            answer_sync(c, h->session); /* tells the host our version; it will close */
        else
            begin_session(c, h->session);
    } else if (h->type == PACKET_DATA && c->session != 0 && h->session == c->session) {
        int r = c->t.ops->data(&c->t, packet + PACKET_HEADER_SIZE, h->length, c->t.userdata, &err);
        if (r < 0 && transport_alive(&c->t))
            drop_session(c);
    }
    /* Anything else is of an older session, or nothing a host sends. */
}

/* No host, for now. The session stays until the timer finds that this is still so: when a host connects, its first
 * bytes may be here before the kernel has heard that it did. */
static void go_away(struct channel *c) {
    c->away_interval = c->away ? MIN(c->away_interval * 2, AWAY_INTERVAL_MAX) : AWAY_INTERVAL_MIN;
    c->away = true;
    /* A host that comes makes the device writable. */
    c->t.events = EPOLLIN | EPOLLOUT | EPOLLET;
    transport_update_events(&c->t);
    timer_start(c, c->away_interval);
}

static void come_back(struct channel *c) {
    c->away = false;
    c->t.events = EPOLLIN;
    transport_update_events(&c->t);
    timer_stop(c);
}

/* ---- host ---- */

static void host_in_step(struct channel *c) {
    timer_stop(c);
    c->t.ready = true;
    if (c->t.ops->ready)
        c->t.ops->ready(&c->t, c->t.userdata);
}

static bool discard(struct channel *c, size_t n) {
    c->discarded += n;
    if (c->discarded <= CHANNEL_DISCARD_MAX)
        return true;
    protocol_error(c, "more than %zu bytes of something else", CHANNEL_DISCARD_MAX);
    return false;
}

static void host_packet(struct channel *c, const uint8_t *packet, const struct packet_header *h) {
    struct err err = ERR_INIT;
    if (h->session != c->session) {
        (void)discard(c, PACKET_OVERHEAD + h->length);
    } else if (h->type == PACKET_DATA) {
        int r = c->t.ops->data(&c->t, packet + PACKET_HEADER_SIZE, h->length, c->t.userdata, &err);
        if (r < 0)
            transport_close(&c->t, &err);
    } else if (h->type == PACKET_RESET) {
        err_set(&err, ECONNRESET, "agent channel: the agent ended the session");
        transport_close(&c->t, &err);
    } else if (h->type != PACKET_ACK) {
        protocol_error(c, "unexpected packet of type %d", h->type);
    }
}

/* Looks for the ACK of our session. Returns how many bytes are done with; 0: more are needed (or it is over). */
static size_t host_scan(struct channel *c, const uint8_t *p, size_t n) {
    size_t off = packet_scan(p, n);
    if (!discard(c, off))
        return 0;
    if (off > 0)
        return off;
    struct packet_header h;
    if (n < PACKET_HEADER_SIZE)
        return 0;
    if (packet_read_header(p, &h) && h.type == PACKET_ACK && h.session == c->session) {
        if (n < PACKET_OVERHEAD + h.length)
            return 0;
        if (packet_trailer_ok(p, &h)) {
            if (packet_version(p, &h) != CHANNEL_VERSION)
                protocol_error(c, "the agent speaks version %u, not %u", packet_version(p, &h), CHANNEL_VERSION);
            else
                host_in_step(c);
            return PACKET_OVERHEAD + h.length;
        }
    }
    return discard(c, 1) ? 1 : 0;
}

/* ---- both ---- */

/* Something that is no packet where one should begin, or a packet whose ends disagree. */
static void out_of_step(struct channel *c) {
    if (c->role == CHANNEL_HOST)
        protocol_error(c, "the agent's stream is broken");
    else
        drop_session(c);
}

/* Takes the first packet of n bytes. Returns as host_scan(). */
static size_t take_packet(struct channel *c, const uint8_t *p, size_t n) {
    struct packet_header h;
    if (n < PACKET_HEADER_SIZE)
        return 0;
    if (!packet_read_header(p, &h)) {
        out_of_step(c);
        return 1 + packet_scan(p + 1, n - 1);
    }
    size_t size = PACKET_OVERHEAD + h.length;
    if (n < size)
        return 0;
    if (!packet_trailer_ok(p, &h))
        out_of_step(c);
    else if (c->role == CHANNEL_HOST)
        host_packet(c, p, &h);
    else
        guest_packet(c, p, &h);
    return size;
}

static void parse(struct channel *c) {
    size_t off = 0;
    while (transport_alive(&c->t)) {
        const uint8_t *p = c->in + off;
        bool scan = c->role == CHANNEL_HOST && !c->t.ready;
        size_t n = scan ? host_scan(c, p, c->have - off) : take_packet(c, p, c->have - off);
        if (n == 0)
            break;
        off += n;
    }
    if (!transport_alive(&c->t))
        return;
    if (off > 0) {
        c->have -= off;
        memmove(c->in, c->in + off, c->have);
    }
    if (c->ack_due) {
        c->ack_due = false;
        answer_sync(c, c->session);
    }
}

/* Reads once. Returns false when there is nothing more to read now. */
static bool read_once(struct channel *c) {
    ssize_t n = read(c->t.fd, c->in + c->have, IN_SIZE - c->have);
    int code = errno;
    if (c->is_device && (n == 0 || (n < 0 && code == EIO))) {
        go_away(c);
        return false;
    }
    if (c->away)
        come_back(c);
    if (n > 0) {
        c->have += (size_t)n;
        parse(c);
        return transport_alive(&c->t);
    }
    if (n == 0 || code == ECONNRESET) {
        struct err err = {.code = 0, .msg = "agent channel: the other end was closed"};
        transport_close(&c->t, &err);
    } else if (code != EAGAIN && code != EINTR) {
        close_errno(c, code, "reading");
    }
    return false;
}

static void channel_input(struct transport *t, uint32_t revents) {
    struct channel *c = channel_of(t);
    if (c->is_device && (revents & (EPOLLHUP | EPOLLERR)) && !(revents & EPOLLIN)) {
        go_away(c);
        return;
    }
    for (int i = 0; i < TRANSPORT_READS_MAX; i++)
        if (!read_once(c))
            return;
}

static int channel_send(struct transport *t, const void *buf, size_t len, const int *fds, size_t n, struct err *err) {
    struct channel *c = channel_of(t);
    (void)fds;
    if (n > 0)
        return err_set(err, EOPNOTSUPP, "fds cannot pass through the agent channel");
    size_t packets = (len + CHANNEL_PAYLOAD_MAX - 1) / CHANNEL_PAYLOAD_MAX;
    size_t size = len + packets * PACKET_OVERHEAD;
    int r = transport_check_room(t, size, err);
    if (r < 0)
        return r;
    uint8_t *out = outq_reserve(&t->queue, size);
    if (!out)
        return err_errno(err, ENOMEM, "queueing %zu bytes", size);
    const uint8_t *p = buf;
    while (len > 0) {
        size_t part = MIN(len, CHANNEL_PAYLOAD_MAX);
        packet_write(out, PACKET_DATA, c->session, p, part);
        out += PACKET_OVERHEAD + part;
        p += part;
        len -= part;
    }
    outq_commit(&t->queue, size);
    return 0;
}

static void channel_write_failed(struct transport *t, const struct err *err) {
    struct channel *c = channel_of(t);
    if (c->is_device && err->code == EIO)
        go_away(c);
    else
        transport_close(t, err);
}

static void channel_rejected(struct transport *t, const struct err *err) {
    struct channel *c = channel_of(t);
    if (c->role == CHANNEL_GUEST)
        drop_session(c);
    else
        transport_close(t, err);
}

static void channel_destroy(struct transport *t) {
    struct channel *c = channel_of(t);
    c->timer = sd_event_source_disable_unref(c->timer);
}

static const struct transport_kind channel_kind = {
    .input = channel_input,
    .send = channel_send,
    .write_failed = channel_write_failed,
    .rejected = channel_rejected,
    .destroy = channel_destroy,
};

/* ---- timers ---- */

/* True if what was sent has been read: only then is a guest there that did not answer. */
static bool was_read(const struct channel *c) {
    int unread = 0;
    if (c->t.queue.len > 0)
        return false;
    /* Not every kind of fd can tell. */
    return ioctl(c->t.fd, SIOCOUTQ, &unread) < 0 || unread == 0;
}

static void host_tick(struct channel *c) {
    uint64_t now = now_usec();
    if (c->sync_deadline != 0 && now >= c->sync_deadline) {
        struct err err = ERR_INIT;
        err_set(&err, ETIMEDOUT, "agent channel: the agent did not answer in time (%s)",
                c->discarded > 0 ? "something else came"
                : was_read(c)    ? "nothing came"
                                 : "nothing came, and it does not read");
        transport_close(&c->t, &err);
        return;
    }
    if (was_read(c)) {
        for (size_t i = 0; i < FLOOD_COUNT; i++)
            put_control(c, PACKET_SYNC, c->session);
        transport_write(&c->t);
        c->sync_interval = MIN(c->sync_interval * 2, SYNC_INTERVAL_MAX);
    }
    uint64_t next = c->sync_interval;
    if (c->sync_deadline != 0)
        next = MIN(next, c->sync_deadline - now);
    timer_start(c, next);
}

static void guest_tick(struct channel *c) {
    struct pollfd p = {.fd = c->t.fd, .events = POLLIN};
    if (!c->away)
        return;
    int r = poll(&p, 1, 0);
    channel_input(&c->t, r > 0 ? (uint32_t)p.revents : 0); /* POLL* and EPOLL* are the same bits */
    if (!transport_alive(&c->t) || !c->away)
        return;
    forget_session(c);
    outq_clear(&c->t.queue);
    c->have = 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
    struct channel *c = userdata;
    (void)source, (void)usec;
    transport_ref(&c->t);
    if (transport_alive(&c->t)) {
        if (c->role == CHANNEL_HOST)
            host_tick(c);
        else
            guest_tick(c);
    }
    transport_unref(&c->t);
    return 0;
}

static int channel_start(struct channel *c, uint64_t sync_timeout_usec, struct err *err) {
    int r = sd_event_add_time(c->t.event, &c->timer, CLOCK_MONOTONIC, UINT64_MAX, 1, on_timer, c);
    if (r >= 0)
        r = sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
    if (r < 0)
        return err_errno(err, -r, "agent channel: timer");

    if (c->role == CHANNEL_GUEST) {
        struct stat st;
        c->is_device = fstat(c->t.fd, &st) == 0 && S_ISCHR(st.st_mode);
        return 0;
    }
    while (c->session == 0)
        if (getrandom(&c->session, sizeof(c->session), 0) < 0 && errno != EINTR)
            return err_errno(err, errno, "agent channel: session number");
    uint64_t now = now_usec();
    c->sync_deadline = sync_timeout_usec > 0 && sync_timeout_usec < UINT64_MAX - now ? now + sync_timeout_usec : 0;
    c->sync_interval = SYNC_INTERVAL_MIN;
    put_control(c, PACKET_SYNC, c->session);
    transport_write(&c->t);
    timer_start(c, sync_timeout_usec ? MIN(sync_timeout_usec, SYNC_INTERVAL_MIN) : SYNC_INTERVAL_MIN);
    return 0;
}

int transport_new_channel(sd_event *event, int fd, enum channel_role role, uint64_t sync_timeout_usec,
                          const struct transport_ops *ops, void *userdata, struct transport **ret, struct err *err) {
    struct channel *c = calloc(1, sizeof(*c));
    if (!c) {
        fd_close(fd);
        return err_errno(err, ENOMEM, "agent channel");
    }
    c->role = role;
    int r = transport_init(&c->t, &channel_kind, event, fd, ops, userdata, err);
    if (r >= 0)
        r = channel_start(c, sync_timeout_usec, err);
    if (r < 0) {
        transport_unref(&c->t);
        return r;
    }
    *ret = &c->t;
    return 0;
}
