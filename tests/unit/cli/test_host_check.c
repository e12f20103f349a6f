/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/host_check.h"

#include <unistd.h>

#include "support.h"
#include "tmpdir.h"

static const struct check_item *find(const struct check_list *l, const char *name) {
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->items[i].name, name) == 0)
            return &l->items[i];
    fail_msg("no item %s", name);
    return NULL;
}

static void prints_lines(void **state) {
    (void)state;
    cleanup_check_list struct check_list l = {0};
    check_add(&l, CHECK_OK, "a", "x %d", 1);
    check_add(&l, CHECK_WARN, "b", "bad \x1b[2J\n");
    assert_false(check_has_failed(&l));
    check_add(&l, CHECK_FAIL, "c", "%s", "");
    assert_true(check_has_failed(&l));
    CAPTURE(text, check_print(&l, out));
    assert_string_equal(text, "ok    a: x 1\nwarn  b: bad ?[2J?\nfail  c\n");
    free(text);
}

/* The guest decides how many there are. */
static void is_bounded(void **state) {
    (void)state;
    cleanup_check_list struct check_list l = {0};
    for (size_t i = 0; i < CHECK_ITEMS_MAX + 10; i++)
        check_add(&l, CHECK_OK, "x", "y");
    assert_int_equal(l.n, CHECK_ITEMS_MAX);
}

static void finds_what_is_missing(void **state) {
    const struct tmpdir *t = *state;
    struct config config;
    config_init(&config);
    snprintf(config.vmm_root, sizeof(config.vmm_root), "%s/vmm", t->path);
    snprintf(config.guest_dir, sizeof(config.guest_dir), "%s/guest", t->path);
    cleanup_check_list struct check_list nothing = {0};
    assert_false(check_host(&nothing, &config));
    assert_int_equal(find(&nothing, "vmm root")->status, CHECK_FAIL);
    assert_non_null(strstr(find(&nothing, "vmm root")->detail, "run make setup"));
    assert_int_equal(find(&nothing, "guest")->status, CHECK_FAIL);
    assert_non_null(strstr(find(&nothing, "guest")->detail, "no vmlinux in "));

    static const char *const dirs[] = {"vmm", "vmm/usr", "vmm/usr/bin", "vmm/usr/libexec", "guest"};
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        assert_int_equal(mkdirat(t->fd, dirs[i], 0755), 0);
    tmpdir_write(t, "vmm/usr/bin/qemu-system-x86_64", "");
    assert_int_equal(fchmodat(t->fd, "vmm/usr/bin/qemu-system-x86_64", 0755, 0), 0);
    tmpdir_write(t, "guest/vmlinux", "");
    tmpdir_write(t, "guest/initramfs", "");
    tmpdir_write(t, "guest/root.img", "");
    cleanup_check_list struct check_list partly = {0};
    assert_false(check_host(&partly, &config));
    assert_int_equal(find(&partly, "vmm root")->status, CHECK_OK);
    assert_int_equal(find(&partly, "virtiofsd")->status, CHECK_FAIL);
    assert_int_equal(find(&partly, "guest")->status, CHECK_FAIL); /* no manifest */

    tmpdir_write(t, "vmm/usr/libexec/virtiofsd", "");
    assert_int_equal(fchmodat(t->fd, "vmm/usr/libexec/virtiofsd", 0755, 0), 0);
    tmpdir_write(t, "guest/manifest.json", "{\"kernel\":\"6.12\",\"packages\":{\"criu\":\"4.1\"}}");
    cleanup_check_list struct check_list all = {0};
    assert_int_equal(check_host(&all, &config), geteuid() == 0);
    assert_int_equal(find(&all, "virtiofsd")->status, CHECK_OK);
    assert_non_null(strstr(find(&all, "guest")->detail, "kernel 6.12, criu 4.1, crun none"));
    (void)find(&all, "vsock");
    (void)find(&all, "tun");
    (void)find(&all, "cgroup");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prints_lines),
        cmocka_unit_test(is_bounded),
        cmocka_unit_test_setup_teardown(finds_what_is_missing, tmpdir_setup, tmpdir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
