/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/criu_files.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/util.h"
#include "oci/criu_image.h"
#include "proto/criu.pb-c.h"

#define FILES_NAME "files.img"
#define PORT_MAX 65535

/* By CRIU's fd_types. */
static const char *const kinds[] = {
    "unknown", "file",     "pipe",    "fifo", "inet", "unix",     "eventfd", "epoll", "inotify", "signalfd", "packet",
    "tty",     "fanotify", "netlink", "ns",   "tun",  "external", "timerfd", "memfd", "bpf",     "pidfd",
};
/* By the kernel's numbers. */
static const char *const tcp_states[] = {
    [TCP_ESTABLISHED] = "ESTABLISHED",
    [TCP_SYN_SENT] = "SYN_SENT",
    [TCP_SYN_RECV] = "SYN_RECV",
    [TCP_FIN_WAIT1] = "FIN_WAIT1",
    [TCP_FIN_WAIT2] = "FIN_WAIT2",
    [TCP_TIME_WAIT] = "TIME_WAIT",
    [TCP_CLOSE] = "CLOSE",
    [TCP_CLOSE_WAIT] = "CLOSE_WAIT",
    [TCP_LAST_ACK] = "LAST_ACK",
    [TCP_LISTEN] = "LISTEN",
    [TCP_CLOSING] = "CLOSING",
};

void criu_files_clear(struct criu_files *files) {
    for (size_t i = 0; i < files->n; i++) {
        free(files->v[i].name);
        free(files->v[i].source);
        free(files->v[i].dest);
    }
    free(files->v);
    *files = (struct criu_files){0};
}

/* The length of the UTF-8 character at s, 0 if there is no printable one. */
static size_t printable(const unsigned char *s, size_t len) {
    if (s[0] < 0x80)
        return s[0] >= ' ' && s[0] != 0x7f ? 1 : 0;
    for (size_t n = 2; n <= 4 && n <= len; n++)
        if (utf8_valid((const char *)s, n))
            return n == 2 && s[0] == 0xc2 && s[1] < 0xa0 ? 0 : n; /* U+0080 to U+009F are control characters */
    return 0;
}

char *criu_text(const void *bytes, size_t len) {
    const unsigned char *s = bytes;
    len = MIN(len, (size_t)CRIU_TEXT_MAX);
    char *out = malloc(len + 1);
    if (!out)
        return NULL;
    for (size_t i = 0; i < len;) {
        size_t n = printable(s + i, len - i);
        if (n)
            memcpy(out + i, s + i, n);
        else
            out[i] = s[i] ? '?' : '@';
        i += MAX(n, (size_t)1);
    }
    out[len] = '\0';
    return out;
}

static const char *unix_type(uint32_t type) {
    switch (type) {
    case SOCK_STREAM:
        return "stream";
    case SOCK_DGRAM:
        return "dgram";
    case SOCK_SEQPACKET:
        return "seqpacket";
    default:
        return "unknown";
    }
}

/* A path ends at its NUL, an abstract name starts with one and may hold more. */
static char *unix_name(const uint8_t *name, size_t len) {
    if (len && name[0])
        len = strnlen((const char *)name, len);
    return criu_text(name, len);
}

static const char *inet_proto(uint32_t proto) {
    switch (proto) {
    case IPPROTO_TCP:
        return "tcp";
    case IPPROTO_UDP:
        return "udp";
    case IPPROTO_UDPLITE:
        return "udplite";
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
        return "icmp";
    case IPPROTO_RAW:
        return "raw";
    default:
        return "unknown";
    }
}

/* NULL when out of memory, or for an address that is none (*bad). */
static char *inet_address(uint32_t family, const uint32_t *words, size_t n, uint32_t port, bool *bad) {
    char text[INET6_ADDRSTRLEN] = "";
    *bad = n != (family == AF_INET6 ? 4 : 1) || port > PORT_MAX || !inet_ntop((int)family, words, text, sizeof(text));
    if (*bad)
        return NULL;
    return str_printf(family == AF_INET6 ? "[%s]:%u" : "%s:%u", text, port);
}

static int read_inet(const struct criu_image *img, const Criu__InetSocket *s, struct criu_file *f, struct err *err) {
    if (s->family != AF_INET && s->family != AF_INET6)
        return criu_image_error(img, EINVAL, err, "socket of address family %u", s->family);
    bool bad_source, bad_dest;
    f->source = inet_address(s->family, s->src_addr, s->n_src_addr, s->src_port, &bad_source);
    f->dest = inet_address(s->family, s->dst_addr, s->n_dst_addr, s->dst_port, &bad_dest);
    if (bad_source || bad_dest)
        return criu_image_error(img, EINVAL, err, "socket with a bad address or port");
    if (!f->source || !f->dest)
        return err_set(err, ENOMEM, "out of memory");
    f->proto = inet_proto(s->proto);
    if (s->proto == IPPROTO_TCP && s->state < ARRAY_SIZE(tcp_states))
        f->state = tcp_states[s->state];
    return 0;
}

static int read_file(const struct criu_image *img, const Criu__File *e, struct criu_file *f, struct err *err) {
    f->id = e->id;
    f->kind = kinds[e->type < ARRAY_SIZE(kinds) ? e->type : 0];
    if (e->isk)
        return read_inet(img, e->isk, f, err);
    if (e->pipe)
        f->pipe_id = e->pipe->pipe_id;
    if (e->fifo)
        f->pipe_id = e->fifo->pipe_id;
    if (e->reg)
        f->name = criu_text(e->reg->name, strlen(e->reg->name));
    else if (e->usk)
        f->name = unix_name(e->usk->name.data, e->usk->name.len);
    if ((e->reg || e->usk) && !f->name)
        return err_set(err, ENOMEM, "out of memory");
    if (e->usk)
        f->proto = unix_type(e->usk->type);
    return 0;
}

static int compare(const void *a, const void *b) {
    uint32_t x = ((const struct criu_file *)a)->id, y = ((const struct criu_file *)b)->id;
    return (x > y) - (x < y);
}

static int read_files(struct criu_image *img, struct criu_files *files, struct err *err) {
    size_t size = 0;
    for (;;) {
        cleanup_criu_message ProtobufCMessage *m = NULL;
        int r = criu_image_next_message(img, &criu__file__descriptor, &m, err);
        if (r <= 0)
            return r;
        if (files->n == CRIU_FILES_MAX)
            return criu_image_error(img, EFBIG, err, "more than %u open files", CRIU_FILES_MAX);
        if (files->n == size) {
            size = MAX(size * 2, (size_t)64);
            struct criu_file *v = reallocarray(files->v, size, sizeof(*v));
            if (!v)
                return err_set(err, ENOMEM, "out of memory");
            files->v = v;
        }
        struct criu_file *f = &files->v[files->n++];
        *f = (struct criu_file){0};
        if ((r = read_file(img, (const Criu__File *)m, f, err)) < 0)
            return r;
    }
}

int criu_files_read(int dirfd, struct criu_files *ret, struct err *err) {
    cleanup_criu_image struct criu_image *img = NULL;
    cleanup_criu_files struct criu_files files = {0};
    int r = criu_image_open(dirfd, FILES_NAME, CRIU_FILES, &img, err);
    if (r < 0 || (r = read_files(img, &files, err)) < 0)
        return r;
    if (files.n)
        qsort(files.v, files.n, sizeof(*files.v), compare);
    for (size_t i = 1; i < files.n; i++)
        if (files.v[i].id == files.v[i - 1].id)
            return err_set(err, EINVAL, "%s: two files have the id %u", FILES_NAME, files.v[i].id);
    *ret = files;
    files = (struct criu_files){0};
    return 0;
}

const struct criu_file *criu_files_find(const struct criu_files *files, uint32_t id) {
    const struct criu_file key = {.id = id};
    return files->n ? bsearch(&key, files->v, files->n, sizeof(key), compare) : NULL;
}
