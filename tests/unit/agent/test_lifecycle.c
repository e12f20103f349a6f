/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/lifecycle.h"
#include "support.h"

/* Written out a second time, as a picture: rows are from, columns to, in the order of the enum. */
static const char *const may_become[CONTAINER_STATES] = {
    /*                 CcSRpPkrsD */
    /* creating      */ ".x......xx",
    /* created       */ "..x.....xx",
    /* starting      */ ".x.x....xx",
    /* running       */ "....x.x.xx",
    /* pausing       */ "...x.x..xx",
    /* paused        */ "...x..x.xx",
    /* checkpointing */ "...x.x..xx",
    /* restoring     */ "...x....xx",
    /* stopped       */ ".........x",
    /* deleting      */ "...x....x.",
};

static const char *const allowed[CONTAINER_ACTIONS] = {
    /*              CcSRpPkrsD */
    /* start      */ ".x........",
    /* exec       */ ".x.x......",
    /* signal all */ ".xxxxxx...",
    /* pause      */ "...x......",
    /* resume     */ ".....x....",
    /* update     */ ".x.x.x....",
    /* checkpoint */ "...x.x....",
    /* inspect    */ ".xxxxxx.x.",
    /* delete     */ "xxxxxxxxx.",
};

static void test_transitions(void **state) {
    (void)state;
    for (unsigned from = 0; from < CONTAINER_STATES; from++)
        for (unsigned to = 0; to < CONTAINER_STATES; to++)
            if (container_may_become(from, to) != (may_become[from][to] == 'x'))
                fail_msg("%s -> %s", container_state_name(from), container_state_name(to));
}

static void test_actions(void **state) {
    (void)state;
    for (unsigned a = 0; a < CONTAINER_ACTIONS; a++)
        for (unsigned s = 0; s < CONTAINER_STATES; s++) {
            struct err err = ERR_INIT;
            int r = container_check_action(a, s, "c1", &err);
            if ((r == 0) != (allowed[a][s] == 'x'))
                fail_msg("%s: %s", container_action_name(a), container_state_name(s));
            if (r == 0)
                continue;
            assert_true(r == -EBUSY || (r == -ESRCH && a == ACTION_SIGNAL_ALL && s == CONTAINER_STOPPED));
            assert_non_null(strstr(err.msg, "c1"));
            assert_non_null(strstr(err.msg, container_state_name(s)));
            assert_non_null(strstr(err.msg, container_action_name(a)));
        }
}

/* Every container can be got rid of, and none comes back from the dead. */
static void test_sense(void **state) {
    (void)state;
    for (unsigned s = 0; s < CONTAINER_STATES; s++) {
        if (s != CONTAINER_DELETING)
            assert_true(container_may_become(s, CONTAINER_DELETING));
        assert_false(container_may_become(s, CONTAINER_CREATING));
    }
    assert_false(container_may_become(CONTAINER_STOPPED, CONTAINER_RUNNING));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transitions),
        cmocka_unit_test(test_actions),
        cmocka_unit_test(test_sense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
