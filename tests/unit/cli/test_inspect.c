/* SPDX-License-Identifier: Apache-2.0 */
/* `stasis checkpoint inspect`, of the fixtures' images and of what people give it. */
#include "../oci/criu_support.h"
#include "checkpoints.h"

/* T/ck holds the fixtures' images. */
static char *make_images(const struct program *p) {
    char *path = tmpdir_path(p->dir, "ck");
    struct tmpdir t = {0};
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(t.path, sizeof(t.path), "%s", path);
    criu_write_all(&t);
    return path;
}

static json_t *inspect_json(const struct program *p, const char *path) {
    json_t *doc = NULL;
    struct err err = ERR_INIT;
    cleanup_result struct result r = program_run(p, NULL, "checkpoint", "inspect", "--json", path, NULL);
    if (r.code != 0 || json_parse("inspect", r.out, strlen(r.out), &doc, &err) < 0)
        fail_msg("%d %s %s %s", r.code, r.out, r.err, err.msg);
    return doc;
}

static const char *string_of(const json_t *doc, const char *key) {
    return json_string_value(json_object_get(doc, key));
}

static void shows_a_directory(void **state) {
    const struct program *p = *state;
    cleanup_free char *ck = make_images(p);
    cleanup_result struct result r = program_run(p, NULL, "checkpoint", "inspect", ck, NULL);
    assert_int_equal(r.code, 0);
    assert_string_equal(r.err, "");
    const char *const lines[] = {
        ck,
        "\narchitecture  x86_64\n",
        "\nrestorable    yes, unless a newer CRIU made it: no dump.log is there to say\n",
        "\nprocesses\n",
        "\n  1 init, alive, 1 thread, 20.0 KiB\n",
        "file /dev/null\n",
        "inet tcp 127.0.0.1:80 -> 10.1.2.3:40000 ESTABLISHED\n",
        "unix stream /run/x.sock\n",
        ", 3 threads, ",
        "zombie",
    };
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
        if (!strstr(r.out, lines[i]))
            fail_msg("\"%s\" is not in:\n%s", lines[i], r.out);
}

static void shows_json(void **state) {
    const struct program *p = *state;
    cleanup_free char *ck = make_images(p);
    cleanup_json json_t *doc = inspect_json(p, ck);
    assert_string_equal(string_of(doc, "path"), ck);
    assert_string_equal(string_of(doc, "architecture"), "x86_64");
    assert_true(json_is_true(json_object_get(doc, "restorable")));
    assert_null(json_object_get(doc, "reason"));
    assert_null(json_object_get(doc, "id"));
    assert_true(json_is_null(json_object_get(doc, "created")));
    assert_true(json_integer_value(json_object_get(doc, "images_size")) > 100);
    const json_t *processes = json_object_get(doc, "processes");
    assert_int_equal(json_array_size(processes), 3);
    const json_t *init = json_array_get(processes, 0);
    assert_int_equal(json_integer_value(json_object_get(init, "pid")), 1);
    assert_string_equal(string_of(init, "command"), "init");
    assert_int_equal(json_integer_value(json_object_get(init, "memory")), 5 * 4096);
    assert_int_equal(json_integer_value(json_object_get(init, "memory_in_parent")), 10 * 4096);
    assert_int_equal(json_array_size(json_object_get(init, "files")), 4);
    const json_t *file = json_array_get(json_object_get(init, "files"), 2);
    assert_int_equal(json_integer_value(json_object_get(file, "fd")), 3);
    assert_string_equal(string_of(file, "kind"), "inet");
    assert_string_equal(string_of(file, "destination"), "10.1.2.3:40000");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(processes, 2), "ppid")), 7);
}

/* What our own export says of the container. */
static void shows_an_archive(void **state) {
    const struct program *p = *state;
    cleanup_free char *archive = tmpdir_path(p->dir, "x.tar.zst");
    cleanup_free char *tmp = tmpdir_path(p->dir, "tmp");
    run_container(p, NULL);
    RUN(p, NULL, 0, "", "the container's root", "checkpoint", "--export", archive, "c1");
    remove_container(p);
    assert_int_equal(mkdir(tmp, 0700), 0);
    assert_int_equal(setenv("TMPDIR", tmp, 1), 0);
    cleanup_json json_t *doc = inspect_json(p, archive);
    assert_string_equal(string_of(doc, "id"), "c1");
    assert_string_equal(string_of(doc, "runtime"), "stasis");
    assert_string_equal(string_of(doc, "criu_version"), "4.1.1");
    assert_non_null(string_of(doc, "checkpointed"));
    assert_int_equal(json_array_size(json_object_get(doc, "processes")), 3);
    cleanup_result struct result r = program_run(p, NULL, "checkpoint", "inspect", archive, NULL);
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "container     c1\n"));
    assert_non_null(strstr(r.out, "CRIU          4.1.1\n"));
    assert_int_equal(unsetenv("TMPDIR"), 0);
    assert_int_equal(unlinkat(p->dir->fd, "tmp", AT_REMOVEDIR), 0); /* nothing unpacked is left */
}

/* threats.md 33: the guest that would restore it is the one beside the program. */
static void judges_versions(void **state) {
    const struct program *p = *state;
    cleanup_free char *ck = make_images(p);
    static const struct {
        const char *theirs, *ours;
        bool restorable;
    } cases[] = {
        {"4.1.1", "4.1.1", true}, {"3.17", "4.1.1-1", true},   {"4.1.2", "4.1.1", true}, {"4.2", "4.1.1", false},
        {"5.0", "4.9", false},    {"4.10", "4.9-1+b1", false}, {"4.9", "4.10", true},    {"odd", "4.1", true},
    };
    cleanup_free char *program = tmpdir_path(p->dir, "pre/bin/stasis");
    cleanup_free char *bin = tmpdir_path(p->dir, "pre/bin");
    cleanup_free char *guest_dir = tmpdir_path(p->dir, "pre/lib/stasis/guest/current");
    assert_int_equal(path_mkdirs(bin, 0755, NULL), 0);
    assert_int_equal(path_mkdirs(guest_dir, 0755, NULL), 0);
    program_copy(STASIS, program);
    struct program installed = *p;
    installed.stasis = program;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_free char *manifest = str_printf("{\"packages\": {\"criu\": \"%s\"}}", cases[i].ours);
        cleanup_free char *log = str_printf("(00.1) Version: %s (gitid 0)\n", cases[i].theirs);
        tmpdir_write(p->dir, "pre/lib/stasis/guest/current/manifest.json", manifest);
        tmpdir_write(p->dir, "ck/dump.log", log);
        cleanup_json json_t *doc = inspect_json(&installed, ck);
        if (json_is_true(json_object_get(doc, "restorable")) != cases[i].restorable)
            fail_msg("%s, here %s: %s", cases[i].theirs, cases[i].ours, string_of(doc, "reason"));
        if (!cases[i].restorable)
            assert_non_null(strstr(string_of(doc, "reason"), cases[i].theirs));
    }
}

static void refuses(void **state) {
    const struct program *p = *state;
    cleanup_free char *ck = make_images(p);
    cleanup_free char *file = tmpdir_path(p->dir, "file.tar");
    cleanup_free char *fifo = tmpdir_path(p->dir, "fifo");
    RUN(p, NULL, 1, "", "cannot inspect /no/such: cannot open /no/such: No such file", "checkpoint", "inspect",
        "/no/such");
    tmpdir_write(p->dir, "file.tar", "no archive");
    RUN(p, NULL, 1, "", "cannot inspect ", "checkpoint", "inspect", file);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    RUN(p, NULL, 1, "", "cannot inspect ", "checkpoint", "inspect", fifo);
    assert_int_equal(unlinkat(p->dir->fd, "ck/pstree.img", 0), 0);
    RUN(p, NULL, 1, "", "pstree.img", "checkpoint", "inspect", ck);
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, program_setup, program_teardown)
    const struct CMUnitTest tests[] = {
        TEST(shows_a_directory), TEST(shows_json), TEST(shows_an_archive), TEST(judges_versions), TEST(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
