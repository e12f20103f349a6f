/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ttrpc frames (containerd/ttrpc, PROTOCOL.md): a ten-byte header, big-endian, then data of at most 4 MiB. The decoder
 * takes bytes in any portions and bounds what it keeps.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TTRPC_HEADER_SIZE 10
#define TTRPC_DATA_MAX ((size_t)4 << 20)

enum ttrpc_type { TTRPC_REQUEST = 1, TTRPC_RESPONSE = 2, TTRPC_DATA = 3 };
enum ttrpc_flag { TTRPC_FLAG_REMOTE_CLOSED = 1, TTRPC_FLAG_REMOTE_OPEN = 2, TTRPC_FLAG_NO_DATA = 4 };

struct ttrpc_header {
    uint32_t length; /* of the data only */
    uint32_t stream; /* a client's ids are odd and rising */
    uint8_t type;    /* enum ttrpc_type; unknown ones are passed on, the caller ignores or refuses them */
    uint8_t flags;
};

void ttrpc_header_encode(const struct ttrpc_header *h, uint8_t out[TTRPC_HEADER_SIZE]);
void ttrpc_header_decode(const uint8_t in[TTRPC_HEADER_SIZE], struct ttrpc_header *ret);

struct ttrpc_decoder {
    uint8_t header[TTRPC_HEADER_SIZE];
    size_t have_header;
    struct ttrpc_header h;
    uint8_t *data; /* grows with what has arrived, not with what the header promises */
    size_t have_data, size;
};

typedef int (*ttrpc_frame_fn)(const struct ttrpc_header *h, const uint8_t *data, void *userdata, struct err *err);

/* Feeds bytes; calls fn for every frame that is complete (data is valid during the call). Stops at the first negative
 * return. Errors: -EMSGSIZE (length beyond TTRPC_DATA_MAX), -ENOMEM, fn's. After an error the decoder must be reset.
 * fn may return -ECANCELED when it freed what the decoder lives in: feed then touches nothing and returns it. */
int ttrpc_decoder_feed(struct ttrpc_decoder *d, const uint8_t *buf, size_t len, ttrpc_frame_fn fn, void *userdata,
                       struct err *err);
void ttrpc_decoder_reset(struct ttrpc_decoder *d); /* frees what it holds */
