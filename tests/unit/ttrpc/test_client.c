/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include "proto/agent.pb-c.h"
#include "proto/ttrpc.pb-c.h"
#include "ttrpc/client.h"
#include "ttrpc/server.h"

#define SERVICE (&stasis__agent__v1__agent__descriptor)
static void on_hello(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    Stasis__Agent__V1__HelloResponse out = STASIS__AGENT__V1__HELLO_RESPONSE__INIT;
    (void)in, (void)userdata;
    out.version = 3;
    ttrpc_reply(req, &out.base);
}
static const struct ttrpc_service service = {
    .desc = SERVICE,
    .handlers = (const struct ttrpc_handler[]){{"Hello", on_hello}, {NULL, NULL}},
};
static void end_to_end(bool channel) {
    sd_event *event = new_event();
    struct err err = ERR_INIT;
    struct ttrpc_server *s = NULL;
    struct ttrpc_client *c = NULL;
    int fds[2];
    new_pair(fds);
    assert_int_equal(ttrpc_server_new(event, &s, &err), 0);
    assert_int_equal(ttrpc_server_add(s, &service, NULL, &err), 0);
    if (channel) {
        assert_int_equal(ttrpc_server_add_channel(s, fds[0], &err), 0);
        assert_int_equal(ttrpc_client_new_channel(event, fds[1], USEC_PER_SEC, NULL, NULL, &c, &err), 0);
        RUN_UNTIL(event, ttrpc_client_is_ready(c));
    } else {
        assert_int_equal(ttrpc_server_add_plain(s, fds[0], &err), 0);
        assert_int_equal(ttrpc_client_new_plain(event, fds[1], NULL, NULL, &c, &err), 0);
    }
    Stasis__Agent__V1__HelloRequest hello = STASIS__AGENT__V1__HELLO_REQUEST__INIT;
    uint64_t t0 = now_usec();
    for (int i = 0; i < 1000; i++) {
        ProtobufCMessage *m = NULL;
        assert_int_equal(ttrpc_client_call_sync(c, SERVICE, "Hello", &hello.base, NULL, 0, USEC_PER_SEC, &m, &err), 0);
        assert_int_equal(((Stasis__Agent__V1__HelloResponse *)m)->version, 3);
        protobuf_c_message_free_unpacked(m, NULL);
    }
    print_message("%s: %.1f us per call\n", channel ? "channel" : "plain", (double)(now_usec() - t0) / 1000);
    assert_int_equal(
        ttrpc_client_call_sync(c, SERVICE, "Events",
                               &(Stasis__Agent__V1__ContainerRequest)STASIS__AGENT__V1__CONTAINER_REQUEST__INIT.base,
                               NULL, 0, USEC_PER_SEC, NULL, &err),
        -ENOSYS);
    print_message("%s\n", err.msg);
    ttrpc_client_free(c);
    ttrpc_server_free(s);
    sd_event_unref(event);
}
static void plain(void **state) {
    (void)state;
    end_to_end(false);
}
static void channel(void **state) {
    (void)state;
    end_to_end(true);
}
int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(plain), cmocka_unit_test(channel)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
