/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "oci/archive_links.h"
#include "oci/archive_put.h"

/* The name that the entry is made a link to; "" for none, NULL on an error. */
static const char *put(struct archive_links *l, const char *path, ino_t ino, nlink_t names, mode_t type) {
    static char target[64];
    struct err err = ERR_INIT;
    const struct stat st = {.st_dev = 1, .st_ino = ino, .st_nlink = names, .st_mode = type | 0600};
    cleanup_entry struct archive_entry *e = archive_put_header(path, &st);
    int r = archive_links_find(l, e, path, &st, &err);
    if (r < 0) {
        assert_int_equal(r, -EFBIG);
        assert_non_null(strstr(err.msg, path));
        assert_null(archive_entry_hardlink(e));
        return NULL;
    }
    const char *to = archive_entry_hardlink(e);
    assert_int_equal(to != NULL, r == 1);
    snprintf(target, sizeof(target), "%s", to ? to : "");
    return target;
}

static void the_first_name_is_linked_to(void **state) {
    (void)state;
    struct archive_links l = {.max = 10};
    assert_string_equal(put(&l, "a", 5, 3, S_IFREG), "");
    assert_string_equal(put(&l, "other", 6, 1, S_IFREG), "");
    assert_string_equal(put(&l, "fifo", 7, 2, S_IFIFO), "");
    assert_string_equal(put(&l, "b", 5, 3, S_IFREG), "a");
    assert_string_equal(put(&l, "c", 5, 3, S_IFREG), "a");
    assert_int_equal(l.n, 1); /* all names of the first have come */
    assert_string_equal(put(&l, "fifo2", 7, 2, S_IFIFO), "fifo");
    assert_int_equal(l.n, 0);
    archive_links_clear(&l);
}

static void a_directory_has_one_name(void **state) {
    (void)state;
    struct archive_links l = {.max = 10};
    assert_string_equal(put(&l, "d", 5, 3, S_IFDIR), "");
    assert_string_equal(put(&l, "e", 5, 3, S_IFDIR), "");
    assert_int_equal(l.n, 0);
    archive_links_clear(&l);
}

static void they_are_counted(void **state) {
    (void)state;
    struct archive_links l = {.max = 2};
    assert_string_equal(put(&l, "a", 1, 2, S_IFREG), "");
    assert_string_equal(put(&l, "b", 2, 2, S_IFREG), "");
    assert_null(put(&l, "c", 3, 2, S_IFREG));
    assert_string_equal(put(&l, "a2", 1, 2, S_IFREG), "a");
    assert_string_equal(put(&l, "c", 3, 2, S_IFREG), "");
    archive_links_clear(&l);
    assert_int_equal(l.n, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_name_is_linked_to),
        cmocka_unit_test(a_directory_has_one_name),
        cmocka_unit_test(they_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
