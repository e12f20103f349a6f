/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/ps_table.h"

#include <time.h>

#include "support.h"

#define NOW (UINT64_C(1700000000) * USEC_PER_SEC) /* 2023-11-14 22:13:20 UTC */

static void prints_like_ps(void **state) {
    (void)state;
    setenv("TZ", "UTC", 1);
    tzset();
    Stasis__Agent__V1__ProcessDetails a = STASIS__AGENT__V1__PROCESS_DETAILS__INIT,
                                      b = STASIS__AGENT__V1__PROCESS_DETAILS__INIT;
    a.pid = 12;
    a.ppid = 1;
    a.tty = "?";
    a.start_wall_usec = NOW - 100 * USEC_PER_SEC;
    a.cpu_usec = 50 * USEC_PER_SEC;
    a.command = "/bin/sleep 1000";
    b.pid = 4000;
    b.ppid = 12;
    b.uid = 1000;
    b.tty = "pts/0";
    b.start_wall_usec = NOW - UINT64_C(40) * 24 * 3600 * USEC_PER_SEC;
    b.cpu_usec = UINT64_C(3723) * USEC_PER_SEC;
    b.command = "sh \x1b[2J\xff";
    const Stasis__Agent__V1__ProcessDetails *const list[] = {&a, &b};
    CAPTURE(text, assert_int_equal(ps_table_print(list, 2, NOW, out, NULL), 0));
    assert_string_equal(text, "UID   PID   PPID  C   STIME  TTY    TIME      CMD\n"
                              "root  12    1     50  22:11  ?      00:00:50  /bin/sleep 1000\n"
                              "1000  4000  12    0   Oct05  pts/0  01:02:03  sh ?[2J?\n");
    free(text);
}

/* The guest's numbers are not to be trusted. */
static void survives_nonsense(void **state) {
    (void)state;
    Stasis__Agent__V1__ProcessDetails p = STASIS__AGENT__V1__PROCESS_DETAILS__INIT;
    p.pid = p.ppid = p.uid = UINT32_MAX;
    p.start_wall_usec = UINT64_MAX;
    p.cpu_usec = UINT64_MAX;
    const Stasis__Agent__V1__ProcessDetails *const list[] = {&p};
    CAPTURE(text, assert_int_equal(ps_table_print(list, 1, NOW, out, NULL), 0));
    assert_non_null(strstr(text, "4294967295"));
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prints_like_ps),
        cmocka_unit_test(survives_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
