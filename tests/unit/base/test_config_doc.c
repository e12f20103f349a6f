/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>

#include "base/config.h"
#include "base/fd.h"

/* docs/configuration.md (CONFIG_DOC) has one table per section, with one row per key, in the table's words and order.
 */

static char *doc;

static int read_doc(void **state) {
    (void)state;
    return file_read_at(AT_FDCWD, CONFIG_DOC, 1 << 20, &doc, NULL, NULL);
}

static int free_doc(void **state) {
    (void)state;
    free(doc);
    return 0;
}

/* The document's section, from after its heading to the next one. */
static char *section_text(const char *section) {
    cleanup_free char *heading = str_printf("\n## [%s]\n", section);
    const char *start = strstr(doc, heading);
    if (!start)
        fail_msg("there is no heading for [%s]", section);
    start += strlen(heading);
    const char *end = strstr(start, "\n## ");
    return end ? strndup(start, (size_t)(end - start)) : strdup(start);
}

static void every_key_is_documented(void **state) {
    (void)state;
    size_t n;
    const struct config_key *k = config_keys(&n);
    for (size_t i = 0; i < n; i++) {
        bool none = k[i].default_text[0] == '\0';
        cleanup_free char *text = section_text(k[i].section);
        cleanup_free char *row = str_printf("\n| `%s` | %s | %s%s%s | %s |\n", k[i].key, k[i].type, none ? "" : "`",
                                            none ? "empty" : k[i].default_text, none ? "" : "`", k[i].help);
        /* the last row may end the file */
        cleanup_free char *padded = str_printf("%s\n", text);
        if (!strstr(padded, row))
            fail_msg("%s lacks this row in [%s]:%s", CONFIG_DOC, k[i].section, row);
    }
}

static void nothing_else_is_documented(void **state) {
    (void)state;
    size_t n, rows = 0, sections = 0;
    const struct config_key *k = config_keys(&n);
    for (const char *p = doc; (p = strstr(p, "\n| `")); p++)
        rows++;
    assert_int_equal(rows, n);
    size_t expected = 0;
    for (size_t i = 0; i < n; i++)
        expected += i == 0 || strcmp(k[i].section, k[i - 1].section) != 0;
    for (const char *p = doc; (p = strstr(p, "\n## [")); p++)
        sections++;
    assert_int_equal(sections, expected);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_is_documented),
        cmocka_unit_test(nothing_else_is_documented),
    };
    return cmocka_run_group_tests(tests, read_doc, free_doc);
}
