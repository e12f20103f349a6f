/* SPDX-License-Identifier: Apache-2.0 */
/* The frame decoder, in portions that the input chooses, and the messages in the frames. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/agent.pb-c.h"
#include "proto/ttrpc.pb-c.h"
#include "ttrpc/frame.h"
#include "ttrpc/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void unpack(const ProtobufCMessageDescriptor *desc, const uint8_t *data, size_t len) {
    cleanup_message ProtobufCMessage *m = wire_unpack(desc, data, len);
    if (!m)
        return;
    /* What was understood can be said again. */
    size_t size = protobuf_c_message_get_packed_size(m);
    uint8_t *out = malloc(size + 1);
    if (out && protobuf_c_message_pack(m, out) != size)
        abort();
    free(out);
}

static int on_frame(const struct ttrpc_header *h, const uint8_t *data, void *userdata, struct err *err) {
    size_t *frames = userdata;
    if (h->length > TTRPC_DATA_MAX)
        abort();
    ++*frames;
    unpack(&ttrpc__request__descriptor, data, h->length);
    unpack(&ttrpc__response__descriptor, data, h->length);
    unpack(&stasis__agent__v1__processes_response__descriptor, data, h->length);
    unpack(&stasis__agent__v1__check_response__descriptor, data, h->length);
    return h->flags == 0xff ? err_set(err, EPROTO, "flags") : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ttrpc_decoder d = {0};
    struct err err = ERR_INIT;
    size_t frames = 0, step = size > 0 ? 1 + (size_t)data[0] * 37 : 1, fed = 0;
    for (size_t off = 0; off < size; off += step) {
        size_t n = MIN(step, size - off);
        if (ttrpc_decoder_feed(&d, data + off, n, on_frame, &frames, &err) < 0) {
            if (err.code <= 0)
                abort();
            break;
        }
        fed += n;
        if (d.size > MAX(2 * fed, (size_t)4096))
            abort(); /* memory follows what arrived */
    }
    ttrpc_decoder_reset(&d);
    return 0;
}
