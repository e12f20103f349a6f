/* SPDX-License-Identifier: Apache-2.0 */
/* Established TCP over the loopback, IPv4 and IPv6: with bytes in both directions that nobody has read; with more than
 * the other end has room for, so that some are not sent; with one direction closed. */
#include "workload.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#define PORT 7003
#define BULK 4000
#define BUFFER (64 << 10)
#define STUFFING ((size_t)4 << 20) /* more than fits in such buffers of both ends */

struct connection {
    int client, server;
};
static struct connection four, six, stuffed, half;
static char *stuffing;
static size_t stuffed_bytes;
static char bulk[BULK];

static void put(const struct connection *c) {
    must(send(c->client, "question", 8, 0) == 8);
    must(send(c->server, bulk, BULK, 0) == BULK);
}

static void open_one(struct connection *c, const struct sockaddr *to, socklen_t size) {
    int listener, on = 1;
    must((listener = socket(to->sa_family, SOCK_STREAM, 0)) >= 0);
    must(!setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
    if (to->sa_family == AF_INET6)
        must(!setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)));
    must(!bind(listener, to, size) && !listen(listener, 1));
    must((c->client = socket(to->sa_family, SOCK_STREAM, 0)) >= 0 && !connect(c->client, to, size));
    must((c->server = accept(listener, NULL, NULL)) >= 0 && !close(listener));
    must(!setsockopt(c->client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
    must(!setsockopt(c->client, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)));
}

static void stuff(void) {
    for (stuffed_bytes = 0;;) {
        ssize_t n = send(stuffed.client, stuffing + stuffed_bytes, STUFFING - stuffed_bytes, MSG_DONTWAIT);
        bool full = n < 0 && errno == EAGAIN;
        must(full || n > 0);
        if (full)
            return;
        stuffed_bytes += (size_t)n;
    }
}

void set_up(void) {
    pattern_fill(bulk, BULK, 6);
    struct sockaddr_in to4 = {
        .sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    open_one(&four, (struct sockaddr *)&to4, sizeof(to4));
    open_one(&stuffed, (struct sockaddr *)&to4, sizeof(to4));
    open_one(&half, (struct sockaddr *)&to4, sizeof(to4));
    struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_port = htons(PORT), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    open_one(&six, (struct sockaddr *)&to6, sizeof(to6));
    put(&four);
    put(&six);
    int size = BUFFER;
    must(!setsockopt(stuffed.client, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)));
    must(!setsockopt(stuffed.server, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)));
    must((stuffing = malloc(STUFFING)) != NULL);
    pattern_fill(stuffing, STUFFING, 7);
    stuff();
    must(!shutdown(half.client, SHUT_WR));
}

static void check_one(const struct connection *c) {
    int on = 0;
    socklen_t size = sizeof(on);
    must(readable(c->server) && reads(c->server, "question", 8));
    must(readable(c->client) && reads(c->client, bulk, BULK));
    must(!getsockopt(c->client, IPPROTO_TCP, TCP_NODELAY, &on, &size) && on);
    must(!getsockopt(c->client, SOL_SOCKET, SO_KEEPALIVE, &on, &size) && on);
    put(c);
}

static void check_half(void) {
    char c;
    must(recv(half.server, &c, 1, MSG_DONTWAIT) == 0);
    must(send(half.server, "answer", 6, MSG_NOSIGNAL) == 6);
    must(readable(half.client) && reads(half.client, "answer", 6));
}

void check(void) {
    check_one(&four);
    check_one(&six);
    for (size_t at = 0, n; at < stuffed_bytes; at += n) {
        n = stuffed_bytes - at < BULK ? stuffed_bytes - at : BULK;
        must(readable(stuffed.server) && reads(stuffed.server, stuffing + at, n));
    }
    stuff();
    check_half();
}
