/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include "ttrpc/frame.h"

struct seen {
    size_t n;
    struct ttrpc_header last;
    uint64_t sum;
    size_t fail_at;                /* the frame (from 1) at which the callback fails */
    int fail_with;                 /* its errno */
    struct ttrpc_decoder *to_free; /* freed by the callback */
};

static uint64_t digest(const uint8_t *data, size_t len) {
    uint64_t sum = 14695981039346656037u;
    for (size_t i = 0; i < len; i++)
        sum = (sum ^ data[i]) * 1099511628211u;
    return sum;
}

static int on_frame(const struct ttrpc_header *h, const uint8_t *data, void *userdata, struct err *err) {
    struct seen *s = userdata;
    s->n++;
    s->last = *h;
    s->sum = digest(data, h->length);
    if (s->n != s->fail_at)
        return 0;
    if (s->to_free) {
        ttrpc_decoder_reset(s->to_free);
        free(s->to_free);
        return -ECANCELED;
    }
    return err_set(err, s->fail_with, "no more");
}

/* A frame with `len` bytes of a pattern; malloc'd. */
static uint8_t *make_frame(uint32_t stream, size_t len) {
    uint8_t *p = malloc(TTRPC_HEADER_SIZE + len);
    struct ttrpc_header h = {.length = (uint32_t)len, .stream = stream, .type = TTRPC_REQUEST, .flags = 4};
    assert_non_null(p);
    ttrpc_header_encode(&h, p);
    for (size_t i = 0; i < len; i++)
        p[TTRPC_HEADER_SIZE + i] = (uint8_t)(i * 7 + stream);
    return p;
}

static void header_is_big_endian(void **state) {
    (void)state;
    struct ttrpc_header h = {.length = 0x01020304, .stream = 0xa0b0c0d0, .type = 2, .flags = 5}, back;
    uint8_t out[TTRPC_HEADER_SIZE];
    static const uint8_t want[] = {1, 2, 3, 4, 0xa0, 0xb0, 0xc0, 0xd0, 2, 5};
    ttrpc_header_encode(&h, out);
    assert_memory_equal(out, want, sizeof(want));
    ttrpc_header_decode(out, &back);
    assert_int_equal(back.length, h.length);
    assert_int_equal(back.stream, h.stream);
    assert_int_equal(back.type, h.type);
    assert_int_equal(back.flags, h.flags);
}

/* The same frames in portions of every size give the same result. */
static void any_portions(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 5000, 17};
    size_t total = 0;
    uint8_t all[6000];
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        cleanup_free uint8_t *p = make_frame((uint32_t)(2 * i + 1), sizes[i]);
        memcpy(all + total, p, TTRPC_HEADER_SIZE + sizes[i]);
        total += TTRPC_HEADER_SIZE + sizes[i];
    }
    for (size_t step = 1; step <= total; step = step < 40 ? step + 1 : step * 2) {
        struct ttrpc_decoder d = {0};
        struct seen s = {0};
        struct err err = ERR_INIT;
        for (size_t off = 0; off < total; off += step)
            assert_int_equal(ttrpc_decoder_feed(&d, all + off, MIN(step, total - off), on_frame, &s, &err), 0);
        assert_int_equal(s.n, ARRAY_SIZE(sizes));
        assert_int_equal(s.last.stream, 7);
        assert_int_equal(s.last.length, 17);
        assert_true(s.sum == digest(all + total - 17, 17));
        ttrpc_decoder_reset(&d);
    }
}

static void largest(void **state) {
    (void)state;
    cleanup_free uint8_t *p = make_frame(9, TTRPC_DATA_MAX);
    size_t total = TTRPC_HEADER_SIZE + TTRPC_DATA_MAX;
    struct ttrpc_decoder d = {0};
    struct seen s = {0};
    struct err err = ERR_INIT;
    for (size_t off = 0; off < total; off += 65536) {
        assert_int_equal(s.n, 0);
        assert_int_equal(ttrpc_decoder_feed(&d, p + off, MIN((size_t)65536, total - off), on_frame, &s, &err), 0);
    }
    assert_int_equal(s.n, 1);
    assert_true(s.sum == digest(p + TTRPC_HEADER_SIZE, TTRPC_DATA_MAX));
    /* Nothing large is kept between frames. */
    assert_null(d.data);
    ttrpc_decoder_reset(&d);
}

static void too_large(void **state) {
    (void)state;
    static const uint32_t lengths[] = {TTRPC_DATA_MAX + 1, INT32_MAX, (uint32_t)INT32_MAX + 1, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        struct ttrpc_header h = {.length = lengths[i], .stream = 3, .type = TTRPC_RESPONSE};
        uint8_t buf[TTRPC_HEADER_SIZE];
        struct ttrpc_decoder d = {0};
        struct seen s = {0};
        struct err err = ERR_INIT;
        ttrpc_header_encode(&h, buf);
        assert_int_equal(ttrpc_decoder_feed(&d, buf, sizeof(buf), on_frame, &s, &err), -EMSGSIZE);
        assert_non_null(strstr(err.msg, "stream 3"));
        assert_int_equal(s.n, 0);
        assert_null(d.data);
        ttrpc_decoder_reset(&d);
    }
}

/* A promise of 4 MiB and little after it must not cost 4 MiB. */
static void memory_follows_what_arrived(void **state) {
    (void)state;
    cleanup_free uint8_t *p = make_frame(1, TTRPC_DATA_MAX);
    struct ttrpc_decoder d = {0};
    struct seen s = {0};
    struct err err = ERR_INIT;
    size_t off = 0;
    for (size_t want = 16; want < 1 << 20; want *= 2) {
        assert_int_equal(ttrpc_decoder_feed(&d, p + off, want - off, on_frame, &s, &err), 0);
        off = want;
        assert_true(d.size <= MAX(2 * want, (size_t)4096));
    }
    ttrpc_decoder_reset(&d);
    assert_null(d.data);
}

static void stops_at_failure(void **state) {
    (void)state;
    uint8_t buf[3 * TTRPC_HEADER_SIZE];
    for (uint32_t i = 0; i < 3; i++) {
        struct ttrpc_header h = {.stream = i, .type = TTRPC_REQUEST};
        ttrpc_header_encode(&h, buf + i * TTRPC_HEADER_SIZE);
    }
    struct ttrpc_decoder d = {0};
    struct seen s = {.fail_at = 2, .fail_with = EPROTO};
    struct err err = ERR_INIT;
    assert_int_equal(ttrpc_decoder_feed(&d, buf, sizeof(buf), on_frame, &s, &err), -EPROTO);
    assert_int_equal(s.n, 2);
    assert_string_equal(err.msg, "no more");
    ttrpc_decoder_reset(&d);
}

/* The callback frees the decoder: feed must not touch it any more (AddressSanitizer tells). */
static void freed_by_callback(void **state) {
    (void)state;
    cleanup_free uint8_t *p = make_frame(1, 100);
    for (size_t first = 1; first <= 110; first += 109) {
        struct ttrpc_decoder *d = calloc(1, sizeof(*d));
        struct seen s = {.fail_at = 1, .to_free = d};
        struct err err = ERR_INIT;
        int r = ttrpc_decoder_feed(d, p, first, on_frame, &s, &err);
        if (first < 110)
            r = ttrpc_decoder_feed(d, p + first, 110 - first, on_frame, &s, &err);
        assert_int_equal(r, -ECANCELED);
        assert_int_equal(s.n, 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_is_big_endian),
        cmocka_unit_test(any_portions),
        cmocka_unit_test(largest),
        cmocka_unit_test(too_large),
        cmocka_unit_test(memory_follows_what_arrived),
        cmocka_unit_test(stops_at_failure),
        cmocka_unit_test(freed_by_callback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
