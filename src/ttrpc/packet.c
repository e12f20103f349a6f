/* SPDX-License-Identifier: Apache-2.0 */
#include "ttrpc/packet.h"

#include <endian.h>
#include <string.h>

static uint32_t get32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return be32toh(v);
}

static uint64_t get64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return be64toh(v);
}

static void put32(uint8_t *p, uint32_t v) {
    v = htobe32(v);
    memcpy(p, &v, 4);
}

static void put64(uint8_t *p, uint64_t v) {
    v = htobe64(v);
    memcpy(p, &v, 8);
}

void packet_write(uint8_t *out, enum packet_type type, uint64_t session, const void *payload, size_t len) {
    put32(out, CHANNEL_MAGIC);
    out[4] = (uint8_t)type;
    memset(out + 5, 0, 3);
    put32(out + 8, (uint32_t)len);
    put64(out + 12, session);
    if (len > 0)
        memcpy(out + PACKET_HEADER_SIZE, payload, len);
    put64(out + PACKET_HEADER_SIZE + len, session);
}

void packet_write_version(uint8_t *out, enum packet_type type, uint64_t session) {
    uint8_t version[4];
    put32(version, CHANNEL_VERSION);
    packet_write(out, type, session, version, sizeof(version));
}

bool packet_read_header(const uint8_t *in, struct packet_header *ret) {
    if (get32(in) != CHANNEL_MAGIC || in[4] < PACKET_SYNC || in[4] > PACKET_RESET || in[5] || in[6] || in[7])
        return false;
    uint32_t length = get32(in + 8);
    if (length > CHANNEL_PAYLOAD_MAX)
        return false;
    *ret = (struct packet_header){.type = (enum packet_type)in[4], .length = length, .session = get64(in + 12)};
    return true;
}

bool packet_trailer_ok(const uint8_t *packet, const struct packet_header *h) {
    return get64(packet + PACKET_HEADER_SIZE + h->length) == h->session;
}

uint32_t packet_version(const uint8_t *packet, const struct packet_header *h) {
    return h->length >= 4 ? get32(packet + PACKET_HEADER_SIZE) : 0;
}

size_t packet_scan(const uint8_t *buf, size_t len) {
    uint8_t magic[4];
    put32(magic, CHANNEL_MAGIC);
    for (size_t i = 0; i < len; i++) {
        const uint8_t *p = memchr(buf + i, magic[0], len - i);
        if (!p)
            return len;
        i = (size_t)(p - buf);
        size_t n = len - i < sizeof(magic) ? len - i : sizeof(magic);
        if (memcmp(p, magic, n) == 0)
            return i;
    }
    return len;
}
