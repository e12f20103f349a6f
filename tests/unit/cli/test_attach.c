/* SPDX-License-Identifier: Apache-2.0 */
/* attach, and restore --attach and --log: what a restored container wrote before comes first. */
#include "program.h"
#include "snapshots.h"

struct restored {
    char *store, *config;
};

/* Restores a sandbox "web" whose process is /bin/sh -c SCRIPT. `ap`: more arguments of `snapshot restore`. */
static struct restored prepare(const struct program *p, bool terminal, const char *script) {
    cleanup_json json_t *spec = idle_spec();
    json_t *process = json_object_get(spec, "process");
    json_object_set_new(process, "args", json_pack("[s, s, s]", "/bin/sh", "-c", script));
    json_object_set_new(process, "env", json_pack("[s]", "PATH=/usr/bin:/bin"));
    json_object_set_new(process, "terminal", json_boolean(terminal));
    struct restored r = {.store = tmpdir_path(p->dir, "store"), .config = tmpdir_path(p->dir, "stasis.conf")};
    cleanup_free char *text = str_printf("[snapshot]\ndir = %s\n", r.store);
    const struct snapshot_recipe recipe = {.spec = spec};
    tmpdir_write(p->dir, "stasis.conf", text);
    snapshot_make(r.store, "first", &recipe);
    return r;
}

static void clear(struct restored *r) {
    free(r->store);
    free(r->config);
}

static void takes_what_was_written_before(void **state) {
    const struct program *p = *state;
    struct restored r = prepare(p, false, "echo before; echo err >&2; cat; exit 3");
    RUN(p, NULL, 0, "web: restored in 30 ms\n", NULL, "--config", r.config, "snapshot", "restore", "first");
    pid_t pid = 0, daemon = 0;
    assert_string_equal(program_status(p, "web", &pid, &daemon), "running");
    assert_true(pid > 0 && pid != daemon);
    RUN(p, "typed\n", 3, "before\ntyped\n", "err\n", "attach", "web");
    assert_int_equal(program_wait(pid), 3);
    RUN(p, NULL, 0, "", NULL, "delete", "web");
    RUN(p, NULL, 1, "", "container does not exist", "attach", "web");
    clear(&r);
}

static void without_stdin(void **state) {
    const struct program *p = *state;
    struct restored r = prepare(p, false, "read -t 0.1 x; echo \"$? [$x]\"; read y; exit 2");
    RUN(p, NULL, 0, "web\n", NULL, "--config", r.config, "snapshot", "restore", "-q", "first");
    cleanup_free char *told = str_printf("%s/web/bundle/0/attach.txt", p->root);
    pid_t pid = program_spawn(p, (int[]){-1, -1, -1}, "attach", "--no-stdin", "web", NULL);
    WAIT_FOR(access(told, F_OK) == 0);
    cleanup_free char *text = NULL;
    assert_int_equal(file_read_at(AT_FDCWD, told, 4096, &text, NULL, NULL), 0);
    assert_null(strstr(text, "stdin="));
    assert_non_null(strstr(text, "stdout=fd://"));
    RUN(p, NULL, 1, "", "connected already", "attach", "web");
    RUN(p, NULL, 0, "", NULL, "kill", "web", "KILL");
    assert_int_equal(program_wait(pid), 137);
    RUN(p, NULL, 0, "", NULL, "delete", "web");
    clear(&r);
}

static void signals_go_to_it_or_detach(void **state) {
    const struct program *p = *state;
    struct restored r = prepare(p, false, "trap 'exit 9' TERM; while :; do sleep 0.05; done");
    RUN(p, NULL, 0, NULL, NULL, "--config", r.config, "snapshot", "restore", "first");
    cleanup_free char *told = str_printf("%s/web/bundle/0/attach.txt", p->root);
    cleanup_free char *gone = str_printf("%s/web/bundle/0/detach.txt", p->root);
    pid_t pid = program_spawn(p, (int[]){-1, -1, -1}, "attach", "--sig-proxy=false", "web", NULL);
    WAIT_FOR(access(told, F_OK) == 0);
    kill(pid, SIGTERM);
    assert_int_equal(program_wait(pid), 143);
    assert_int_equal(access(gone, F_OK), 0);
    assert_int_equal(unlink(told), 0);
    assert_true(STATUS_IS(p, "web", "running"));
    pid = program_spawn(p, (int[]){-1, -1, -1}, "attach", "web", NULL);
    WAIT_FOR(access(told, F_OK) == 0);
    kill(pid, SIGTERM);
    assert_int_equal(program_wait(pid), 9);
    RUN(p, NULL, 0, "", NULL, "delete", "web");
    clear(&r);
}

static void restore_in_the_foreground(void **state) {
    const struct program *p = *state;
    struct restored r = prepare(p, false, "echo before; cat; exit 4");
    RUN(p, "typed\n", 4, "before\ntyped\n", NULL, "--config", r.config, "snapshot", "restore", "--attach", "first");
    assert_string_equal(program_status(p, "web", NULL, NULL), "");
    RUN(p, "", 4, "before\n", NULL, "--config", r.config, "snapshot", "restore", "--attach", "--keep", "first");
    WAIT_FOR(STATUS_IS(p, "web", "stopped"));
    RUN(p, NULL, 0, "", NULL, "delete", "web");
    clear(&r);
}

static void restore_into_a_log(void **state) {
    const struct program *p = *state;
    struct restored r = prepare(p, false, "echo out; echo err >&2; read x");
    cleanup_free char *log = tmpdir_path(p->dir, "log");
    cleanup_free char *told = str_printf("%s/web/bundle/0/attach.txt", p->root);
    tmpdir_write(p->dir, "log", "older\n");
    RUN(p, NULL, 0, NULL, NULL, "--config", r.config, "snapshot", "restore", "--log", log, "first");
    char *text = NULL;
    WAIT_FOR((free(text), text = NULL, file_read_at(AT_FDCWD, log, 4096, &text, NULL, NULL) == 0) &&
             strstr(text, "out\n") && strstr(text, "err\n"));
    assert_int_equal(strncmp(text, "older\n", 6), 0);
    free(text);
    assert_int_equal(file_read_at(AT_FDCWD, told, 4096, &text, NULL, NULL), 0);
    assert_non_null(strstr(text, "append=true"));
    free(text);
    RUN(p, NULL, 0, "", NULL, "delete", "--force", "web");
    clear(&r);
}

static void refuses_what_makes_no_sense(void **state) {
    const struct program *p = *state;
    RUN(p, NULL, 1, "", "--detach-keys: \"nonsense\"", "attach", "--detach-keys", "nonsense", "x");
    RUN(p, NULL, 1, "", "--attach cannot be used with --log", "snapshot", "restore", "--attach", "--log", "x", "s");
    RUN(p, NULL, 1, "", "--keep is for --attach", "snapshot", "restore", "--keep", "s");
    RUN(p, NULL, 1, "", "--identity other: must be keep or new", "snapshot", "restore", "--identity", "other", "s");
    RUN(p, NULL, 1, NULL, "requires exactly 1 argument", "attach");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(takes_what_was_written_before, program_setup, program_teardown),
        cmocka_unit_test_setup_teardown(without_stdin, program_setup, program_teardown),
        cmocka_unit_test_setup_teardown(signals_go_to_it_or_detach, program_setup, program_teardown),
        cmocka_unit_test_setup_teardown(restore_in_the_foreground, program_setup, program_teardown),
        cmocka_unit_test_setup_teardown(restore_into_a_log, program_setup, program_teardown),
        cmocka_unit_test_setup_teardown(refuses_what_makes_no_sense, program_setup, program_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
