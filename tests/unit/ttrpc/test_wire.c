/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include "proto/agent.pb-c.h"
#include "proto/ttrpc.pb-c.h"
#include "ttrpc/wire.h"

static void request(void **state) {
    (void)state;
    Stasis__Agent__V1__ContainerRequest m = STASIS__AGENT__V1__CONTAINER_REQUEST__INIT;
    cleanup_free uint8_t *p = NULL;
    size_t len = 0;
    struct err err = ERR_INIT;
    m.id = (char *)"abc";
    assert_int_equal(wire_request(5, "a.Service", "Method", &m.base, 1500, &p, &len, &err), 0);
    struct ttrpc_header h;
    ttrpc_header_decode(p, &h);
    assert_int_equal(h.type, TTRPC_REQUEST);
    assert_int_equal(h.stream, 5);
    assert_int_equal(h.length, len - TTRPC_HEADER_SIZE);
    cleanup_message ProtobufCMessage *env = wire_unpack(&ttrpc__request__descriptor, p + TTRPC_HEADER_SIZE, h.length);
    assert_non_null(env);
    const Ttrpc__Request *r = (const void *)env;
    assert_string_equal(r->service, "a.Service");
    assert_string_equal(r->method, "Method");
    assert_int_equal(r->timeout_nano, 1500000);
    assert_int_equal(r->payload.len, 5);
    assert_memory_equal(r->payload.data,
                        "\x0a\x03"
                        "abc",
                        5);
}

static void empty_reply_is_nothing(void **state) {
    (void)state;
    cleanup_free uint8_t *p = NULL;
    size_t len = 0;
    struct err err = ERR_INIT;
    Stasis__Agent__V1__Empty e = STASIS__AGENT__V1__EMPTY__INIT;
    assert_int_equal(wire_reply(1, &e.base, &p, &len, &err), 0);
    assert_int_equal(len, TTRPC_HEADER_SIZE);
    free(TAKE_PTR(p));
    assert_int_equal(wire_reply(1, NULL, &p, &len, &err), 0);
    assert_int_equal(len, TTRPC_HEADER_SIZE);
}

/* The limit is that of the frame: payload and envelope together. */
static void size_limit(void **state) {
    (void)state;
    cleanup_free uint8_t *data = calloc(1, TTRPC_DATA_MAX), *p = NULL;
    size_t len = 0;
    struct err err = ERR_INIT;
    Stasis__Agent__V1__ReadResponse m = STASIS__AGENT__V1__READ_RESPONSE__INIT;
    m.data.data = data;
    m.data.len = TTRPC_DATA_MAX - 10; /* each of two levels takes a tag and four bytes of length */
    assert_int_equal(wire_reply(1, &m.base, &p, &len, &err), 0);
    assert_int_equal(len, TTRPC_HEADER_SIZE + TTRPC_DATA_MAX);
    free(TAKE_PTR(p));
    m.data.len++;
    assert_int_equal(wire_reply(1, &m.base, &p, &len, &err), -EMSGSIZE);
    m.data.len = TTRPC_DATA_MAX;
    assert_int_equal(wire_reply(1, &m.base, &p, &len, &err), -EMSGSIZE);
    assert_null(p);
}

static void failure_is_utf8(void **state) {
    (void)state;
    static const struct {
        const char *in, *out;
    } rows[] = {{"plain", "plain"},
                {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
                {"\xf0\x9f\x98\x80!", "\xf0\x9f\x98\x80!"},
                {"a\xff"
                 "b",
                 "a?b"},
                {"cut \xc3", "cut ?"},
                {"cut \xf0\x9f\x98", "cut ???"},
                {"\xed\xa0\x80", "???"},
                {"", ""}};
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_free uint8_t *p = NULL;
        size_t len = 0;
        struct err err = ERR_INIT;
        assert_int_equal(wire_failure(3, 5, rows[i].in, &p, &len, &err), 0);
        cleanup_message ProtobufCMessage *m =
            wire_unpack(&ttrpc__response__descriptor, p + TTRPC_HEADER_SIZE, len - TTRPC_HEADER_SIZE);
        assert_non_null(m);
        const Ttrpc__Response *r = (const void *)m;
        assert_int_equal(r->status->code, 5);
        assert_string_equal(r->status->message, rows[i].out);
    }
}

/* Two bytes on the wire are an object in memory: a message of nothing but empty entries is refused, an honest one with
 * many small entries is not. */
static void bomb(void **state) {
    (void)state;
    cleanup_free uint8_t *p = malloc(TTRPC_DATA_MAX);
    assert_non_null(p);
    for (size_t i = 0; i < TTRPC_DATA_MAX; i += 2) {
        p[i] = 0x0a; /* field 1, a submessage */
        p[i + 1] = 0;
    }
    assert_null(wire_unpack(&stasis__agent__v1__processes_response__descriptor, p, TTRPC_DATA_MAX));
    for (size_t i = 0; i < TTRPC_DATA_MAX; i += 2) {
        p[i] = 0x7a; /* field 15, unknown */
        p[i + 1] = 0;
    }
    assert_null(wire_unpack(&stasis__agent__v1__processes_response__descriptor, p, TTRPC_DATA_MAX));

    size_t len = 0;
    for (int i = 0; i < 30000; i++) {
        static const uint8_t entry[] = {0x0a, 8, 0x08, 0xe8, 0x07, 0x10, 1, 0x3a, 1, 'a'};
        memcpy(p + len, entry, sizeof(entry));
        p[len + 1] = 8;
        len += sizeof(entry);
    }
    cleanup_message ProtobufCMessage *m = wire_unpack(&stasis__agent__v1__processes_response__descriptor, p, len);
    assert_non_null(m);
    assert_int_equal(((Stasis__Agent__V1__ProcessesResponse *)m)->n_processes, 30000);
}

static void malformed(void **state) {
    (void)state;
    assert_null(wire_unpack(&ttrpc__request__descriptor, (const uint8_t *)"\x0a\x7f", 2));
    assert_null(wire_unpack(&ttrpc__request__descriptor, (const uint8_t *)"\xff", 1));
    cleanup_message ProtobufCMessage *m = wire_unpack(&ttrpc__request__descriptor, NULL, 0);
    assert_non_null(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request),    cmocka_unit_test(empty_reply_is_nothing),
        cmocka_unit_test(size_limit), cmocka_unit_test(failure_is_utf8),
        cmocka_unit_test(bomb),       cmocka_unit_test(malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
