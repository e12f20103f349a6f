/* SPDX-License-Identifier: Apache-2.0 */
/* Which files of a tree that is being archived have names that are still to come: those become hard links. */
#pragma once

#include <archive_entry.h>
#include <sys/stat.h>

#include "base/err.h"

struct archive_links {
    void *tree;      /* tsearch */
    unsigned n, max; /* files that are waited for; set max, the rest is zero */
};

/* Returns 1 when the file was found under another name before: the entry is a hard link to that now. 0: it was not, and
 * is remembered if it has more names. Errors: -EFBIG (max are remembered; the entry is as it was), -ENOMEM. */
int archive_links_find(struct archive_links *l, struct archive_entry *e, const char *path, const struct stat *st,
                       struct err *err);

void archive_links_clear(struct archive_links *l);
