/* SPDX-License-Identifier: Apache-2.0 */
/* Internal: packets of the channel (layout in transport.h). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ttrpc/transport.h"

#define PACKET_HEADER_SIZE 20
#define PACKET_TRAILER_SIZE 8
#define PACKET_OVERHEAD (PACKET_HEADER_SIZE + PACKET_TRAILER_SIZE)
#define PACKET_MAX (CHANNEL_PAYLOAD_MAX + PACKET_OVERHEAD)
#define PACKET_SYNC_SIZE (PACKET_OVERHEAD + 4)

enum packet_type {
    PACKET_SYNC = 1,  /* host: a session begins. Payload: version u32 */
    PACKET_ACK = 2,   /* guest: it has begun. Payload: version u32 */
    PACKET_DATA = 3,  /* both */
    PACKET_RESET = 4, /* guest: the session is lost; the host may open another */
};

struct packet_header {
    enum packet_type type;
    uint32_t length;
    uint64_t session;
};

/* Writes a whole packet of PACKET_OVERHEAD + len bytes. */
void packet_write(uint8_t *out, enum packet_type type, uint64_t session, const void *payload, size_t len);
/* The same for SYNC and ACK. */
void packet_write_version(uint8_t *out, enum packet_type type, uint64_t session);

/* False if these PACKET_HEADER_SIZE bytes are not the header of a packet. */
bool packet_read_header(const uint8_t *in, struct packet_header *ret);

/* True if the trailer agrees with the header; `packet` is whole. */
bool packet_trailer_ok(const uint8_t *packet, const struct packet_header *h);

/* The version in a SYNC or ACK; 0 if there is none. */
uint32_t packet_version(const uint8_t *packet, const struct packet_header *h);

/* Offset of the next byte at which a packet could begin (len: nowhere). */
size_t packet_scan(const uint8_t *buf, size_t len);
