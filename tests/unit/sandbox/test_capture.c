/* SPDX-License-Identifier: Apache-2.0 */
/* capture.c: what the agent's word becomes. The rest is for the integration tests: it needs a VM. */
#include "sandbox/capture.h"
#include "support.h"

#include "base/path.h"

typedef Stasis__Agent__V1__DeletedFile deleted_file;
typedef Stasis__Agent__V1__FreezeResponse answer;

static char *text(const char *s) {
    return (char *)(uintptr_t)s;
}

static deleted_file file(const char *id, const char *command, const char *path) {
    deleted_file d = STASIS__AGENT__V1__DELETED_FILE__INIT;
    d.container_id = text(id);
    d.pid = 7;
    d.command = text(command);
    d.path = text(path);
    return d;
}

static void deleted_files_are_named(void **state) {
    (void)state;
    deleted_file d[] = {file("c1", "sh", "/tmp/gone"), file("c1", "tail", "/tmp/\xc3\xa4")}, *list[] = {&d[0], &d[1]};
    answer a = STASIS__AGENT__V1__FREEZE_RESPONSE__INIT;
    cleanup_strv struct strv w = {0};
    assert_int_equal(capture_warn_of_deleted(&a, &w), 0);
    assert_int_equal(w.n, 0);
    a.deleted = list;
    a.n_deleted = 2;
    assert_int_equal(capture_warn_of_deleted(&a, &w), 0);
    assert_int_equal(w.n, 2);
    assert_string_equal(w.v[0], "container c1, pid 7 (sh): /tmp/gone is deleted and gives errors in a copy");
    assert_string_equal(w.v[1], "container c1, pid 7 (tail): /tmp/\xc3\xa4 is deleted and gives errors in a copy");
}

/* An agent may put what it likes into these. */
static void deleted_files_do_not_drive_a_terminal(void **state) {
    (void)state;
    deleted_file d = file("c1\n", "\x1b[2J",
                          "\xc2\x9b"
                          "1m\rstasis: all is well\a\xff"),
                 *list[] = {&d};
    answer a = STASIS__AGENT__V1__FREEZE_RESPONSE__INIT;
    cleanup_strv struct strv w = {0};
    a.deleted = list;
    a.n_deleted = 1;
    assert_int_equal(capture_warn_of_deleted(&a, &w), 0);
    assert_string_equal(
        w.v[0], "container c1?, pid 7 (?[2J): ??1m?stasis: all is well?? is deleted and gives errors in a copy");
}

static void deleted_files_are_bounded(void **state) {
    (void)state;
    enum { N = 3 * CAPTURE_DELETED_MAX };
    cleanup_free char *big = malloc((1 << 20) + 1);
    assert_non_null(big);
    memset(big, 'x', 1 << 20);
    big[1 << 20] = '\0';
    deleted_file d = file(big, big, big), *list[N];
    for (size_t i = 0; i < N; i++)
        list[i] = &d;
    answer a = STASIS__AGENT__V1__FREEZE_RESPONSE__INIT;
    cleanup_strv struct strv w = {0};
    a.deleted = list;
    a.n_deleted = N;
    assert_int_equal(capture_warn_of_deleted(&a, &w), 0);
    assert_int_equal(w.n, CAPTURE_DELETED_MAX + 1);
    for (size_t i = 0; i < w.n; i++)
        assert_true(strlen(w.v[i]) < ID_MAX + CAPTURE_DELETED_COMMAND_MAX + CAPTURE_DELETED_PATH_MAX + 100);
    assert_string_equal(w.v[CAPTURE_DELETED_MAX], "128 more deleted files give errors in a copy");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deleted_files_are_named),
        cmocka_unit_test(deleted_files_do_not_drive_a_terminal),
        cmocka_unit_test(deleted_files_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
