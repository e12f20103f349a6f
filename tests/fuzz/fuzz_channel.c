/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packet layer in both roles. The input is a sequence of orders to the peer: raw bytes, or packets with valid
 * frames around fuzzed content, which random bytes would never hit. Whatever it says, a fresh, honest peer must be able
 * to open a session with the guest afterwards.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "base/fd.h"
#include "base/util.h"
#include "ttrpc/packet.h"
#include "ttrpc/transport.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SESSION UINT64_C(0x123456789)
#define FRESH_SESSION UINT64_C(0xfeedfacecafebeef)

struct end {
    sd_event *event;
    struct transport *t;
    int peer;
    bool host, ready, closed;
    uint64_t session; /* of the host under test, read from its SYNC */
    uint8_t refuse;   /* the data callback fails on packets of this length; 0: never */
    uint8_t free_on;  /* and frees the transport on packets of this one */
};

static void on_ready(struct transport *t, void *userdata) {
    struct end *e = userdata;
    if (e->closed || !transport_is_ready(t))
        abort();
    e->ready = true;
    (void)transport_send(t, "ready", 5, NULL);
}

static int on_data(struct transport *t, const uint8_t *buf, size_t len, void *userdata, struct err *err) {
    struct end *e = userdata;
    if (!e->ready || e->closed || len > CHANNEL_PAYLOAD_MAX)
        abort();
    if (e->free_on != 0 && len == e->free_on) {
        e->t = transport_free(e->t);
        return -ECANCELED;
    }
    if (e->refuse != 0 && len == e->refuse)
        return err_set(err, EPROTO, "refused");
    (void)transport_send(t, buf, len, NULL); /* -ENOBUFS in the end: nobody reads */
    return 0;
}

static void on_closed(struct transport *t, const struct err *err, void *userdata) {
    struct end *e = userdata;
    if (e->closed || err->code < 0 || !e->host || transport_is_ready(t))
        abort(); /* a guest's channel stays as long as the device */
    e->closed = true;
}

static const struct transport_ops ops = {.ready = on_ready, .data = on_data, .closed = on_closed};

static void turn(struct end *e) {
    static uint8_t sink[1 << 16];
    while (sd_event_run(e->event, 0) > 0)
        while (recv(e->peer, sink, sizeof(sink), MSG_DONTWAIT) > 0)
            continue;
}

static void put(struct end *e, const uint8_t *buf, size_t len) {
    while (len > 0 && e->t && !e->closed) {
        ssize_t n = send(e->peer, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            buf += n;
            len -= (size_t)n;
        }
        turn(e);
    }
}

static void put_packet(struct end *e, uint8_t kind, const uint8_t *payload, size_t len) {
    static uint8_t packet[PACKET_MAX];
    uint64_t session = e->host ? e->session : SESSION;
    if (kind & 0x80)
        session++;
    enum packet_type type = (enum packet_type)(1 + (kind & 3));
    if (kind & 4) {
        packet_write_version(packet, type, session);
        len = 4;
    } else {
        packet_write(packet, type, session, payload, len);
    }
    if (kind & 8)
        packet[PACKET_HEADER_SIZE + len] ^= 1;
    put(e, packet, kind & 16 ? (PACKET_OVERHEAD + len) / 2 : PACKET_OVERHEAD + len);
}

/* Orders: how, then a length of two bytes, then as many bytes as there are. */
static void play(struct end *e, const uint8_t *data, size_t size) {
    while (size >= 3 && e->t && !e->closed) {
        uint8_t how = data[0];
        size_t len = MIN((size_t)data[1] << 8 | data[2], size - 3);
        if (how & 0x40)
            put(e, data + 3, len);
        else
            put_packet(e, how, data + 3, len);
        data += 3 + len;
        size -= 3 + len;
    }
}

static void expect_resync(struct end *e) {
    static uint8_t syncs[PACKET_MAX + 4 * PACKET_SYNC_SIZE];
    size_t n = sizeof(syncs) / PACKET_SYNC_SIZE;
    for (size_t i = 0; i < n; i++)
        packet_write_version(syncs + i * PACKET_SYNC_SIZE, PACKET_SYNC, FRESH_SESSION);
    e->ready = false;
    e->refuse = e->free_on = 0;
    put(e, syncs, n * PACKET_SYNC_SIZE);
    turn(e);
    if (!e->ready)
        abort();
}

static void run(const uint8_t *data, size_t size, bool host) {
    struct end e = {.host = host, .refuse = data[0], .free_on = data[1]};
    struct err err = ERR_INIT;
    int fds[2];
    if (sd_event_new(&e.event) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        abort();
    e.peer = fds[0];
    if (transport_new_channel(e.event, fds[1], host ? CHANNEL_HOST : CHANNEL_GUEST, 0, &ops, &e, &e.t, &err) < 0)
        abort();
    if (host) {
        uint8_t sync[PACKET_SYNC_SIZE];
        struct packet_header h;
        if (recv(e.peer, sync, sizeof(sync), 0) != sizeof(sync) || !packet_read_header(sync, &h))
            abort();
        e.session = h.session;
    }
    play(&e, data + 2, size - 2);
    if (!host && e.t)
        expect_resync(&e);
    transport_free(e.t);
    fd_close(e.peer);
    sd_event_unref(e.event);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    run(data, size, false);
    run(data, size, true);
    return 0;
}
