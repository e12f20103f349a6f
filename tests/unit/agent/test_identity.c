/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/identity.h"
#include "base/fd.h"
#include "support.h"

#include <ctype.h>
#include <sys/stat.h>

#define OLD "0123456789abcdef0123456789abcdef"

static void test_uuid(void **state) {
    (void)state;
    char a[IDENTITY_UUID_LEN + 1], b[IDENTITY_UUID_LEN + 1];
    assert_int_equal(identity_uuid(a, NULL), 0);
    assert_int_equal(identity_uuid(b, NULL), 0);
    assert_int_equal(strlen(a), IDENTITY_UUID_LEN);
    assert_string_not_equal(a, b);
    for (size_t i = 0; i < IDENTITY_UUID_LEN; i++)
        assert_true(i == 8 || i == 13 || i == 18 || i == 23 ? a[i] == '-' : isxdigit((unsigned char)a[i]));
    assert_int_equal(a[14], '4');
    assert_non_null(strchr("89ab", a[19]));
}

static void test_reseed(void **state) {
    struct tmpdir *t = *state;
    struct err err = ERR_INIT;
    cleanup_free char *file = tmpdir_path(t, "random");
    uint8_t entropy[IDENTITY_ENTROPY_MAX + 1] = {1};
    tmpdir_write(t, "random", "");
    assert_int_equal(identity_reseed(file, entropy, IDENTITY_ENTROPY_MIN - 1, &err), -EINVAL);
    assert_int_equal(identity_reseed(file, entropy, IDENTITY_ENTROPY_MAX + 1, &err), -EINVAL);
    assert_int_equal(identity_reseed(file, entropy, IDENTITY_ENTROPY_MAX, &err), -ENOTTY);
    assert_int_equal(identity_reseed("/nonexistent", entropy, IDENTITY_ENTROPY_MIN, &err), -ENOENT);
}

static int renew(struct tmpdir *t, const char *content, char **now) {
    struct err err = ERR_INIT;
    if (content)
        tmpdir_write(t, "etc/machine-id", content);
    int r = identity_machine_id(t->fd, "container c1", &err);
    *now = NULL;
    (void)file_read_at(t->fd, "etc/machine-id", 4096, now, NULL, NULL);
    return r;
}

static void test_machine_id(void **state) {
    struct tmpdir *t = *state;
    static const char *const kept[] = {"", "uninitialized\n", OLD "0", "0123456789abcdef0123456789abcdeg\n"};
    struct stat before, after;
    char *now;
    assert_int_equal(renew(t, NULL, &now), 0); /* none */
    assert_int_equal(mkdirat(t->fd, "etc", 0755), 0);
    for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
        assert_int_equal(renew(t, kept[i], &now), 0);
        assert_string_equal(now, kept[i]);
        free(now);
    }
    assert_int_equal(fstatat(t->fd, "etc/machine-id", &before, 0), 0);
    assert_int_equal(renew(t, OLD "\n", &now), 1);
    assert_int_equal(fstatat(t->fd, "etc/machine-id", &after, 0), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_int_equal(strlen(now), 33);
    assert_string_not_equal(now, OLD "\n");
    assert_int_equal(now[32], '\n');
    free(now);
    assert_int_equal(renew(t, OLD, &now), 1);
    assert_int_equal(strlen(now), 32);
    free(now);
}

/* What a container may put in its place. */
static void test_hostile(void **state) {
    struct tmpdir *t = *state;
    char *now;
    tmpdir_write(t, "secret", OLD);
    assert_int_equal(mkdirat(t->fd, "etc", 0755), 0);
    assert_int_equal(symlinkat("../secret", t->fd, "etc/machine-id"), 0);
    assert_int_equal(renew(t, NULL, &now), 0);
    assert_string_equal(now, OLD);
    free(now);
    tmpdir_remove(t, "etc/machine-id");
    assert_int_equal(mkfifoat(t->fd, "etc/machine-id", 0644), 0);
    assert_int_equal(identity_machine_id(t->fd, "c1", NULL), 0);
    tmpdir_remove(t, "etc/machine-id");
    assert_int_equal(unlinkat(t->fd, "etc", AT_REMOVEDIR), 0);
    assert_int_equal(symlinkat("/etc", t->fd, "etc"), 0);
    assert_int_equal(identity_machine_id(t->fd, "c1", NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uuid),
        cmocka_unit_test_setup_teardown(test_reseed, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(test_machine_id, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(test_hostile, tmpdir_setup, tmpdir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
