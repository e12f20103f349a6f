/* SPDX-License-Identifier: Apache-2.0 */
#include "mock_agent.h"
#include "sandbox/call.h"
#include "support.h"

struct fixture {
    sd_event *event;
    struct mock_agent *agent;
    struct ttrpc_client *client;
    struct call_list list;
};

struct result {
    struct fixture *f;
    size_t n;
    bool replied;
    struct err err;
    struct sandbox_call *cancel; /* from within the callback */
    bool again;                  /* start another call from within the callback */
    int again_result;
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = ERR_INIT;
    int fds[2];
    if (sd_event_new(&f->event) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return -1;
    f->agent = mock_agent_new(f->event, fds[0], false);
    if (ttrpc_client_new_plain(f->event, fds[1], NULL, NULL, &f->client, &err) < 0)
        return -1;
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    ttrpc_client_free(f->client);
    calls_fail(&f->list, &(struct err){.code = ECANCELED});
    mock_agent_free(f->agent);
    sd_event_unref(f->event);
    free(f);
    return 0;
}

static int start(struct fixture *f, const char *method, uint64_t timeout, struct result *r, struct sandbox_call **ret);

static void on_reply(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct result *r = userdata;
    r->n++;
    if (err)
        r->err = *err;
    else
        r->replied = *reply != NULL;
    call_cancel(TAKE_PTR(r->cancel));
    if (r->again) {
        r->again = false;
        r->again_result = start(r->f, "Pause", 0, r, NULL);
    }
}

static int start(struct fixture *f, const char *method, uint64_t timeout, struct result *r, struct sandbox_call **ret) {
    Stasis__Agent__V1__ContainerRequest req = STASIS__AGENT__V1__CONTAINER_REQUEST__INIT;
    req.id = (char *)(uintptr_t) "c1";
    r->f = f;
    return call_start(&f->list, f->client, method, &req.base, timeout, on_reply, r, ret, &r->err);
}

static void test_reply(void **state) {
    struct fixture *f = *state;
    struct result r = {0};
    assert_int_equal(start(f, "StartContainer", 0, &r, NULL), 0);
    assert_int_equal(r.n, 0);
    RUN_UNTIL(f->event, r.n);
    assert_true(r.replied);
    assert_string_equal(f->agent->last, "c1");
}

/* The agent's own failure and a deadline pass at once: the connection is there, so there is no other cause. */
static void test_failures_pass(void **state) {
    struct fixture *f = *state;
    struct result r = {0};
    f->agent->fail = ENOENT;
    assert_int_equal(start(f, "StartContainer", 0, &r, NULL), 0);
    RUN_UNTIL(f->event, r.n);
    assert_int_equal(r.err.code, ENOENT);
    ASSERT_SAYS(&r.err, "the agent says no");

    struct result late = {0};
    f->agent->fail = 0;
    f->agent->hold = true;
    assert_int_equal(start(f, "StartContainer", 10 * USEC_PER_MSEC, &late, NULL), 0);
    RUN_UNTIL(f->event, late.n);
    assert_int_equal(late.err.code, ETIMEDOUT);
    ASSERT_SAYS(&late.err, "StartContainer");
    assert_null(f->list.cut_off);
}

/* A call cut off waits for the cause, and fails with that. */
static void test_cut_off(void **state) {
    struct fixture *f = *state;
    struct result r[3] = {0};
    f->agent->hold = true;
    assert_int_equal(start(f, "StartContainer", 0, &r[0], NULL), 0);
    RUN_UNTIL(f->event, f->agent->kept);
    /* Not even sent when the connection ends. */
    assert_int_equal(start(f, "Stats", 0, &r[1], NULL), 0);
    mock_agent_die(f->agent);
    RUN_UNTIL(f->event, !ttrpc_client_is_ready(f->client));
    run_idle(f->event);
    assert_int_equal(r[0].n + r[1].n, 0);
    struct err cause = ERR_INIT;
    err_set(&cause, EIO, "QEMU was killed by signal 9");
    calls_fail(&f->list, &cause);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(r[i].n, 1);
        assert_int_equal(r[i].err.code, EIO);
        assert_string_equal(r[i].err.msg, cause.msg);
    }
    assert_null(f->list.cut_off);
    calls_fail(&f->list, &cause);
    assert_int_equal(r[0].n, 1);
    /* A new one is refused at once. */
    assert_int_equal(start(f, "StartContainer", 0, &r[2], NULL), -ENOTCONN);
    run_idle(f->event);
    calls_fail(&f->list, &cause);
    assert_int_equal(r[2].n, 0);
}

/* Freeing the client cuts off what is under way, too. */
static void test_client_freed(void **state) {
    struct fixture *f = *state;
    struct result r = {0};
    f->agent->hold = true;
    assert_int_equal(start(f, "StartContainer", 0, &r, NULL), 0);
    RUN_UNTIL(f->event, f->agent->kept);
    f->client = ttrpc_client_free(f->client);
    assert_int_equal(r.n, 0);
    struct err cause = ERR_INIT;
    err_set(&cause, ECANCELED, "shut down");
    calls_fail(&f->list, &cause);
    assert_int_equal(r.n, 1);
    assert_string_equal(r.err.msg, "shut down");
}

static void test_cancel(void **state) {
    struct fixture *f = *state;
    struct result r[4] = {0};
    struct sandbox_call *calls[4];
    call_cancel(NULL);
    /* Under way. */
    assert_int_equal(start(f, "StartContainer", 0, &r[0], &calls[0]), 0);
    call_cancel(calls[0]);
    run_idle(f->event);
    assert_int_equal(r[0].n, 0);
    assert_int_equal(f->agent->n_others, 1);
    /* Cut off: the first, the last and the one between, and from within another's callback. */
    for (size_t i = 0; i < 4; i++) {
        r[i] = (struct result){0};
        assert_int_equal(start(f, "StartContainer", 0, &r[i], &calls[i]), 0);
    }
    mock_agent_die(f->agent);
    RUN_UNTIL(f->event, !ttrpc_client_is_ready(f->client));
    run_idle(f->event);
    call_cancel(calls[1]);
    call_cancel(calls[3]);
    /* Whichever of the two is first takes the other along. */
    r[0].cancel = calls[2];
    r[2].cancel = calls[0];
    struct err cause = ERR_INIT;
    err_set(&cause, EIO, "dead");
    calls_fail(&f->list, &cause);
    assert_int_equal(r[1].n + r[3].n, 0);
    assert_int_equal(r[0].n + r[2].n, 1);
    assert_null(f->list.cut_off);
}

/* What a callback starts when all is over is refused; it does not come back in the same round. */
static void test_again(void **state) {
    struct fixture *f = *state;
    struct result r = {.again = true};
    f->agent->hold = true;
    assert_int_equal(start(f, "StartContainer", 0, &r, NULL), 0);
    RUN_UNTIL(f->event, f->agent->kept);
    mock_agent_die(f->agent);
    RUN_UNTIL(f->event, !ttrpc_client_is_ready(f->client));
    struct err cause = ERR_INIT;
    err_set(&cause, EIO, "dead");
    calls_fail(&f->list, &cause);
    assert_int_equal(r.n, 1);
    assert_int_equal(r.again_result, -ENOTCONN);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_reply),        TEST(test_failures_pass), TEST(test_cut_off),
        TEST(test_client_freed), TEST(test_cancel),        TEST(test_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
