/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/lifecycle.h"
#include "support.h"

/* Written out a second time, as pictures: rows are from, columns to, in the order of the enums. */
static const char *const sandbox_picture[SANDBOX_STATES] = {
    /*           nbrs */
    /* new     */ ".x.x",
    /* booting */ "..xx",
    /* ready   */ "...x",
    /* stopped */ "....",
};

static const char *const container_picture[CONTAINER_STATES] = {
    /*                 CcSRpPrksD */
    /* creating      */ ".x......x.",
    /* created       */ "..x.....xx",
    /* starting      */ ".x.x....x.",
    /* running       */ "....x..xx.",
    /* pausing       */ "...x.x..x.",
    /* paused        */ "......xxx.",
    /* resuming      */ "...x.x..x.",
    /* checkpointing */ "...x.x..x.",
    /* stopped       */ ".........x",
    /* deleting      */ "........x.",
};

static const char *const process_picture[PROCESS_STATES] = {
    /*            csre */
    /* created  */ ".x.x",
    /* starting */ "x.xx",
    /* running  */ "...x",
    /* exited   */ "....",
};

static const struct {
    const struct lifecycle *l;
    const char *const *picture;
    unsigned n;
    const char *what;
} tables[] = {
    {&sandbox_lifecycle, sandbox_picture, SANDBOX_STATES, "sandbox"},
    {&container_lifecycle, container_picture, CONTAINER_STATES, "container"},
    {&process_lifecycle, process_picture, PROCESS_STATES, "process"},
};

static void test_transitions(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
        const struct lifecycle *l = tables[i].l;
        assert_int_equal(l->n, tables[i].n);
        for (unsigned from = 0; from < l->n; from++) {
            assert_int_equal(strlen(tables[i].picture[from]), l->n);
            for (unsigned to = 0; to < l->n; to++)
                if (lifecycle_allows(l, from, to) != (tables[i].picture[from][to] == 'x'))
                    fail_msg("%s: %s -> %s", l->what, l->names[from], l->names[to]);
        }
    }
}

/* A state that is none, damaged memory say, leads nowhere, and nothing leads to it. */
static void test_out_of_range(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
        const struct lifecycle *l = tables[i].l;
        static const unsigned beyond[] = {0, 1, 31, 32, 1000, UINT32_MAX};
        for (unsigned s = 0; s < l->n; s++)
            for (size_t k = 0; k < ARRAY_SIZE(beyond); k++) {
                unsigned none = MAX(beyond[k], l->n);
                assert_false(lifecycle_allows(l, s, none));
                assert_false(lifecycle_allows(l, none, s));
            }
        unsigned at = UINT32_MAX;
        struct err err = ERR_INIT;
        assert_int_equal(lifecycle_move(l, &at, 0, "x", &err), -EBUSY);
        assert_int_equal(at, UINT32_MAX);
        ASSERT_SAYS(&err, "damaged");
    }
}

static void test_names(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
        const struct lifecycle *l = tables[i].l;
        assert_string_equal(l->what, tables[i].what);
        for (unsigned s = 0; s < l->n; s++) {
            assert_non_null(l->names[s]);
            assert_true(*l->names[s]);
            for (unsigned other = 0; other < s; other++)
                assert_string_not_equal(l->names[s], l->names[other]);
        }
    }
}

static void test_move(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
        const struct lifecycle *l = tables[i].l;
        for (unsigned from = 0; from < l->n; from++)
            for (unsigned to = 0; to < l->n; to++) {
                unsigned at = from;
                struct err err = ERR_INIT;
                int r = lifecycle_move(l, &at, to, "web-1", &err);
                if (tables[i].picture[from][to] == 'x') {
                    assert_int_equal(r, 0);
                    assert_int_equal(at, to);
                    continue;
                }
                char expected[128];
                snprintf(expected, sizeof(expected), "%s web-1 is %s", tables[i].what, l->names[from]);
                assert_int_equal(r, -EBUSY);
                assert_int_equal(err.code, EBUSY);
                assert_int_equal(at, from);
                assert_string_equal(err.msg, expected);
            }
    }
}

/* From everywhere something stopped can be reached (the VM may die at any time), and from there nothing runs again. */
static void test_sense(void **state) {
    (void)state;
    for (unsigned s = 0; s < SANDBOX_STOPPED; s++)
        assert_true(lifecycle_allows(&sandbox_lifecycle, s, SANDBOX_STOPPED));
    for (unsigned s = 0; s < PROCESS_EXITED; s++)
        assert_true(lifecycle_allows(&process_lifecycle, s, PROCESS_EXITED));
    for (unsigned s = 0; s < CONTAINER_STATES; s++) {
        if (s != CONTAINER_STOPPED)
            assert_true(lifecycle_allows(&container_lifecycle, s, CONTAINER_STOPPED));
        assert_false(lifecycle_allows(&container_lifecycle, s, CONTAINER_CREATING));
    }
}

static void test_status(void **state) {
    (void)state;
    static const char *const expected[CONTAINER_STATES] = {"creating", "created", "created", "running", "running",
                                                           "paused",   "paused",  "paused",  "stopped", "stopped"};
    for (unsigned s = 0; s < CONTAINER_STATES; s++)
        assert_string_equal(container_state_status((enum container_state)s), expected[s]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transitions), cmocka_unit_test(test_out_of_range), cmocka_unit_test(test_names),
        cmocka_unit_test(test_move),        cmocka_unit_test(test_sense),        cmocka_unit_test(test_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
