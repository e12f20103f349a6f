/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets that need no option: unix pairs of each kind and connections by name, with data in flight;
 * a listening TCP socket; a bound UDP socket; their options.
 */
#include "workload.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#define TCP_PORT 7001
#define UDP_PORT 7002

static const struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "socket"};
static int stream[2], datagram[2], packet[2], listener, client, server, tcp, udp;

static void put(void) {
    must(send(stream[0], "stream", 6, 0) == 6);
    must(send(datagram[0], "one", 3, 0) == 3 && send(datagram[0], "three", 5, 0) == 5);
    must(send(packet[0], "packet", 6, 0) == 6);
    must(send(client, "to the server", 13, 0) == 13 && send(server, "to the client", 13, 0) == 13);
}

static int inet(int type, uint16_t port) {
    int fd, on = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    must((fd = socket(AF_INET, type | SOCK_CLOEXEC, 0)) >= 0);
    must(!setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
    must(!bind(fd, (struct sockaddr *)&to, sizeof(to)));
    return fd;
}

void set_up(void) {
    int size = 100000;
    must(!socketpair(AF_UNIX, SOCK_STREAM, 0, stream) && !socketpair(AF_UNIX, SOCK_DGRAM, 0, datagram));
    must(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, packet));
    must(!setsockopt(stream[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)));
    must((listener = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
    must(!bind(listener, (const struct sockaddr *)&name, sizeof(name)) && !listen(listener, 5));
    must((client = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
    must(!connect(client, (const struct sockaddr *)&name, sizeof(name)));
    must((server = accept(listener, NULL, NULL)) >= 0);
    tcp = inet(SOCK_STREAM, TCP_PORT);
    must(!listen(tcp, 7));
    udp = inet(SOCK_DGRAM, UDP_PORT);
    put();
}

static void check_inet(void) {
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(UDP_PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd, peer, on = 0;
    socklen_t size = sizeof(on);
    must(sendto(udp, "loop", 4, 0, (struct sockaddr *)&to, sizeof(to)) == 4 && readable(udp) && reads(udp, "loop", 4));
    must(!getsockopt(udp, SOL_SOCKET, SO_REUSEADDR, &on, &size) && on == 1);
    to.sin_port = htons(TCP_PORT);
    must((fd = socket(AF_INET, SOCK_STREAM, 0)) >= 0 && !connect(fd, (struct sockaddr *)&to, sizeof(to)));
    must((peer = accept(tcp, NULL, NULL)) >= 0);
    must(send(fd, "hello", 5, 0) == 5 && reads(peer, "hello", 5));
    /* At once, so that no connection is open at the next checkpoint. */
    struct linger hard = {.l_onoff = 1};
    must(!setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)) && !close(fd) && !close(peer));
}

void check(void) {
    int size = 0, fd;
    socklen_t len = sizeof(size);
    char byte;
    must(reads(stream[1], "stream", 6) && reads(datagram[1], "one", 3) && reads(datagram[1], "three", 5));
    must(reads(packet[1], "packet", 6) && recv(packet[1], &byte, 1, 0) < 0 && errno == EAGAIN);
    must(reads(server, "to the server", 13) && reads(client, "to the client", 13));
    must(!getsockopt(stream[0], SOL_SOCKET, SO_SNDBUF, &size, &len) && size == 200000);
    must((fd = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
    must(!connect(fd, (const struct sockaddr *)&name, sizeof(name)) && !close(fd));
    must((fd = accept(listener, NULL, NULL)) >= 0 && !close(fd));
    check_inet();
    put();
}
