/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of both roles of the channel share: one end under test, the other raw. */
#pragma once

#include "support.h"

#include "ttrpc/packet.h"
#include "ttrpc/transport.h"

enum where { NOWHERE, IN_READY, IN_DATA, IN_CLOSED };

struct end {
    sd_event *event;
    struct transport *t;
    int peer; /* raw */
    uint64_t session;
    size_t n_ready, n_drained, n_closed;
    uint8_t *buf; /* data that came */
    size_t have;
    struct err closed;
    enum where free_in;
    int data_result;
    uint8_t in[PACKET_MAX * 4]; /* what the raw end has read and not taken */
    size_t in_have;
};

#define END_BUF ((size_t)32 << 20)

static inline void end_visit(struct end *e, enum where where) {
    if (e->free_in == where)
        e->t = transport_free(e->t);
}

static inline void end_ready(struct transport *t, void *userdata) {
    struct end *e = userdata;
    assert_true(transport_is_ready(t));
    e->n_ready++;
    e->have = 0; /* everything of an earlier session is void */
    end_visit(e, IN_READY);
}

static inline int end_data(struct transport *t, const uint8_t *buf, size_t len, void *userdata, struct err *err) {
    struct end *e = userdata;
    (void)t;
    assert_true(e->have + len <= END_BUF);
    memcpy(e->buf + e->have, buf, len);
    e->have += len;
    end_visit(e, IN_DATA);
    return e->data_result ? err_set(err, -e->data_result, "not liked") : 0;
}

static inline void end_drained(struct transport *t, void *userdata) {
    struct end *e = userdata;
    assert_true(transport_queued(t) < TRANSPORT_SEND_MAX / 2);
    e->n_drained++;
}

static inline void end_closed(struct transport *t, const struct err *err, void *userdata) {
    struct end *e = userdata;
    assert_false(transport_is_ready(t));
    e->n_closed++;
    e->closed = *err;
    end_visit(e, IN_CLOSED);
}

static const struct transport_ops end_ops = {
    .ready = end_ready, .data = end_data, .drained = end_drained, .closed = end_closed};

static inline struct end *end_new(sd_event *event) {
    struct end *e = calloc(1, sizeof(*e));
    assert_non_null(e);
    e->buf = malloc(END_BUF);
    assert_non_null(e->buf);
    e->event = event ? sd_event_ref(event) : new_event();
    e->peer = -1;
    e->session = 0x1111222233334444;
    return e;
}

static inline void end_free(struct end *e) {
    transport_free(e->t);
    fd_close(e->peer);
    sd_event_unref(e->event);
    free(e->buf);
    free(e);
}

/* Takes fd. */
static inline void end_start(struct end *e, int fd, enum channel_role role, uint64_t timeout) {
    struct err err = ERR_INIT;
    assert_int_equal(transport_new_channel(e->event, fd, role, timeout, &end_ops, e, &e->t, &err), 0);
}

/* ---- the raw end ---- */

static inline void put_bytes(struct end *e, const void *buf, size_t len) {
    const uint8_t *p = buf;
    while (len > 0) {
        ssize_t n = send(e->peer, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            assert_true(sd_event_run(e->event, 10 * USEC_PER_MSEC) >= 0);
            continue;
        }
        p += n;
        len -= (size_t)n;
    }
}

static inline void put_packet(struct end *e, enum packet_type type, uint64_t session, const void *payload, size_t len) {
    cleanup_free uint8_t *p = malloc(PACKET_OVERHEAD + len);
    assert_non_null(p);
    packet_write(p, type, session, payload, len);
    put_bytes(e, p, PACKET_OVERHEAD + len);
}

static inline void put_version(struct end *e, enum packet_type type, uint64_t session) {
    uint8_t p[PACKET_SYNC_SIZE];
    packet_write_version(p, type, session);
    put_bytes(e, p, sizeof(p));
}

/* Takes the next packet; only what is there already. Returns false if there is no whole one. */
static inline bool get_packet_now(struct end *e, struct packet_header *h, uint8_t *payload) {
    e->in_have += read_now(e->peer, e->in + e->in_have, sizeof(e->in) - e->in_have);
    if (e->in_have < PACKET_HEADER_SIZE)
        return false;
    assert_true(packet_read_header(e->in, h));
    size_t size = PACKET_OVERHEAD + h->length;
    if (e->in_have < size)
        return false;
    assert_true(packet_trailer_ok(e->in, h));
    if (payload)
        memcpy(payload, e->in + PACKET_HEADER_SIZE, h->length);
    else if (h->type == PACKET_SYNC || h->type == PACKET_ACK)
        assert_int_equal(packet_version(e->in, h), CHANNEL_VERSION);
    e->in_have -= size;
    memmove(e->in, e->in + size, e->in_have);
    return true;
}

/* The same, running the loop until there is one. */
static inline struct packet_header get_packet(struct end *e, uint8_t *payload) {
    struct packet_header h = {0};
    RUN_UNTIL(e->event, get_packet_now(e, &h, payload));
    return h;
}

static inline void expect_packet(struct end *e, enum packet_type type, uint64_t session) {
    struct packet_header h = get_packet(e, NULL);
    assert_int_equal(h.type, type);
    assert_true(h.session == session);
}

static inline void expect_nothing(struct end *e) {
    struct packet_header h;
    run_idle(e->event);
    assert_false(get_packet_now(e, &h, NULL));
    assert_int_equal(e->in_have, 0);
}
