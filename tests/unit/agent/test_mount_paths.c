/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/mount_paths.h"
#include "base/json.h"
#include "support.h"

#include <sys/stat.h>

static void link_at(struct tmpdir *dir, const char *text, const char *name) {
    assert_int_equal(symlinkat(text, dir->fd, name), 0);
}

/* A root file system like that of a distribution. */
static void make_root(struct tmpdir *dir) {
    static const char *const dirs[] = {"run", "var", "etc", "usr", "usr/lib"};
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        assert_int_equal(mkdirat(dir->fd, dirs[i], 0755), 0);
    link_at(dir, "/run", "var/run");
    link_at(dir, "usr/lib", "lib");
    link_at(dir, "../run/systemd/stub.conf", "etc/resolv.conf");
    link_at(dir, "../../../../run", "usr/lib/up");
    link_at(dir, "loop", "loop");
    link_at(dir, "/", "top");
}

static void expect(struct tmpdir *dir, const char *mounts, bool changed, size_t i, const char *destination) {
    cleanup_json json_t *list = json_loads(mounts, 0, NULL);
    cleanup_json json_t *spec = json_pack("{s:{s:s}, s:O}", "root", "path", dir->path, "mounts", list);
    bool was_changed = !changed;
    assert_non_null(spec);
    assert_int_equal(mount_paths_resolve(spec, &was_changed, NULL), 0);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, i), "destination")), destination);
    assert_int_equal(was_changed, changed);
}

#define BIND(to) "{\"destination\":\"" to "\",\"options\":[\"rbind\"]}"
#define TMPFS(to) "{\"destination\":\"" to "\",\"type\":\"tmpfs\"}"

static void test_links(void **state) {
    struct tmpdir *dir = *state;
    make_root(dir);
    expect(dir, "[" BIND("/var/run/secrets/a") "]", true, 0, "/run/secrets/a");
    expect(dir, "[{\"destination\":\"/lib/x\",\"type\":\"bind\"}]", true, 0, "/usr/lib/x");
    expect(dir, "[" BIND("/etc/resolv.conf") "]", true, 0, "/run/systemd/stub.conf");
    expect(dir, "[" BIND("/lib/up/x") "]", true, 0, "/run/x");
    expect(dir, "[" BIND("/top/var/run") "]", true, 0, "/run");
    expect(dir, "[" BIND("//var/./x/../run/") "]", true, 0, "/run");
}

static void test_left_alone(void **state) {
    struct tmpdir *dir = *state;
    make_root(dir);
    expect(dir, "[" BIND("/etc/hosts") "]", false, 0, "/etc/hosts");
    expect(dir, "[" BIND("/none/at/all") "]", false, 0, "/none/at/all");
    expect(dir, "[" BIND("/loop/x") "]", false, 0, "/loop/x");
    expect(dir, "[" BIND("/top") "]", false, 0, "/top");
    expect(dir, "[" BIND("relative") "]", false, 0, "relative");
    expect(dir, "[" TMPFS("/var/run/x") "," BIND("/etc/hosts") "]", false, 0, "/var/run/x");
}

static void test_mounts_before(void **state) {
    struct tmpdir *dir = *state;
    make_root(dir);
    /* What the root has below a mount is not what is seen there. */
    expect(dir, "[" TMPFS("/var") "," BIND("/var/run/x") "]", false, 1, "/var/run/x");
    expect(dir, "[" TMPFS("/run") "," BIND("/var/run/x") "]", true, 1, "/run/x");
    expect(dir, "[" TMPFS("/var/run") "," BIND("/var/run/x") "]", true, 1, "/run/x");
    expect(dir, "[" BIND("/var/run/x") "," TMPFS("/var") "]", true, 0, "/run/x");
}

static void test_no_mounts(void **state) {
    (void)state;
    bool changed = true;
    cleanup_json json_t *spec = json_object();
    assert_int_equal(mount_paths_resolve(spec, &changed, NULL), 0);
    assert_false(changed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_links, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(test_left_alone, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(test_mounts_before, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test(test_no_mounts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
