/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_guest.h"

struct event {
    int n, code;
    char id[32];
    uint64_t kills;
};

static void on_event(void *userdata, const char *id, uint64_t kills, const struct err *err) {
    struct event *e = userdata;
    e->n++;
    e->code = err ? err->code : 0;
    e->kills = kills;
    snprintf(e->id, sizeof(e->id), "%s", id);
}

static void test_told_once(void **state) {
    struct guest *g = *state;
    guest_write(g, "memory.events", "oom_kill 0\n");
    struct container *c = guest_container(g, "c1");
    struct event any = {0}, one = {0}, later = {0};
    assert_int_equal(oom_wait(&g->a, NULL, on_event, &any, NULL), 0);
    assert_int_equal(oom_wait(&g->a, c, on_event, &one, NULL), 0);
    guest_write(g, "memory.events", "oom 1\noom_kill 0\n");
    assert_int_equal(sd_event_run(g->f->event, 0) >= 0, true);
    guest_write(g, "memory.events", "oom 2\noom_kill 2\n");
    RUN_UNTIL(g->f->event, any.n && one.n);
    assert_string_equal(any.id, "c1");
    assert_int_equal(any.kills, 2);
    assert_int_equal(one.kills, 2);
    /* The same again is no news; what happens while nobody asks is. */
    assert_int_equal(oom_wait(&g->a, NULL, on_event, &later, NULL), 0);
    assert_int_equal(later.n, 0);
    oom_void(&g->a);
    assert_int_equal(later.code, ECANCELED);
    guest_write(g, "memory.events", "oom_kill 3\n");
    RUN_UNTIL(g->f->event, c->oom_kills == 3);
    assert_int_equal(oom_wait(&g->a, NULL, on_event, &later, NULL), 0);
    assert_int_equal(later.n, 2);
    assert_int_equal(later.kills, 3);
    assert_int_equal(later.code, 0);
    guest_delete(g, c);
}

static void test_containers_take_turns(void **state) {
    struct guest *g = *state;
    struct container *a = guest_container(g, "a"), *b = guest_container(g, "b");
    char seen[7] = "";
    for (size_t i = 0; i < 6; i++) {
        struct event e = {0};
        a->oom_kills++;
        b->oom_kills++;
        assert_int_equal(oom_wait(&g->a, NULL, on_event, &e, NULL), 0);
        assert_int_equal(e.n, 1);
        seen[i] = e.id[0];
    }
    assert_true(strcmp(seen, "ababab") == 0 || strcmp(seen, "bababa") == 0);
    guest_delete(g, a);
    guest_delete(g, b);
}

static void test_container_goes(void **state) {
    struct guest *g = *state;
    struct container *c = guest_container(g, "c1");
    struct event any = {0}, one = {0};
    assert_int_equal(oom_wait(&g->a, c, on_event, &one, NULL), 0);
    assert_int_equal(oom_wait(&g->a, NULL, on_event, &any, NULL), 0);
    guest_delete(g, c);
    assert_int_equal(one.n, 1);
    assert_int_equal(one.code, ENOENT);
    assert_int_equal(any.n, 0);
    oom_void(&g->a);
    assert_int_equal(any.n, 1);
}

static void test_bound(void **state) {
    struct guest *g = *state;
    struct event e = {0};
    for (int i = 0; i < OOM_WAITERS_MAX; i++)
        assert_int_equal(oom_wait(&g->a, NULL, on_event, &e, NULL), 0);
    assert_int_equal(oom_wait(&g->a, NULL, on_event, &e, NULL), -EBUSY);
    oom_void(&g->a);
    assert_int_equal(e.n, OOM_WAITERS_MAX);
}

static void test_exit_says_so(void **state) {
    struct guest *g = *state;
    struct container *c = guest_container(g, "c1");
    struct outcome w = {0};
    assert_int_equal(process_wait(c->init, on_wait, &w, NULL), 0);
    guest_write(g, "memory.events", "oom_kill 1\n");
    assert_int_equal(process_signal(c->init, SIGKILL, NULL), 0);
    RUN_UNTIL(g->f->event, w.n);
    assert_int_equal(w.pid, 1137);
    guest_delete(g, c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        GUEST_TEST(test_told_once), GUEST_TEST(test_containers_take_turns), GUEST_TEST(test_container_goes),
        GUEST_TEST(test_bound),     GUEST_TEST(test_exit_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
