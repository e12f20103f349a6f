/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/layers.h"

#include <stdlib.h>
#include <string.h>

#include "base/overlay.h"
#include "base/path.h"

#define LOWER "lowerdir="
#define UPPER "upperdir="
#define LIST_MAX 3000 /* bytes of lower directories: a copy of the upper one is to fit beside them into one mount */

void layers_clear(struct layers *l) {
    free(l->upper);
    strv_clear(&l->lowers);
    *l = (struct layers){0};
}

/* The list of the option, in which a backslash takes the meaning from a colon. */
static int split(const char *list, struct strv *ret) {
    cleanup_free char *dir = malloc(strlen(list) + 1);
    size_t n = 0;
    if (!dir)
        return -ENOMEM;
    for (const char *p = list;; p++) {
        if (*p == '\\' && p[1]) {
            dir[n++] = *++p;
        } else if (*p == ':' || !*p) {
            dir[n] = '\0';
            if (n && strv_add(ret, dir) < 0)
                return -ENOMEM;
            n = 0;
            if (!*p)
                return 0;
        } else {
            dir[n++] = *p;
        }
    }
}

/* Gives it to the caller if it is whole, with paths that layers_mount() takes; *l is empty afterwards. */
static void take_whole(struct layers *l, struct layers *ret) {
    bool whole = l->upper && path_is_normal(l->upper) && l->lowers.n > 0;
    for (size_t i = 0; i < l->lowers.n; i++)
        whole = whole && path_is_normal(l->lowers.v[i]) && !strchr(l->lowers.v[i], ',');
    if (whole)
        *ret = *l;
    else
        layers_clear(l);
    *l = (struct layers){0};
}

int layers_of_mount(const struct rootfs_mount *m, struct layers *ret, struct err *err) {
    struct layers l = {0};
    int r = 0;
    if (!m->type || strcmp(m->type, "overlay") != 0 || (m->target && *m->target && strcmp(m->target, "/") != 0))
        return 0;
    for (size_t i = 0; i < m->n_options && r == 0; i++) {
        if (strncmp(m->options[i], UPPER, strlen(UPPER)) == 0) {
            free(l.upper);
            l.upper = strdup(m->options[i] + strlen(UPPER));
            r = l.upper ? 0 : -ENOMEM;
        } else if (strncmp(m->options[i], LOWER, strlen(LOWER)) == 0) {
            strv_clear(&l.lowers);
            r = split(m->options[i] + strlen(LOWER), &l.lowers);
        }
        if (overlay_is_special(m->options[i], strlen(m->options[i]))) {
            layers_clear(&l);
            return 0;
        }
    }
    if (r == 0)
        take_whole(&l, ret);
    layers_clear(&l);
    return r < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

int layers_of_dir(const char *dir, struct layers *ret, struct err *err) {
    cleanup_overlay struct overlay o = {0};
    struct layers l = {0};
    int r = overlay_find(dir, &o, err);
    /* Two colons stand before layers that hold data for others. */
    if (r < 0 || !o.upper || !o.lower || o.special || strstr(o.lower, "::") || strlen(o.lower) > LIST_MAX)
        return r;
    l.upper = TAKE_PTR(o.upper);
    r = split(o.lower, &l.lowers);
    if (r == 0)
        take_whole(&l, ret);
    layers_clear(&l);
    return r < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

/* Joined as the option wants them. */
static int join(const struct strv *lowers, char **ret, struct err *err) {
    size_t size = sizeof(LOWER);
    for (size_t i = 0; i < lowers->n; i++)
        size += 2 * strlen(lowers->v[i]) + 1;
    char *out = malloc(size), *p = out ? stpcpy(out, LOWER) : NULL;
    if (!out)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < lowers->n; i++) {
        if (i)
            *p++ = ':';
        for (const char *s = lowers->v[i]; *s; s++) {
            if (*s == ':' || *s == '\\')
                *p++ = '\\';
            *p++ = *s;
        }
    }
    *p = '\0';
    *ret = out;
    return 0;
}

int layers_mount(const struct strv *lowers, const char *upper, const char *work, const char *at, struct err *err) {
    cleanup_free char *lower_option = NULL;
    cleanup_free char *upper_option = str_printf(UPPER "%s", upper);
    cleanup_free char *work_option = str_printf("workdir=%s", work);
    int r = upper_option && work_option ? join(lowers, &lower_option, err) : err_set(err, ENOMEM, "out of memory");
    if (r < 0)
        return r;
    for (size_t i = 0; i < lowers->n; i++)
        if (strchr(lowers->v[i], ','))
            return err_set(err, EINVAL, "%s: an overlay cannot take a directory with a comma in its name",
                           lowers->v[i]);
    /* What the layers of a snapshot say holds wherever they are: nothing may point into another file system. */
    char index[] = "index=off", metacopy[] = "metacopy=off", redirect[] = "redirect_dir=follow";
    char *options[] = {lower_option, upper_option, work_option, index, metacopy, redirect};
    struct rootfs_mount m = {
        .type = "overlay", .source = "overlay", .options = options, .n_options = ARRAY_SIZE(options)};
    return rootfs_mount(&m, 1, at, err);
}
