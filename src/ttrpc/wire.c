/* SPDX-License-Identifier: Apache-2.0 */
#include "ttrpc/wire.h"

#include <string.h>

#include "proto/ttrpc.pb-c.h"

/* An empty submessage takes two bytes on the wire and some fifty in memory; this is room for honest messages of many
 * small entries, and an end for others. */
#define UNPACK_BASE ((size_t)256 << 10)
#define UNPACK_FACTOR 16
#define UNPACK_OVERHEAD 16 /* of the allocator, per piece */

struct budget {
    size_t left;
};

static void *budget_alloc(void *data, size_t size) {
    struct budget *b = data;
    if (size > SIZE_MAX - UNPACK_OVERHEAD || size + UNPACK_OVERHEAD > b->left)
        return NULL;
    b->left -= size + UNPACK_OVERHEAD;
    return malloc(size);
}

static void budget_free(void *data, void *p) {
    (void)data;
    free(p);
}

ProtobufCMessage *wire_unpack(const ProtobufCMessageDescriptor *desc, const uint8_t *data, size_t len) {
    struct budget b = {.left = UNPACK_BASE + UNPACK_FACTOR * len};
    ProtobufCAllocator allocator = {.alloc = budget_alloc, .free = budget_free, .allocator_data = &b};
    return protobuf_c_message_unpack(desc, &allocator, len, data);
}

static size_t put_varint(uint8_t *out, size_t v) {
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        out[n++] = (uint8_t)(v | 0x80);
    out[n++] = (uint8_t)v;
    return n;
}

/* Packs `envelope` behind a frame header, and `payload` (may be NULL) as its bytes field of that number. The payload is
 * packed in place: through the envelope's own field it would be copied once more, and it may be large. */
static int frame(uint8_t type, uint32_t stream, const ProtobufCMessage *envelope, uint8_t field,
                 const ProtobufCMessage *payload, uint8_t **ret, size_t *ret_len, struct err *err) {
    size_t envelope_len = protobuf_c_message_get_packed_size(envelope);
    size_t payload_len = payload ? protobuf_c_message_get_packed_size(payload) : 0;
    uint8_t head[16];
    size_t head_len = 0;
    if (payload_len > 0) {
        head[head_len++] = (uint8_t)(field << 3 | 2); /* 2: length-delimited */
        head_len += put_varint(head + head_len, payload_len);
    }
    size_t len = envelope_len + head_len + payload_len;
    if (len > TTRPC_DATA_MAX)
        return err_set(err, EMSGSIZE, "message of %zu bytes is larger than the limit of %zu", len, TTRPC_DATA_MAX);
    uint8_t *p = malloc(TTRPC_HEADER_SIZE + len);
    if (!p)
        return err_errno(err, ENOMEM, "message of %zu bytes", len);
    struct ttrpc_header h = {.length = (uint32_t)len, .stream = stream, .type = type};
    ttrpc_header_encode(&h, p);
    uint8_t *out = p + TTRPC_HEADER_SIZE;
    protobuf_c_message_pack(envelope, out);
    memcpy(out + envelope_len, head, head_len);
    if (payload_len > 0)
        protobuf_c_message_pack(payload, out + envelope_len + head_len);
    *ret = p;
    *ret_len = TTRPC_HEADER_SIZE + len;
    return 0;
}

int wire_request(uint32_t stream, const char *service, const char *method, const ProtobufCMessage *payload,
                 uint64_t timeout_usec, uint8_t **ret, size_t *ret_len, struct err *err) {
    Ttrpc__Request req = TTRPC__REQUEST__INIT;
    req.service = (char *)service;
    req.method = (char *)method;
    req.timeout_nano = (int64_t)(MIN(timeout_usec, (uint64_t)INT64_MAX / 1000) * 1000);
    return frame(TTRPC_REQUEST, stream, &req.base, 3, payload, ret, ret_len, err);
}

int wire_reply(uint32_t stream, const ProtobufCMessage *payload, uint8_t **ret, size_t *ret_len, struct err *err) {
    Ttrpc__Response resp = TTRPC__RESPONSE__INIT;
    return frame(TTRPC_RESPONSE, stream, &resp.base, 2, payload, ret, ret_len, err);
}

int wire_failure(uint32_t stream, int code, const char *message, uint8_t **ret, size_t *ret_len, struct err *err) {
    char text[ERR_MSG_MAX];
    snprintf(text, sizeof(text), "%s", message);
    /* protobuf strings are UTF-8, and containerd refuses a message that is not; a cause may quote any bytes, and one
     * that was cut to size may end within a character. */
    str_printable(text, "\n\t");
    Ttrpc__Status status = TTRPC__STATUS__INIT;
    status.code = code;
    status.message = text;
    Ttrpc__Response resp = TTRPC__RESPONSE__INIT;
    resp.status = &status;
    return frame(TTRPC_RESPONSE, stream, &resp.base, 0, NULL, ret, ret_len, err);
}
