/* SPDX-License-Identifier: Apache-2.0 */
/* layers.c. The second half needs root: it mounts for real, in a mount namespace of its own. */
#include "sandbox/layers.h"
#include "support.h"

#include <sys/stat.h>

static struct layers of(const char *type, const char *target, size_t n, char *const options[]) {
    const struct rootfs_mount m = {.type = type, .target = target, .options = options, .n_options = n};
    struct layers l = {0};
    struct err err = ERR_INIT;
    assert_int_equal(layers_of_mount(&m, &l, &err), 0);
    return l;
}

static void of_an_overlay(void **state) {
    (void)state;
    char *options[] = {"index=off", "lowerdir=/l/b\\:1:/l/a\\\\2", "upperdir=/u", "workdir=/w"};
    struct layers l = of("overlay", NULL, 4, options);
    assert_string_equal(l.upper, "/u");
    assert_int_equal(l.lowers.n, 2);
    assert_string_equal(l.lowers.v[0], "/l/b:1");
    assert_string_equal(l.lowers.v[1], "/l/a\\2");
    layers_clear(&l);
    layers_clear(&l);
}

/* As the kernel does: the last one counts. */
static void an_option_given_twice(void **state) {
    (void)state;
    char *options[] = {"lowerdir=/a:/b", "upperdir=/u", "upperdir=/v", "lowerdir=/c"};
    struct layers l = of("overlay", "/", 4, options);
    assert_string_equal(l.upper, "/v");
    assert_int_equal(l.lowers.n, 1);
    assert_string_equal(l.lowers.v[0], "/c");
    layers_clear(&l);
}

static void of_anything_else(void **state) {
    (void)state;
    char *whole[] = {"lowerdir=/a", "upperdir=/u"}, *relative[] = {"lowerdir=a", "upperdir=/u"};
    char *no_upper[] = {"lowerdir=/a:/b"}, *no_lower[] = {"upperdir=/u"}, *dots[] = {"lowerdir=/a", "upperdir=/u/.."};
    char *metacopy[] = {"lowerdir=/a", "upperdir=/u", "metacopy=on"};
    char *user[] = {"lowerdir=/a", "upperdir=/u", "userxattr"}, *comma[] = {"lowerdir=/a,b", "upperdir=/u"};
    char *empty[] = {"lowerdir=:", "upperdir=/u"};
    const struct layers none[] = {
        of("bind", NULL, 2, whole),       of(NULL, NULL, 2, whole),         of("overlay", "sub", 2, whole),
        of("overlay", NULL, 2, relative), of("overlay", NULL, 1, no_upper), of("overlay", NULL, 1, no_lower),
        of("overlay", NULL, 3, metacopy), of("overlay", NULL, 3, user),     of("overlay", NULL, 2, comma),
        of("overlay", NULL, 2, dots),     of("overlay", NULL, 2, empty),    of("overlay", NULL, 0, NULL)};
    for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
        assert_null(none[i].upper);
        assert_int_equal(none[i].lowers.n, 0);
    }
}

/* An overlay needs directories on a file system that is no overlay itself. */
struct fixture {
    struct tmpdir *tmp;
    char *base;
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    void *tmp = NULL;
    if (tmpdir_setup(&tmp) < 0)
        return -1;
    f->tmp = tmp;
    f->base = tmpdir_path(f->tmp, "base");
    if (mkdir(f->base, 0755) < 0 || mount("base", f->base, "tmpfs", 0, "size=4m") < 0)
        return -1;
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    void *tmp = f->tmp;
    (void)umount2(f->base, MNT_DETACH);
    free(f->base);
    free(f);
    return tmpdir_teardown(&tmp);
}

static char *make_dir(const struct fixture *f, const char *name, const char *file) {
    char *path = path_join(f->base, name);
    assert_int_equal(path_mkdirs(path, 0755, NULL), 0);
    cleanup_free char *at = path_join(path, file);
    cleanup_fd int fd = open(at, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, name, strlen(name)), 0);
    return path;
}

static bool says(const char *dir, const char *file, const char *want) {
    cleanup_free char *path = path_join(dir, file);
    cleanup_free char *text = NULL;
    return file_read_at(AT_FDCWD, path, 100, &text, NULL, NULL) == 0 && strcmp(text, want) == 0;
}

/* Names that the option's own signs are in; the topmost directory wins; writes go to the upper one alone. */
static void mounted(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    cleanup_strv struct strv lowers = {0};
    cleanup_free char *top = make_dir(f, "a:top", "file"), *bottom = make_dir(f, "b\\bottom", "file");
    cleanup_free char *other = make_dir(f, "other", "only-there");
    cleanup_free char *upper = make_dir(f, "upper", "upper"), *work = path_join(f->base, "work");
    cleanup_free char *at = path_join(f->base, "at");
    assert_int_equal(path_mkdirs(work, 0755, NULL), 0);
    assert_int_equal(strv_add(&lowers, top), 0);
    assert_int_equal(strv_add(&lowers, bottom), 0);
    assert_int_equal(strv_add(&lowers, other), 0);
    if (layers_mount(&lowers, upper, work, at, &err) < 0)
        fail_msg("%s", err.msg);
    assert_true(says(at, "file", "a:top"));
    assert_true(says(at, "only-there", "other"));
    assert_true(says(at, "upper", "upper"));
    cleanup_free char *file = path_join(at, "file");
    assert_int_equal(unlink(file), 0);
    assert_true(says(top, "file", "a:top"));
    assert_int_equal(rootfs_unmount(at, &err), 0);
}

static void what_an_overlay_cannot_take(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    cleanup_strv struct strv comma = {0}, missing = {0};
    cleanup_free char *lower = make_dir(f, "a,b", "file"), *upper = make_dir(f, "upper", "upper");
    cleanup_free char *work = path_join(f->base, "work"), *at = path_join(f->base, "at");
    cleanup_free char *none = path_join(f->base, "none");
    assert_int_equal(path_mkdirs(work, 0755, NULL), 0);
    assert_int_equal(strv_add(&comma, lower), 0);
    assert_int_equal(layers_mount(&comma, upper, work, at, &err), -EINVAL);
    ASSERT_SAYS(&err, "a,b");
    assert_int_equal(strv_add(&missing, none), 0);
    assert_int_equal(layers_mount(&missing, upper, work, at, &err), -ENOENT);
    assert_int_equal(count_mounts(at), 0);
}

static bool has_layers(const char *dir, struct layers *l) {
    struct err err = ERR_INIT;
    if (layers_of_dir(dir, l, &err) < 0)
        fail_msg("%s", err.msg);
    return l->upper != NULL;
}

static void mount_overlay(const char *options, const char *at) {
    assert_int_equal(path_mkdirs(at, 0755, NULL), 0);
    if (mount("overlay", at, "overlay", 0, options) < 0)
        fail_msg("%s: %s", options, strerror(errno));
}

/* As Podman or the bundle's owner has mounted it. */
static void mounted_by_others(void **state) {
    struct fixture *f = *state;
    struct layers l = {0};
    cleanup_free char *top = make_dir(f, "top", "file"), *low_dir = make_dir(f, "bottom/dir", "file");
    cleanup_free char *bottom = path_join(f->base, "bottom");
    cleanup_free char *upper = make_dir(f, "upper", "upper"), *work = path_join(f->base, "work");
    cleanup_free char *at = path_join(f->base, "at"), *bound = path_join(f->base, "bound");
    cleanup_free char *below = path_join(at, "dir");
    assert_int_equal(path_mkdirs(work, 0755, NULL), 0);
    assert_int_equal(path_mkdirs(bound, 0755, NULL), 0);
    assert_non_null(low_dir);
    assert_false(has_layers(upper, &l));
    cleanup_free char *both = str_printf("lowerdir=%s:%s,upperdir=%s,workdir=%s", top, bottom, upper, work);
    mount_overlay(both, at);
    assert_true(has_layers(at, &l));
    assert_string_equal(l.upper, upper);
    assert_int_equal(l.lowers.n, 2);
    assert_string_equal(l.lowers.v[0], top);
    assert_string_equal(l.lowers.v[1], bottom);
    layers_clear(&l);

    /* A directory of it is not all of it, wherever it is mounted; its top is, elsewhere too. */
    assert_false(has_layers(below, &l));
    assert_int_equal(mount(below, bound, NULL, MS_BIND, NULL), 0);
    assert_false(has_layers(bound, &l));
    assert_int_equal(mount(at, bound, NULL, MS_BIND, NULL), 0);
    assert_true(has_layers(bound, &l));
    layers_clear(&l);
    /* Another file system over it. */
    assert_int_equal(mount("over", bound, "tmpfs", 0, "size=64k"), 0);
    assert_false(has_layers(bound, &l));
    assert_int_equal(umount2(bound, MNT_DETACH), 0);
    assert_int_equal(rootfs_unmount(at, NULL), 0);

    static const char *const special[] = {"metacopy=on", "userxattr"};
    for (size_t i = 0; i < ARRAY_SIZE(special); i++) {
        cleanup_free char *options = str_printf("%s,%s", both, special[i]);
        mount_overlay(options, at);
        assert_false(has_layers(at, &l));
        assert_int_equal(rootfs_unmount(at, NULL), 0);
    }
    cleanup_free char *read_only = str_printf("lowerdir=%s:%s", top, bottom);
    mount_overlay(read_only, at);
    assert_false(has_layers(at, &l));
    assert_int_equal(rootfs_unmount(at, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_an_overlay),
        cmocka_unit_test(an_option_given_twice),
        cmocka_unit_test(of_anything_else),
        cmocka_unit_test_setup_teardown(mounted, setup, teardown),
        cmocka_unit_test_setup_teardown(mounted_by_others, setup, teardown),
        cmocka_unit_test_setup_teardown(what_an_overlay_cannot_take, setup, teardown),
    };
    if (!own_mounts())
        return EXIT_SKIPPED;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
