/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "proto/events.pb-c.h"
#include "shim/event_queue.h"

#define OVERHEAD (sizeof(struct event))

/* An event whose encoding is len bytes (or 0), at least 8. */
static struct event *make(const char *topic, size_t len) {
    Containerd__Events__TaskPaused m = CONTAINERD__EVENTS__TASK_PAUSED__INIT;
    cleanup_free char *id = calloc(1, len + 1);
    memset(id, 'x', len);
    m.container_id = id;
    size_t packed = containerd__events__task_paused__get_packed_size(&m);
    id[len - (packed - len)] = '\0';
    struct event *e = event_new(topic, "t", &m.base, 1);
    assert_non_null(e);
    return e;
}

static size_t push(struct event_queue *q, const char *topic) {
    return event_queue_push(q, make(topic, 8));
}

static void fill(struct event_queue *q, const char *topic, size_t n) {
    for (size_t i = 0; i < n; i++)
        assert_int_equal(push(q, topic), 0);
}

static size_t count(const struct event_queue *q, const char *topic) {
    size_t n = 0, all = 0, bytes = 0;
    for (const struct event *e = q->first; e; e = e->next) {
        all++;
        bytes += OVERHEAD + e->len;
        n += strcmp(e->topic, topic) == 0;
        if (!e->next)
            assert_ptr_equal(q->last, e);
    }
    assert_int_equal(all, q->n);
    assert_int_equal(bytes, q->bytes);
    return n;
}

static void first_in_first_out(void **state) {
    (void)state;
    struct event_queue q = {0};
    struct event *a = make("/tasks/create", 100), *b = make("/tasks/exit", 8);
    assert_int_equal(a->len, 100);
    assert_int_equal(a->rank, EVENT_RANK_NORMAL);
    assert_int_equal(b->rank, EVENT_RANK_END);
    event_queue_push(&q, a);
    event_queue_push(&q, b);
    assert_int_equal(q.n, 2);
    assert_ptr_equal(q.first, a);
    event_queue_pop(&q);
    assert_ptr_equal(q.first, b);
    assert_ptr_equal(q.last, b);
    event_queue_pop(&q);
    assert_null(q.first);
    assert_null(q.last);
    assert_int_equal(q.bytes, 0);
    assert_int_equal(push(&q, "/tasks/oom"), 0);
    assert_int_equal(count(&q, "/tasks/oom"), 1);
    event_queue_clear(&q);
    assert_int_equal(q.n, 0);
}

static void details_give_way_first(void **state) {
    (void)state;
    static const char *const details[] = {"/tasks/exec-added", "/tasks/exec-started", "/tasks/paused",
                                          "/tasks/resumed"};
    struct event_queue q = {0};
    fill(&q, "/tasks/create", EVENT_QUEUE_MAX - 8);
    for (size_t i = 0; i < 8; i++)
        fill(&q, details[i % 4], 1);
    assert_int_equal(push(&q, "/tasks/paused"), 1); /* the new one itself */
    assert_int_equal(count(&q, "/tasks/paused"), 2);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(count(&q, details[i % 4]), 2 - i / 4);
        assert_int_equal(push(&q, i % 2 ? "/tasks/start" : "/tasks/exit"), 1);
        assert_int_equal(count(&q, details[i % 4]), 1 - i / 4); /* the oldest */
    }
    assert_int_equal(push(&q, "/tasks/start"), 1);
    assert_int_equal(count(&q, "/tasks/start"), 4);
    assert_int_equal(count(&q, "/tasks/exit"), 4);
    assert_int_equal(count(&q, "/tasks/create"), EVENT_QUEUE_MAX - 8);
    event_queue_clear(&q);
}

/* A guest that floods the queue costs nobody else's events. */
static void the_guests_give_way_before_all(void **state) {
    (void)state;
    struct event_queue q = {0};
    fill(&q, "/tasks/create", 1);
    fill(&q, "/tasks/paused", 1);
    fill(&q, "/tasks/oom", EVENT_QUEUE_MAX - 2);
    for (size_t i = 0; i < EVENT_QUEUE_MAX; i++)
        assert_int_equal(push(&q, "/tasks/oom"), 1);
    assert_int_equal(count(&q, "/tasks/create"), 1);
    assert_int_equal(count(&q, "/tasks/paused"), 1);
    static const char *const ours[] = {"/tasks/create", "/tasks/start", "/tasks/checkpointed", "/tasks/exec-added",
                                       "/tasks/exit"};
    for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
        size_t n = count(&q, ours[i]);
        assert_int_equal(push(&q, ours[i]), 1);
        assert_int_equal(count(&q, ours[i]), n + 1);
    }
    assert_int_equal(count(&q, "/tasks/paused"), 1);
    assert_int_equal(count(&q, "/tasks/oom"), EVENT_QUEUE_MAX - 2 - ARRAY_SIZE(ours));
    event_queue_clear(&q);
}

static void ends_are_lost_last(void **state) {
    (void)state;
    struct event_queue q = {0};
    fill(&q, "/tasks/paused", 1); /* the first stays: it may be on its way */
    fill(&q, "/tasks/start", EVENT_QUEUE_MAX - 1);
    for (size_t i = 0; i < EVENT_QUEUE_MAX - 1; i++)
        assert_int_equal(push(&q, i % 2 ? "/tasks/delete" : "/tasks/exit"), 1);
    assert_int_equal(count(&q, "/tasks/start"), 0);
    assert_string_equal(q.first->topic, "/tasks/paused");
    assert_int_equal(push(&q, "/tasks/exit"), 1);
    assert_int_equal(count(&q, "/tasks/exit"), EVENT_QUEUE_MAX / 2);
    assert_int_equal(q.n, EVENT_QUEUE_MAX);
    event_queue_clear(&q);
}

static void bytes_are_bounded(void **state) {
    (void)state;
    struct event_queue q = {0};
    const size_t big = (1 << 20) - OVERHEAD;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(event_queue_push(&q, make("/tasks/paused", big)), 0);
    assert_int_equal(q.bytes, EVENT_QUEUE_BYTES_MAX);
    assert_int_equal(push(&q, "/tasks/paused"), 1);
    assert_int_equal(push(&q, "/tasks/exit"), 1);
    assert_int_equal(count(&q, "/tasks/paused"), 3);
    assert_int_equal(event_queue_push(&q, make("/tasks/exit", 2 * big)), 2);
    assert_int_equal(count(&q, "/tasks/paused"), 1);
    /* One that never fits costs no other. */
    assert_int_equal(event_queue_push(&q, make("/tasks/exit", EVENT_QUEUE_BYTES_MAX)), 1);
    assert_int_equal(count(&q, "/tasks/exit"), 2);
    event_queue_clear(&q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_in_first_out),
        cmocka_unit_test(details_give_way_first),
        cmocka_unit_test(the_guests_give_way_before_all),
        cmocka_unit_test(ends_are_lost_last),
        cmocka_unit_test(bytes_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
