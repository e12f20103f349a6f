/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/archive_links.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

struct link {
    dev_t dev;
    ino_t ino;
    nlink_t left; /* names that are still to come */
    char *path;   /* of the first */
};

static int compare(const void *a, const void *b) {
    const struct link *x = a, *y = b;
    if (x->ino != y->ino)
        return x->ino < y->ino ? -1 : 1;
    return (x->dev > y->dev) - (x->dev < y->dev);
}

static void free_link(void *p) {
    struct link *l = p;
    free(l->path);
    free(l);
}

int archive_links_find(struct archive_links *links, struct archive_entry *e, const char *path, const struct stat *st,
                       struct err *err) {
    if (st->st_nlink < 2 || S_ISDIR(st->st_mode))
        return 0;
    const struct link key = {.dev = st->st_dev, .ino = st->st_ino};
    struct link *const *found = tfind(&key, &links->tree, compare);
    if (found) {
        struct link *l = *found;
        archive_entry_copy_hardlink(e, l->path);
        if (--l->left == 0) {
            tdelete(l, &links->tree, compare);
            free_link(l);
            links->n--;
        }
        return 1;
    }
    if (links->n == links->max)
        return err_set(err, EFBIG, "%s: more than %u files with several names", path, links->max);
    struct link *l = malloc(sizeof(*l));
    if (!l)
        return err_set(err, ENOMEM, "out of memory");
    *l = (struct link){.dev = st->st_dev, .ino = st->st_ino, .left = st->st_nlink - 1, .path = strdup(path)};
    if (!l->path || !tsearch(l, &links->tree, compare)) {
        free_link(l);
        return err_set(err, ENOMEM, "out of memory");
    }
    links->n++;
    return 0;
}

void archive_links_clear(struct archive_links *links) {
    tdestroy(links->tree, free_link);
    links->tree = NULL;
    links->n = 0;
}
