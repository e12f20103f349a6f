/* SPDX-License-Identifier: Apache-2.0 */
#include "ttrpc/frame.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

/* The first allocation for a frame's data; from there it doubles as bytes arrive. */
#define DECODER_SIZE_MIN ((size_t)4096)
/* A buffer larger than this is given back once its frame is done, so that an idle connection holds little. */
#define DECODER_SIZE_KEEP ((size_t)64 << 10)

void ttrpc_header_encode(const struct ttrpc_header *h, uint8_t out[TTRPC_HEADER_SIZE]) {
    uint32_t length = htobe32(h->length), stream = htobe32(h->stream);
    memcpy(out, &length, 4);
    memcpy(out + 4, &stream, 4);
    out[8] = h->type;
    out[9] = h->flags;
}

void ttrpc_header_decode(const uint8_t in[TTRPC_HEADER_SIZE], struct ttrpc_header *ret) {
    uint32_t length, stream;
    memcpy(&length, in, 4);
    memcpy(&stream, in + 4, 4);
    *ret = (struct ttrpc_header){.length = be32toh(length), .stream = be32toh(stream), .type = in[8], .flags = in[9]};
}

/* Takes header bytes. Returns how many. */
static size_t take_header(struct ttrpc_decoder *d, const uint8_t *buf, size_t len) {
    size_t n = MIN(len, TTRPC_HEADER_SIZE - d->have_header);
    memcpy(d->header + d->have_header, buf, n);
    d->have_header += n;
    if (d->have_header == TTRPC_HEADER_SIZE)
        ttrpc_header_decode(d->header, &d->h);
    return n;
}

static int take_data(struct ttrpc_decoder *d, const uint8_t *buf, size_t n, struct err *err) {
    size_t need = d->have_data + n;
    if (need > d->size) {
        size_t size = MAX(d->size, DECODER_SIZE_MIN);
        while (size < need)
            size *= 2;
        uint8_t *p = realloc(d->data, size);
        if (!p)
            return err_errno(err, ENOMEM, "ttrpc frame of %u bytes on stream %u", d->h.length, d->h.stream);
        d->data = p;
        d->size = size;
    }
    memcpy(d->data + d->have_data, buf, n);
    d->have_data += n;
    return 0;
}

int ttrpc_decoder_feed(struct ttrpc_decoder *d, const uint8_t *buf, size_t len, ttrpc_frame_fn fn, void *userdata,
                       struct err *err) {
    while (len > 0) {
        if (d->have_header < TTRPC_HEADER_SIZE) {
            size_t n = take_header(d, buf, len);
            buf += n;
            len -= n;
            if (d->have_header < TTRPC_HEADER_SIZE)
                return 0;
            if (d->h.length > TTRPC_DATA_MAX)
                return err_set(err, EMSGSIZE, "ttrpc frame on stream %u announces %u bytes, more than the limit of %zu",
                               d->h.stream, d->h.length, TTRPC_DATA_MAX);
        }

        const uint8_t *data = NULL;
        if (d->have_data == 0 && len >= d->h.length) {
            /* The whole frame is in the caller's buffer: no copy. */
            data = buf;
            buf += d->h.length;
            len -= d->h.length;
        } else {
            if (len == 0)
                return 0;
            size_t n = MIN(len, d->h.length - d->have_data);
            int r = take_data(d, buf, n, err);
            if (r < 0)
                return r;
            buf += n;
            len -= n;
            if (d->have_data < d->h.length)
                return 0;
            data = d->data;
        }

        struct ttrpc_header h = d->h;
        int r = fn(&h, data, userdata, err);
        if (r < 0)
            return r; /* the decoder may be gone */
        d->have_header = 0;
        d->have_data = 0;
        if (d->size > DECODER_SIZE_KEEP) {
            free(d->data);
            d->data = NULL;
            d->size = 0;
        }
    }
    return 0;
}

void ttrpc_decoder_reset(struct ttrpc_decoder *d) {
    free(d->data);
    *d = (struct ttrpc_decoder){0};
}
