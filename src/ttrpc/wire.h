/* SPDX-License-Identifier: Apache-2.0 */
/* Internal, but for wire_unpack(): messages to frames and back. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/util.h"
#include "ttrpc/frame.h"

/* Decodes a message. What a peer's bytes may make us allocate is bounded in proportion to their number. The result is
 * freed with protobuf_c_message_free_unpacked(m, NULL). NULL: malformed, or out of memory. */
ProtobufCMessage *wire_unpack(const ProtobufCMessageDescriptor *desc, const uint8_t *data, size_t len);

static inline void wire_message_freep(ProtobufCMessage **m) {
    if (*m)
        protobuf_c_message_free_unpacked(*m, NULL);
}
#define cleanup_message CLEANUP(wire_message_freep)

/* A frame ready to be sent (malloc'd). Errors: -EMSGSIZE when the data would be larger than TTRPC_DATA_MAX, -ENOMEM. */
int wire_request(uint32_t stream, const char *service, const char *method, const ProtobufCMessage *payload,
                 uint64_t timeout_usec, uint8_t **ret, size_t *ret_len, struct err *err);

/* payload may be NULL: an empty message. */
int wire_reply(uint32_t stream, const ProtobufCMessage *payload, uint8_t **ret, size_t *ret_len, struct err *err);

/* A response that says why there is no reply. The message is made valid UTF-8. */
int wire_failure(uint32_t stream, int code, const char *message, uint8_t **ret, size_t *ret_len, struct err *err);
