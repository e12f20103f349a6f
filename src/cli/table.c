/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/table.h"

#include <string.h>

void table_clear(struct table *t) {
    strv_clear(&t->cells);
}

int table_add(struct table *t, const char *const *cells, struct err *err) {
    for (size_t i = 0; i < t->columns; i++)
        if (strv_add(&t->cells, cells[i]) < 0)
            return err_set(err, ENOMEM, "out of memory");
    return 0;
}

static size_t width_of(const struct table *t, size_t column) {
    size_t width = 0;
    for (size_t i = column; i < t->cells.n; i += t->columns)
        width = MAX(width, strlen(t->cells.v[i]) + t->gap);
    return MAX(width, t->min_width);
}

void table_print(const struct table *t, FILE *out) {
    for (size_t i = 0; i < t->cells.n; i++) {
        size_t column = i % t->columns;
        if (column + 1 < t->columns)
            fprintf(out, "%-*s", (int)width_of(t, column), t->cells.v[i]);
        else
            fprintf(out, "%s\n", t->cells.v[i]);
    }
}
