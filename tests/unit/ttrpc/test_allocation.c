/* SPDX-License-Identifier: Apache-2.0 */
/* Frames and messages when memory runs out, at each allocation. */
#include "alloc_fault.h"

#include "base/util.h"
#include "proto/agent.pb-c.h"
#include "ttrpc/frame.h"
#include "ttrpc/wire.h"

static int on_frame(const struct ttrpc_header *h, const uint8_t *data, void *userdata, struct err *err) {
    (void)data;
    (void)err;
    *(uint32_t *)userdata += h->length;
    return 0;
}

static int feed(void *arg, struct err *err) {
    (void)arg;
    struct ttrpc_decoder d = {0};
    struct ttrpc_header h = {.length = 9000, .stream = 1, .type = TTRPC_REQUEST};
    uint8_t bytes[TTRPC_HEADER_SIZE + 9000] = {0};
    uint32_t got = 0;
    ttrpc_header_encode(&h, bytes);
    int r = 0;
    for (size_t at = 0; r == 0 && at < sizeof(bytes); at += 1000)
        r = ttrpc_decoder_feed(&d, bytes + at, MIN((size_t)1000, sizeof(bytes) - at), on_frame, &got, err);
    ttrpc_decoder_reset(&d);
    if (r == 0)
        assert_int_equal(got, 9000);
    return r;
}

static void frames(void **state) {
    (void)state;
    alloc_sweep(feed, NULL);
}

static int reply(void *arg, struct err *err) {
    (void)arg;
    Stasis__Agent__V1__HelloResponse out = STASIS__AGENT__V1__HELLO_RESPONSE__INIT;
    uint8_t *frame = NULL;
    size_t len = 0;
    out.version = 7;
    int r = wire_reply(1, &out.base, &frame, &len, err);
    free(frame);
    return r;
}

static void replies(void **state) {
    (void)state;
    alloc_sweep(reply, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(frames), cmocka_unit_test(replies)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
