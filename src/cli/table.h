/* SPDX-License-Identifier: Apache-2.0 */
/* Text in aligned columns, as Go's tabwriter prints them for runc: a column is as wide as its widest cell and `gap`
 * blanks, at least `min_width`; the last one is not padded. */
#pragma once

#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "base/util.h"

struct table {
    size_t columns, min_width, gap;
    struct strv cells; /* row by row */
};

void table_clear(struct table *t);
#define cleanup_table CLEANUP(table_clear)

/* Adds one row of t->columns texts, which are copied. Returns 0 or -ENOMEM. */
int table_add(struct table *t, const char *const *cells, struct err *err);

void table_print(const struct table *t, FILE *out);
