/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/mount_points.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tmpdir.h"

/* T is the share, with c1/rootfs (etc/, link -> etc), and the volumes 0 (a directory), 1 (a file), 2 (a directory). */
static int setup(void **state) {
    if (tmpdir_setup(state) < 0)
        return -1;
    struct tmpdir *t = *state;
    static const char *const dirs[] = {"c1/rootfs/etc", "c1/mounts/0", "c1/mounts/2"};
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        close(path_mkdirs_beneath(t->fd, dirs[i], 0755, NULL));
    tmpdir_write(t, "c1/mounts/1", "file");
    tmpdir_write(t, "c1/rootfs/etc/there", "kept");
    return symlinkat("etc", t->fd, "c1/rootfs/link");
}

#define VOLUME(n, to)                                                                                                  \
    "{\"type\":\"bind\",\"source\":\"/share/c1/mounts/" #n "\",\"destination\":\"" to "\",\"options\":[\"rbind\"]}"
#define KIND(type, to) "{\"type\":\"" type "\",\"source\":\"x\",\"destination\":\"" to "\"}"

static int make(const struct tmpdir *t, const char *mounts, struct err *err) {
    cleanup_free char *spec = str_printf("{\"root\":{\"path\":\"/share/c1/rootfs\"},\"mounts\":[%s]}", mounts);
    return mount_points_make(t->path, spec, strlen(spec), err);
}

static void makes_what_is_missing(void **state) {
    const struct tmpdir *t = *state;
    static const struct {
        const char *mounts, *path;
        mode_t kind; /* 0: nothing is there */
    } cases[] = {
        {KIND("proc", "/proc"), "c1/rootfs/proc", S_IFDIR},
        {VOLUME(0, "/data/of/it"), "c1/rootfs/data/of/it", S_IFDIR},
        {VOLUME(1, "/etc/hosts"), "c1/rootfs/etc/hosts", S_IFREG},
        {VOLUME(0, "/data") "," VOLUME(2, "/data/deep/er"), "c1/mounts/0/deep/er", S_IFDIR},
        {VOLUME(0, "/data") "," VOLUME(1, "/data/file"), "c1/mounts/0/file", S_IFREG},
        {VOLUME(0, "/data") "," KIND("tmpfs", "/data/tmp"), "c1/mounts/0/tmp", S_IFDIR},
        {VOLUME(0, "/data") "," VOLUME(2, "/data/two") "," VOLUME(1, "/data/two/one"), "c1/mounts/2/one", S_IFREG},
        /* A volume over another hides what was mounted below that. */
        {VOLUME(0, "/v/w") "," VOLUME(2, "/v") "," VOLUME(1, "/v/w/x"), "c1/mounts/2/w/x", S_IFREG},
        /* Not the prefix of a name. */
        {VOLUME(0, "/data") "," VOLUME(1, "/database"), "c1/rootfs/database", S_IFREG},
        /* What is on a tmpfs comes back with it; what is in a file system of the kernel is there. */
        {KIND("tmpfs", "/run") "," VOLUME(0, "/run/lock"), "c1/rootfs/run/lock", 0},
        {KIND("proc", "/proc") "," VOLUME(0, "/proc/acpi"), "c1/rootfs/proc/acpi", 0},
        {VOLUME(1, "/etc/there"), "c1/rootfs/etc/there", S_IFREG},
        /* Through a link, or not normal: CRIU's affair. */
        {VOLUME(0, "/link/x"), "c1/rootfs/etc/x", 0},
        {VOLUME(0, "/a/../b"), "c1/rootfs/b", 0},
        {VOLUME(0, "c"), "c1/rootfs/c", 0},
        {VOLUME(0, "/"), "c1/rootfs", S_IFDIR},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct err e = ERR_INIT;
        struct stat st;
        if (make(t, cases[i].mounts, &e) < 0)
            fail_msg("%s: %s", cases[i].mounts, e.msg);
        bool there = fstatat(t->fd, cases[i].path, &st, AT_SYMLINK_NOFOLLOW) == 0;
        if (there != (cases[i].kind != 0) || (there && (st.st_mode & S_IFMT) != cases[i].kind))
            fail_msg("%s: %s", cases[i].mounts, cases[i].path);
        if (make(t, cases[i].mounts, &e) < 0) /* and once more */
            fail_msg("%s: %s", cases[i].mounts, e.msg);
    }
    assert_int_equal(faccessat(t->fd, "c1/rootfs/data/deep", F_OK, 0), -1);
    cleanup_free char *text = NULL;
    assert_int_equal(file_read_at(t->fd, "c1/rootfs/etc/there", 64, &text, NULL, NULL), 0);
    assert_string_equal(text, "kept");
}

static void odd_specifications(void **state) {
    const struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    assert_int_equal(make(t, VOLUME(0, "/etc/there/below"), &e), 0); /* a file is in the way: CRIU says more */
    assert_int_equal(mount_points_make(t->path, "{", 1, &e), -EINVAL);
    static const char *const odd[] = {"{}", "{\"mounts\":3}", "{\"mounts\":[1,{}]}",
                                      "{\"mounts\":[" KIND("x", "/y") "]}"};
    for (size_t i = 0; i < ARRAY_SIZE(odd); i++)
        if (mount_points_make(t->path, odd[i], strlen(odd[i]), &e) < 0)
            fail_msg("%s: %s", odd[i], e.msg);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, tmpdir_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {T(makes_what_is_missing), T(odd_specifications)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
