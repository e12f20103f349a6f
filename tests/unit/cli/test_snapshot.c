/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of `snapshot` and `template`, with a daemon that needs no VM and snapshots made here. */
#include "program.h"
#include "snapshots.h"

/* Names of this test's places; made by setup(). */
struct places {
    char *store, *config;
};

static struct places setup(const struct program *p) {
    struct places a = {.store = tmpdir_path(p->dir, "store"), .config = tmpdir_path(p->dir, "stasis.conf")};
    cleanup_free char *text = str_printf("[snapshot]\ndir = %s\ntemplates = %s-of-templates\n", a.store, a.store);
    tmpdir_write(p->dir, "stasis.conf", text);
    return a;
}

static void clear(struct places *a) {
    free(a->store);
    free(a->config);
}

/* The file that the mock left for container `id`. */
static char *told(const struct program *p, const char *id, const char *file) {
    cleanup_free char *path = str_printf("%s/%s/bundle/0/%s", p->root, id, file);
    char *text = NULL;
    if (file_read_at(AT_FDCWD, path, 1 << 16, &text, NULL, NULL) < 0)
        fail_msg("no %s", path);
    return text;
}

static void no_snapshots(void **state) {
    const struct program *p = *state;
    struct places a = setup(p);
    RUN(p, NULL, 0, "NAME    SANDBOX  CONTAINERS  CREATED  SIZE    MEMORY\n", NULL, "--config", a.config, "snapshot",
        "ls");
    RUN(p, NULL, 0, "[]\n", NULL, "--config", a.config, "snapshot", "ls", "--json");
    RUN(p, NULL, 0, "", NULL, "--config", a.config, "snapshot", "ls", "-q");
    RUN(p, NULL, 1, "", "there is no snapshot nope", "--config", a.config, "snapshot", "restore", "nope");
    RUN(p, NULL, 1, "", "there is no snapshot nope", "--config", a.config, "snapshot", "clone", "nope");
    RUN(p, NULL, 1, "", "there is no snapshot nope", "--config", a.config, "snapshot", "inspect", "nope");
    RUN(p, NULL, 1, "", "there is no snapshot nope", "--config", a.config, "snapshot", "verify", "nope");
    RUN(p, NULL, 1, "", "there is no snapshot nope", "--config", a.config, "snapshot", "export", "nope", "x.tar");
    RUN(p, NULL, 1, "", "there is no snapshot nope", "--config", a.config, "snapshot", "rm", "nope");
    RUN(p, NULL, 0, "", NULL, "--config", a.config, "snapshot", "rm", "--force", "nope");
    RUN(p, NULL, 0, "", NULL, "--config", a.config, "snapshot", "rm", "--all");
    RUN(p, NULL, 1, "", "takes names, or --all", "--config", a.config, "snapshot", "rm");
    RUN(p, NULL, 1, "", "invalid", "--config", a.config, "snapshot", "restore", "../x");
    RUN(p, NULL, 1, "", "there is no sandbox and no container nope", "--config", a.config, "snapshot", "create", "nope",
        "s");
    RUN(p, NULL, 3, "", "No help topic for 'nope'", "snapshot", "nope");
    RUN(p, NULL, 0, NULL, NULL, "snapshot");
    RUN(p, NULL, 0, NULL, NULL, "help", "snapshot", "create");
    clear(&a);
}

static void shows_and_removes(void **state) {
    const struct program *p = *state;
    struct places a = setup(p);
    const struct snapshot_recipe one = {0}, pod = {.sandbox = "pod", .containers = {"pod", "app"}, .imported = true};
    snapshot_make(a.store, "first", &one);
    snapshot_make(a.store, "second", &pod);
    RUN(p, NULL, 0, "first\nsecond\n", NULL, "--config", a.config, "snapshot", "ls", "-q");
    cleanup_result struct result table = program_run(p, NULL, "--config", a.config, "snapshot", "ls", NULL);
    assert_non_null(strstr(table.out, "second  pod      pod,app     2023-11-14T22:13:20Z  "));
    cleanup_result struct result json = program_run(p, NULL, "--config", a.config, "snapshot", "ls", "--json", NULL);
    assert_non_null(strstr(json.out, "\"imported\": true"));
    assert_non_null(strstr(json.out, "\"memory\": 45056")); /* 11 pages */
    cleanup_result struct result text =
        program_run(p, NULL, "--config", a.config, "snapshot", "inspect", "second", NULL);
    assert_int_equal(text.code, 0);
    assert_non_null(strstr(text.out, "origin      imported\n"));
    assert_non_null(strstr(text.out, "machine     q35, tcg, CPU max, 2 CPUs, 32.0 MiB of memory\n"));
    assert_non_null(strstr(text.out, "/bin/sleep 1000"));
    cleanup_result struct result doc =
        program_run(p, NULL, "--config", a.config, "snapshot", "inspect", "--json", "first", NULL);
    cleanup_json json_t *parsed = NULL;
    assert_int_equal(json_parse("doc", doc.out, strlen(doc.out), &parsed, NULL), 0);
    assert_true(json_is_false(json_object_get(parsed, "imported")));

    RUN(p, NULL, 0, "first: as it was saved\n", NULL, "--config", a.config, "snapshot", "verify", "first");
    cleanup_free char *file = path_join(a.store, "first/roots/0/file");
    assert_int_equal(truncate(file, 3), 0);
    RUN(p, NULL, 1, "second: as it was saved\n", "roots/0", "--config", a.config, "snapshot", "verify", "first",
        "second");
    RUN(p, NULL, 1, "first\n", "there is no snapshot nope", "--config", a.config, "snapshot", "rm", "nope", "first");
    RUN(p, NULL, 0, "second\n", NULL, "--config", a.config, "snapshot", "rm", "--all");
    clear(&a);
}

static void creates(void **state) {
    const struct program *p = *state;
    struct places a = setup(p);
    cleanup_free char *b = program_bundle(p, "b", false, NULL, "exec sleep 1000");
    RUN(p, NULL, 0, "", NULL, "run", "-d", "-b", b, "web");
    RUN(p, NULL, 0,
        "s1: web stood still for 84 ms; memory 1.0 MiB (512.0 KiB of it the template's), devices 1.0 KiB, roots 5 B\n",
        NULL, "--config", a.config, "snapshot", "create", "web", "s1");
    cleanup_free char *path = path_join(b, "snapshot.txt");
    cleanup_free char *text = NULL, *want = str_printf("path=\nstore=%s\nname=s2\nstop=true\nforce=true\n", a.store);
    RUN(p, NULL, 0, "s2\n", "the mock saves nothing", "--config", a.config, "snapshot", "create", "-q", "--stop",
        "--force", "web", "s2");
    assert_int_equal(file_read_at(AT_FDCWD, path, 4096, &text, NULL, NULL), 0);
    assert_string_equal(text, want);
    cleanup_result struct result json =
        program_run(p, NULL, "--config", a.config, "snapshot", "create", "--json", "web", "s3", NULL);
    assert_non_null(strstr(json.out, "\"stopped_time\": 84000"));
    assert_non_null(strstr(json.out, "\"shared_bytes\": 524288"));
    RUN(p, NULL, 1, "", "cannot make snapshot taken: there is a snapshot taken already", "--config", a.config,
        "snapshot", "create", "web", "taken");
    RUN(p, NULL, 1, "", "invalid", "--config", a.config, "snapshot", "create", "web", "a/b");
    RUN(p, NULL, 0, "", NULL, "delete", "--force", "web");
    clear(&a);
}

static void restores_under_its_id_and_others(void **state) {
    const struct program *p = *state;
    struct places a = setup(p);
    const struct snapshot_recipe one = {0};
    snapshot_make(a.store, "first", &one);
    RUN(p, NULL, 0, "web: restored in 30 ms\n", NULL, "--config", a.config, "snapshot", "restore", "first");
    cleanup_free char *original = told(p, "web", "restore.txt");
    assert_null(strstr(original, "new_identity"));
    assert_null(strstr(original, "force"));
    assert_non_null(strstr(original, "containers[0].id=web\n"));
    RUN(p, NULL, 1, "", "container web exists: delete it first, or use --replace", "--config", a.config, "snapshot",
        "restore", "first");
    pid_t before = 0, after = 0;
    (void)program_status(p, "web", &before, NULL);
    cleanup_free char *misfit = str_printf("%s/first/misfit", a.store);
    assert_int_equal(close(open(misfit, O_WRONLY | O_CREAT | O_EXCL, 0600)), 0);
    RUN(p, NULL, 1, "", "stasis: cannot restore snapshot first: the machine does not fit\n", "--config", a.config,
        "snapshot", "restore", "--replace", "first");
    assert_int_equal(unlink(misfit), 0);
    RUN(p, NULL, 1, "", "--pid-file /no/such/pid", "--config", a.config, "snapshot", "restore", "--replace",
        "--pid-file", "/no/such/pid", "first");
    RUN(p, NULL, 1, "", "cannot open the log /no/such/log", "--config", a.config, "snapshot", "restore", "--replace",
        "--log", "/no/such/log", "first");
    (void)program_status(p, "web", &after, NULL);
    assert_int_equal(before, after);
    RUN(p, NULL, 0, "web\n", NULL, "--config", a.config, "snapshot", "restore", "-q", "--replace", "--force", "first");
    cleanup_free char *forced = told(p, "web", "restore.txt");
    assert_non_null(strstr(forced, "force=true"));
    (void)program_status(p, "web", &after, NULL);
    assert_int_not_equal(before, after);
    assert_int_equal(program_wait(before), 137);

    cleanup_free char *pid_file = tmpdir_path(p->dir, "pid");
    RUN(p, NULL, 0, "other\n", NULL, "--config", a.config, "snapshot", "restore", "-q", "--id", "other", "--pid-file",
        pid_file, "first");
    cleanup_free char *copy = told(p, "other", "restore.txt");
    assert_non_null(strstr(copy, "new_identity=true"));
    pid_t pid = 0;
    cleanup_free char *text = NULL;
    (void)program_status(p, "other", &pid, NULL);
    assert_int_equal(file_read_at(AT_FDCWD, pid_file, 32, &text, NULL, NULL), 0);
    assert_int_equal(atoi(text), pid);
    RUN(p, NULL, 1, "", "choose another --id", "--config", a.config, "snapshot", "restore", "--id", "other", "first");
    RUN(p, NULL, 0, "", NULL, "delete", "--force", "other");
    RUN(p, NULL, 0, "", NULL, "delete", "--force", "web");
    clear(&a);
}

static void the_others_of_a_pod_get_its_prefix(void **state) {
    const struct program *p = *state;
    struct places a = setup(p);
    const struct snapshot_recipe pod = {.sandbox = "pod", .containers = {"pod", "app"}};
    snapshot_make(a.store, "first", &pod);
    RUN(p, NULL, 0, "copy\n", NULL, "--config", a.config, "snapshot", "restore", "-q", "--id", "copy", "first");
    cleanup_free char *text = told(p, "copy", "restore.txt");
    assert_non_null(strstr(text, "containers[0].id=copy\n"));
    assert_non_null(strstr(text, "containers[1].id=copy-app\n"));
    cleanup_free char *bundle = str_printf("containers[1].bundle=%s/copy/bundle/1\n", p->root);
    assert_non_null(strstr(text, bundle));
    RUN(p, NULL, 0, "", NULL, "delete", "--force", "copy");
    clear(&a);
}

static json_t *with_a_mount(const char *source) {
    json_t *spec = idle_spec();
    json_object_set_new(spec, "mounts",
                        json_pack("[{s:s, s:s, s:s, s:[s]}]", "destination", "/v", "type", "bind", "source", source,
                                  "options", "rbind"));
    json_object_set_new(spec, "hooks", json_pack("{s:[{s:s}]}", "poststop", "path", "/bin/false"));
    return spec;
}

static void a_strangers_mounts_are_asked_for(void **state) {
    const struct program *p = *state;
    struct places a = setup(p);
    cleanup_json json_t *spec = with_a_mount("/srv/data");
    cleanup_json json_t *saved = json_pack("{s:[{s:s}]}", "mounts", "source", "/srv/data");
    const struct snapshot_recipe r = {.spec = spec, .state = saved, .imported = true};
    snapshot_make(a.store, "first", &r);
    RUN(p, NULL, 1, "", "the snapshot was imported and mounts /srv/data of this host", "--config", a.config, "snapshot",
        "restore", "first");
    RUN(p, NULL, 1, "", "--allow-mount /srv/other: nothing in the snapshot is mounted from there", "--config", a.config,
        "snapshot", "restore", "--allow-mount", "/srv/data", "--allow-mount", "/srv/other", "first");
    RUN(p, NULL, 0, "web\n", "hooks of an imported snapshot are not run", "--config", a.config, "snapshot", "restore",
        "-q", "--allow-mount", "/srv/data=/tmp", "first");
    cleanup_free char *config = told(p, "web", "config.json"), *text = told(p, "web", "restore.txt");
    assert_non_null(strstr(config, "\"source\": \"/tmp\""));
    assert_null(strstr(config, "hooks"));
    assert_non_null(strstr(text, "containers[0].mounts=/tmp\n"));
    assert_non_null(strstr(text, "new_identity=true")); /* the original may still run where it came from */
    RUN(p, NULL, 0, "", NULL, "delete", "--force", "web");
    clear(&a);
}

static void leaves_nothing_of_a_failure(void **state) {
    const struct program *p = *state;
    struct places a = setup(p);
    cleanup_json json_t *spec = idle_spec();
    json_object_set_new(spec, "annotations", json_pack("{s:s}", "mock", "fail"));
    const struct snapshot_recipe bad = {.spec = spec}, good = {0}, template = {.is_template = true};
    snapshot_make(a.store, "bad", &bad);
    snapshot_make(a.store, "good", &good);
    snapshot_make(a.store, "template", &template);
    RUN(p, NULL, 1, "", "cannot restore snapshot bad: the mock fails, as it was told", "--config", a.config, "snapshot",
        "restore", "bad");
    RUN(p, NULL, 1, "", "template is a template", "--config", a.config, "snapshot", "restore", "template");
    RUN(p, NULL, 1, "", "2 of 2 clones of bad could not be made", "--config", a.config, "snapshot", "clone", "-n", "2",
        "bad");
    clear(&a);
}

static void clones_side_by_side(void **state) {
    const struct program *p = *state;
    struct places a = setup(p);
    const struct snapshot_recipe one = {0};
    snapshot_make(a.store, "first", &one);
    cleanup_result struct result r =
        program_run(p, NULL, "--config", a.config, "snapshot", "clone", "-n", "3", "first", NULL);
    assert_int_equal(r.code, 0);
    assert_int_equal(strlen(r.out), 3 * strlen("first-1\n"));
    for (int i = 1; i <= 3; i++) {
        cleanup_free char *id = str_printf("first-%d", i);
        cleanup_free char *text = told(p, id, "restore.txt");
        assert_non_null(strstr(r.out, id));
        assert_true(STATUS_IS(p, id, "running"));
        assert_non_null(strstr(text, "new_identity=true"));
    }
    RUN(p, NULL, 0, "forced-1\n", NULL, "--config", a.config, "snapshot", "clone", "--force", "--prefix", "forced",
        "first");
    cleanup_free char *forced = told(p, "forced-1", "restore.txt");
    assert_non_null(strstr(forced, "force=true"));
    /* More than are made at a time. */
    long at_a_time = MAX(16, 4 * sysconf(_SC_NPROCESSORS_ONLN));
    cleanup_free char *number = str_printf("%ld", at_a_time + 2), *last = str_printf("many-%ld", at_a_time + 2);
    RUN(p, NULL, 0, NULL, NULL, "--config", a.config, "snapshot", "clone", "-n", number, "--prefix", "many", "first");
    assert_true(STATUS_IS(p, last, "running"));
    for (long i = 1; i <= at_a_time + 2; i++) {
        cleanup_free char *id = str_printf("many-%ld", i);
        RUN(p, NULL, 0, "", NULL, "delete", "--force", id);
    }
    /* One is taken: the other is made all the same. */
    RUN(p, NULL, 0, "", NULL, "delete", "--force", "first-2");
    RUN(p, NULL, 1, "first-2\n", "1 of 2 clones of first could not be made; the others run", "--config", a.config,
        "snapshot", "clone", "-n", "2", "first");
    RUN(p, NULL, 0, "x\n", NULL, "--config", a.config, "snapshot", "clone", "--id", "x", "first");
    RUN(p, NULL, 0, "y-1\n", NULL, "--config", a.config, "snapshot", "clone", "--prefix", "y", "first");
    RUN(p, NULL, 1, "", "--id is for a single clone", "--config", a.config, "snapshot", "clone", "--id", "x", "-n", "2",
        "first");
    static const char *const ids[] = {"first-1", "first-2", "first-3", "forced-1", "x", "y-1"};
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
        RUN(p, NULL, 0, "", NULL, "delete", "--force", ids[i]);
    clear(&a);
}

static void templates(void **state) {
    const struct program *p = *state;
    struct places a = setup(p);
    cleanup_free char *dir = str_printf("%s-of-templates", a.store);
    const struct snapshot_recipe r = {.is_template = true};
    RUN(p, NULL, 0, "q35-mock: is there already, memory 50.0 MiB\n", NULL, "--config", a.config, "template", "build");
    RUN(p, NULL, 0, "q35-mock: built, memory 50.0 MiB\n", NULL, "--config", a.config, "template", "build", "--rebuild");
    snapshot_make(dir, "q35-x", &r);
    RUN(p, NULL, 0, "q35-x\n", NULL, "--config", a.config, "template", "ls", "-q");
    cleanup_result struct result ls = program_run(p, NULL, "--config", a.config, "template", "ls", NULL);
    assert_int_equal(strncmp(ls.out, "NAME    CREATED               SIZE", 33), 0);
    RUN(p, NULL, 0, NULL, NULL, "--config", a.config, "template", "inspect", "q35-x");
    RUN(p, NULL, 1, "", "there is no template nope", "--config", a.config, "template", "inspect", "nope");
    RUN(p, NULL, 0, "q35-x\n", NULL, "--config", a.config, "template", "rm", "q35-x");
    clear(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_snapshots, program_setup, program_teardown),
        cmocka_unit_test_setup_teardown(shows_and_removes, program_setup, program_teardown),
        cmocka_unit_test_setup_teardown(creates, program_setup, program_teardown),
        cmocka_unit_test_setup_teardown(restores_under_its_id_and_others, program_setup, program_teardown),
        cmocka_unit_test_setup_teardown(the_others_of_a_pod_get_its_prefix, program_setup, program_teardown),
        cmocka_unit_test_setup_teardown(a_strangers_mounts_are_asked_for, program_setup, program_teardown),
        cmocka_unit_test_setup_teardown(leaves_nothing_of_a_failure, program_setup, program_teardown),
        cmocka_unit_test_setup_teardown(clones_side_by_side, program_setup, program_teardown),
        cmocka_unit_test_setup_teardown(templates, program_setup, program_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
