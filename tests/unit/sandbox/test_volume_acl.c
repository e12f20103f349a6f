/* SPDX-License-Identifier: Apache-2.0 */
/* Needs root: mounts for real, in a mount namespace of its own. */
#include "oci/volume_acl.h"
#include "support.h"

#include <endian.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/path.h"

#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

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
    if (mkdir(f->base, 0755) < 0 || mount("base", f->base, "tmpfs", 0, "size=16m") < 0)
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

/* A user more than the mode names. */
static void give_acl(const struct fixture *f, const char *name, const char *attribute) {
    static const struct {
        uint16_t tag, perm;
        uint32_t id;
    } entries[] = {{1, 6, UINT32_MAX}, {2, 6, 4242}, {4, 0, UINT32_MAX}, {16, 6, UINT32_MAX}, {32, 0, UINT32_MAX}};
    uint8_t acl[4 + sizeof(entries)] = {2};
    cleanup_free char *path = path_join(f->base, name);
    memcpy(acl + 4, entries, sizeof(entries));
    assert_int_equal(setxattr(path, attribute, acl, sizeof(acl), 0), 0);
}

static void make(const struct fixture *f, const char *name) {
    cleanup_free char *path = path_join(f->base, name);
    cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
}

static void make_dir(const struct fixture *f, const char *name) {
    cleanup_free char *path = path_join(f->base, name);
    assert_int_equal(path_mkdirs(path, 0755, NULL), 0);
}

/* NULL: nothing is found. */
static void expect(const struct fixture *f, const char *source, const char *want) {
    cleanup_free char *path = path_join(f->base, source), *found = NULL;
    struct err err = ERR_INIT;
    int r = volume_find_acl(path, &found, &err);
    assert_int_equal(r, want != NULL);
    if (want)
        assert_string_equal(found + strlen(f->base) + 1, want);
}

static void finds_it(void **state) {
    const struct fixture *f = *state;
    make_dir(f, "v/dir/below");
    make(f, "v/file");
    make(f, "v/dir/below/file");
    expect(f, "v", NULL);
    expect(f, "v/file", NULL);
    expect(f, "nowhere", NULL);
    give_acl(f, "v/dir/below/file", ACCESS);
    expect(f, "v", "v/dir/below/file");
    give_acl(f, "v/dir", DEFAULT);
    expect(f, "v", "v/dir"); /* the nearer one */
    give_acl(f, "v/file", ACCESS);
    expect(f, "v/file", "v/file");
    give_acl(f, "v", ACCESS);
    expect(f, "v", "v");
}

static void not_by_links(void **state) {
    const struct fixture *f = *state;
    cleanup_free char *target = path_join(f->base, "other"), *dir = path_join(f->base, "v/link"),
                      *file = path_join(f->base, "v/link-to-file"), *top = path_join(f->base, "top");
    make_dir(f, "v");
    make_dir(f, "other");
    make(f, "other/file");
    give_acl(f, "other/file", ACCESS);
    give_acl(f, "other", DEFAULT);
    assert_int_equal(symlink(target, dir), 0);
    assert_int_equal(symlink("../other/file", file), 0);
    expect(f, "v", NULL);
    /* The volume itself may be one, as for the mount. */
    assert_int_equal(symlink(target, top), 0);
    expect(f, "top", "top");
}

static void looks_at_so_many(void **state) {
    const struct fixture *f = *state;
    make_dir(f, "v/dir");
    for (int i = 0; i < VOLUME_ACL_ENTRIES_MAX; i++) {
        cleanup_free char *name = str_printf("v/%d", i);
        make(f, name);
    }
    make(f, "v/dir/file");
    give_acl(f, "v/dir/file", ACCESS);
    expect(f, "v", NULL);
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(finds_it),
        TEST(not_by_links),
        TEST(looks_at_so_many),
    };
    if (!own_mounts())
        return EXIT_SKIPPED;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
