/* SPDX-License-Identifier: Apache-2.0 */
/* Commands on a running container: exec, ps, events, update, console, check. */
#include "program.h"

/* A running container "c1". */
static int setup(void **state) {
    if (program_setup(state) < 0)
        return -1;
    const struct program *p = *state;
    cleanup_free char *b = program_bundle(p, "b", false, NULL, "exec sleep 1000");
    RUN(p, NULL, 0, "", NULL, "run", "-d", "-b", b, "c1");
    return 0;
}

static int teardown(void **state) {
    const struct program *p = *state;
    RUN(p, NULL, 0, "", NULL, "delete", "-f", "c1");
    return program_teardown(state);
}

static void runs_a_command(void **state) {
    const struct program *p = *state;
    RUN(p, "in\n", 6, "in\nB=2\nPATH=/usr/bin:/bin\nPWD=/tmp\n", "err\n", "exec", "-e", "B=2", "--cwd", "/tmp", "c1",
        "/bin/sh", "-c", "cat; env | grep -v '^_=' | sort; echo err >&2; exit 6");
    RUN(p, NULL, 143, "", NULL, "exec", "c1", "/bin/sh", "-c", "kill $$");
    RUN(p, NULL, 127, "", "exec failed: exec: \"/no/such\": executable file not found in $PATH", "exec", "c1",
        "/no/such");
    RUN(p, NULL, 126, "", "exec failed: exec: \"/etc/passwd\": permission denied", "exec", "c1", "/etc/passwd");
    RUN(p, NULL, 255, "", "process args cannot be empty", "exec", "c1");
    RUN(p, NULL, 255, "", "--cgroup x", "exec", "--cgroup", "x", "c1", "true");
}

static void runs_a_process_file(void **state) {
    const struct program *p = *state;
    cleanup_free char *file = tmpdir_path(p->dir, "p.json");
    tmpdir_write(p->dir, "p.json",
                 "{\"args\":[\"/bin/sh\",\"-c\",\"exit 8\"],\"cwd\":\"/\",\"user\":{\"uid\":0,\"gid\":0}}");
    RUN(p, NULL, 8, "", NULL, "exec", "--process", file, "c1");
    RUN(p, NULL, 255, "", "--process /no/such", "exec", "-p", "/no/such", "c1");
}

static void runs_detached(void **state) {
    const struct program *p = *state;
    cleanup_free char *pid_file = tmpdir_path(p->dir, "pid");
    cleanup_free char *text = NULL;
    RUN(p, NULL, 0, "", NULL, "exec", "-d", "--pid-file", pid_file, "c1", "/bin/sh", "-c", "sleep 0.2; exit 4");
    assert_int_equal(file_read_at(AT_FDCWD, pid_file, 32, &text, NULL, NULL), 0);
    assert_int_equal(program_wait(atoi(text)), 4);
}

static void passes_signals_on(void **state) {
    const struct program *p = *state;
    cleanup_fd int out = program_file(p, ".o");
    struct stat st = {0};
    pid_t pid = program_spawn(p, (int[]){-1, out, -1}, "exec", "c1", "/bin/sh", "-c",
                              "trap 'exit 12' HUP; echo ready; while :; do sleep 0.05; done", NULL);
    WAIT_FOR(fstat(out, &st) == 0 && st.st_size > 0);
    kill(pid, SIGHUP);
    assert_int_equal(program_wait(pid), 12);
}

static void shows_processes(void **state) {
    const struct program *p = *state;
    pid_t pid = 0;
    assert_string_equal(program_status(p, "c1", &pid, NULL), "running");
    cleanup_free char *pids = str_printf("[%d]\n", (int)pid);
    RUN(p, NULL, 0, pids, NULL, "ps", "--format", "json", "c1");
    cleanup_result struct result r = program_run(p, NULL, "ps", "c1", NULL);
    assert_memory_equal(r.out, "UID ", 4);
    assert_non_null(strstr(r.out, "  /bin/mocked\n"));
    RUN(p, NULL, 1, "", "ps options other than -ef are not supported", "ps", "c1", "-aux");
    RUN(p, NULL, 1, "", "invalid format option", "ps", "-f", "x", "c1");
}

static void shows_events(void **state) {
    const struct program *p = *state;
    cleanup_result struct result r = program_run(p, NULL, "events", "--stats", "c1", NULL);
    assert_int_equal(r.code, 0);
    assert_memory_equal(r.out, "{\"type\":\"stats\",\"id\":\"c1\",\"data\":{", 34);
    assert_null(strchr(r.out, '\n')[1] ? "more than one line" : NULL);
    RUN(p, NULL, 1, "", "invalid value \"x\" for flag -interval", "events", "--interval", "x", "c1");

    /* Until the container ends, with what happened in between. */
    cleanup_fd int out = program_file(p, ".o");
    pid_t pid = program_spawn(p, (int[]){-1, out, -1}, "events", "--interval", "10ms", "c1", NULL);
    struct stat st = {0};
    WAIT_FOR(fstat(out, &st) == 0 && st.st_size > 4000);
    RUN(p, NULL, 0, "", NULL, "kill", "c1", "KILL");
    assert_int_equal(program_wait(pid), 0);
    cleanup_free char *text = program_read(out);
    assert_memory_equal(text, "{\"type\":\"stats\"", 15);
    assert_non_null(strstr(text, "\n{\"type\":\"oom\",\"id\":\"c1\"}\n"));
}

static void updates(void **state) {
    const struct program *p = *state;
    cleanup_free char *path = tmpdir_path(p->dir, "b/update.json");
    cleanup_free char *a = NULL;
    cleanup_free char *b = NULL;
    RUN(p, NULL, 0, "", NULL, "update", "--memory", "64M", "--cpu-shares", "5", "c1");
    assert_int_equal(file_read_at(AT_FDCWD, path, 4096, &a, NULL, NULL), 0);
    assert_string_equal(a, "{\"memory\":{\"limit\":67108864},\"cpu\":{\"shares\":5}}");
    RUN(p, "{\"pids\":{\"limit\":3}}", 0, "", NULL, "update", "-r", "-", "c1");
    assert_int_equal(file_read_at(AT_FDCWD, path, 4096, &b, NULL, NULL), 0);
    assert_string_equal(b, "{\"pids\":{\"limit\":3}}");
    RUN(p, "[1]", 1, "", "standard input", "update", "-r", "-", "c1");
    RUN(p, NULL, 1, "", "invalid value for memory: x", "update", "--memory", "x", "c1");
    RUN(p, NULL, 1, "", "no Intel RDT", "update", "--l3-cache-schema", "x", "c1");
    RUN(p, NULL, 1, "", "realtime", "update", "--cpu-rt-period", "1", "c1");
}

static void writes_a_spec_and_features(void **state) {
    const struct program *p = *state;
    cleanup_free char *path = tmpdir_path(p->dir, "config.json");
    cleanup_free char *text = NULL;
    RUN(p, NULL, 0, "", NULL, "spec", "-b", p->dir->path);
    assert_int_equal(file_read_at(AT_FDCWD, path, 1 << 16, &text, NULL, NULL), 0);
    assert_memory_equal(text, "{\n\t\"ociVersion\": ", 17);
    assert_non_null(strstr(text, "\n\t\t\"user\": {\n\t\t\t\"uid\": 0,"));
    RUN(p, NULL, 1, "", "File config.json exists. Remove it first", "spec", "-b", p->dir->path);
    cleanup_result struct result r = program_run(p, NULL, "features", NULL);
    assert_memory_equal(r.out, "{\n    \"ociVersionMin\"", 21);
    RUN(p, NULL, 0, "stasis version " STASIS_VERSION "\nspec: 1.1.0\n", NULL, "--version");
}

/* The host's part needs what is not there, so no guest is started. */
static void checks_the_host(void **state) {
    const struct program *p = *state;
    cleanup_result struct result r = program_run(p, NULL, "check", "--json", NULL);
    cleanup_json json_t *v = NULL;
    assert_int_equal(r.code, 1);
    assert_int_equal(json_parse("check", r.out, strlen(r.out), &v, NULL), 0);
    assert_true(json_is_false(json_object_get(v, "checkpoint_works")));
    assert_true(json_array_size(json_object_get(v, "items")) > 4);
    RUN(p, NULL, 1, NULL, NULL, "check");
}

/* With files that look right the guest is asked. */
static void checks_the_guest(void **state) {
    const struct program *p = *state;
    static const char *const dirs[] = {"vmm", "vmm/usr", "vmm/usr/bin", "vmm/usr/libexec", "guest"};
    static const char *const programs[] = {"vmm/usr/bin/qemu-system-x86_64", "vmm/usr/libexec/virtiofsd"};
    static const char *const files[] = {"vmlinux", "initramfs", "root.img", "manifest.json"};
    cleanup_free char *config = tmpdir_path(p->dir, "stasis.conf");
    cleanup_free char *text = str_printf("[vm]\nvmm_root = %s/vmm\nguest = %s/guest\n", p->dir->path, p->dir->path);
    tmpdir_write(p->dir, "stasis.conf", text);
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        assert_int_equal(mkdirat(p->dir->fd, dirs[i], 0755), 0);
    for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
        tmpdir_write(p->dir, programs[i], "");
        assert_int_equal(fchmodat(p->dir->fd, programs[i], 0755, 0), 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        cleanup_free char *path = str_printf("guest/%s", files[i]);
        tmpdir_write(p->dir, path, "{}");
    }
    cleanup_result struct result r = program_run(p, NULL, "--config", config, "check", NULL);
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "warn  accelerator: tcg: "));
    assert_non_null(strstr(r.out, "ok    agent: version mock on kernel 6.mock\n"));
    assert_non_null(strstr(r.out, "ok    criu check: Looks ?[1mgood.\n"));
    assert_non_null(strstr(r.out, "\ncheckpoints work on this host\n"));
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(runs_a_command),  TEST(runs_a_process_file), TEST(runs_detached), TEST(passes_signals_on),
        TEST(shows_processes), TEST(shows_events),        TEST(updates),       TEST(writes_a_spec_and_features),
        TEST(checks_the_host), TEST(checks_the_guest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
