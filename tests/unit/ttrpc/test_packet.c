/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include "ttrpc/packet.h"

static void layout(void **state) {
    (void)state;
    uint8_t out[PACKET_OVERHEAD + 2];
    static const uint8_t want[] = {0x53, 0x54, 0x50, 0x31, 3, 0,   0,   0, 0, 0, 0, 2, 1, 2, 3,
                                   4,    5,    6,    7,    8, 'h', 'i', 1, 2, 3, 4, 5, 6, 7, 8};
    packet_write(out, PACKET_DATA, UINT64_C(0x0102030405060708), "hi", 2);
    assert_memory_equal(out, want, sizeof(want));

    struct packet_header h;
    assert_true(packet_read_header(out, &h));
    assert_int_equal(h.type, PACKET_DATA);
    assert_int_equal(h.length, 2);
    assert_true(h.session == UINT64_C(0x0102030405060708));
    assert_true(packet_trailer_ok(out, &h));
    assert_int_equal(packet_version(out, &h), 0);
    out[sizeof(out) - 1] ^= 1;
    assert_false(packet_trailer_ok(out, &h));
}

static void version(void **state) {
    (void)state;
    uint8_t out[PACKET_SYNC_SIZE];
    struct packet_header h;
    packet_write_version(out, PACKET_SYNC, 99);
    assert_true(packet_read_header(out, &h));
    assert_int_equal(h.type, PACKET_SYNC);
    assert_int_equal(packet_version(out, &h), CHANNEL_VERSION);
    assert_true(packet_trailer_ok(out, &h));
}

/* One wrong byte anywhere before the session makes it no header. */
static void refused(void **state) {
    (void)state;
    uint8_t out[PACKET_OVERHEAD];
    struct packet_header h;
    for (size_t i = 0; i < 9; i++) {
        packet_write(out, PACKET_DATA, 1, NULL, 0);
        assert_true(packet_read_header(out, &h));
        out[i] ^= 0x80;
        assert_false(packet_read_header(out, &h));
    }
    static const struct {
        uint8_t type;
        bool good;
    } types[] = {{0, false}, {1, true}, {2, true}, {3, true}, {4, true}, {5, false}, {255, false}};
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        packet_write(out, PACKET_DATA, 1, NULL, 0);
        out[4] = types[i].type;
        assert_int_equal(packet_read_header(out, &h), types[i].good);
    }
    static const struct {
        uint8_t length[4];
        bool good;
    } lengths[] = {{{0, 1, 0, 0}, true}, {{0, 1, 0, 1}, false}, {{0xff, 0xff, 0xff, 0xff}, false}};
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        packet_write(out, PACKET_DATA, 1, NULL, 0);
        memcpy(out + 8, lengths[i].length, 4);
        assert_int_equal(packet_read_header(out, &h), lengths[i].good);
    }
}

static void scan(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t at;
    } rows[] = {{"", 0},    {"x", 1},     {"STP1", 0},    {"xxSTP1y", 2}, {"SSTP1", 1},
                {"xxS", 2}, {"xxSTP", 2}, {"STPSTP1", 3}, {"STPx", 4},    {"SxSxSxST", 6}};
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_int_equal(packet_scan((const uint8_t *)rows[i].text, strlen(rows[i].text)), rows[i].at);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(layout), cmocka_unit_test(version), cmocka_unit_test(refused),
                                       cmocka_unit_test(scan)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
