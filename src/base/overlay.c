/* SPDX-License-Identifier: Apache-2.0 */
#include "base/overlay.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mountinfo.h"

#define DATA_MAX 4096 /* bytes of options that mount(2) takes, with the NUL */

void overlay_clear(struct overlay *o) {
    free(o->upper);
    free(o->lower);
    *o = (struct overlay){0};
}

static bool octal(const char *s) {
    return s[0] >= '0' && s[0] <= '3' && s[1] >= '0' && s[1] <= '7' && s[2] >= '0' && s[2] <= '7';
}

/* The kernel writes what would end an option, or a field of the table, as \ooo. */
static char *unescape(const char *s, size_t len) {
    char *out = malloc(len + 1), *to = out;
    for (const char *from = s; out && from < s + len;) {
        if (from + 3 < s + len && from[0] == '\\' && octal(from + 1)) {
            *to++ = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to++ = *from++;
        }
    }
    if (out)
        *to = '\0';
    return out;
}

/* "lowerdir+" has one directory, in which a colon is nothing but that. */
static char *append_lower(const char *list, const char *one) {
    size_t n = list ? strlen(list) : 0;
    char *out = malloc(n + 2 * strlen(one) + 2), *to = out;
    if (!out)
        return NULL;
    if (list) {
        memcpy(to, list, n);
        to += n;
        *to++ = ':';
    }
    for (; *one; one++) {
        if (*one == ':' || *one == '\\')
            *to++ = '\\';
        *to++ = *one;
    }
    *to = '\0';
    return out;
}

bool overlay_is_special(const char *option, size_t len) {
    static const char *const special[] = {"metacopy=on", "datadir+=", "verity=on", "verity=require", "userxattr"};
    for (size_t i = 0; i < ARRAY_SIZE(special); i++)
        if (len >= strlen(special[i]) && strncmp(option, special[i], strlen(special[i])) == 0)
            return true;
    return false;
}

static int read_option(struct overlay *o, const char *option, size_t len) {
    static const char upper[] = "upperdir=", lower[] = "lowerdir=", more[] = "lowerdir+=";
    char **to = NULL;
    size_t n = 0;
    o->special |= overlay_is_special(option, len);
    if (len > strlen(upper) && strncmp(option, upper, strlen(upper)) == 0)
        to = &o->upper, n = strlen(upper);
    else if (len > strlen(lower) && strncmp(option, lower, strlen(lower)) == 0)
        to = &o->lower, n = strlen(lower);
    else if (len > strlen(more) && strncmp(option, more, strlen(more)) == 0)
        to = &o->lower, n = strlen(more);
    if (!to)
        return 0;
    cleanup_free char *value = unescape(option + n, len - n);
    char *text = !value ? NULL : n == strlen(more) ? append_lower(*to, value) : strdup(value);
    if (!text)
        return -ENOMEM;
    free(*to);
    *to = text;
    return 0;
}

static int read_options(struct overlay *o, const char *options, struct err *err) {
    for (const char *p = options;;) {
        size_t len = strcspn(p, ",");
        if (read_option(o, p, len) < 0)
            return err_set(err, ENOMEM, "out of memory");
        if (!p[len])
            return 0;
        p += len + 1;
    }
}

int overlay_find(const char *path, struct overlay *ret, struct err *err) {
    cleanup_overlay struct overlay o = {0};
    struct mountinfo m = {0};
    struct mountinfo_entry e;
    struct statfs fs;
    if (statfs(path, &fs) < 0)
        return err_errno(err, errno, "cannot look at %s", path);
    *ret = o;
    if (fs.f_type != OVERLAYFS_SUPER_MAGIC)
        return 0;
    cleanup_free char *real = realpath(path, NULL);
    int r = real ? mountinfo_open(MOUNTINFO_SELF, &m, err) : err_errno(err, errno, "cannot resolve %s", path);
    while (r == 0 && mountinfo_next(&m, &e))
        if (strcmp(e.mount_point, real) == 0 && strcmp(e.type, "overlay") == 0) {
            overlay_clear(&o); /* of one that this one is mounted over */
            r = strcmp(e.root, "/") == 0 ? read_options(&o, e.super_options, err) : 0;
        }
    mountinfo_close(&m);
    if (r < 0)
        return r;
    *ret = o;
    o = (struct overlay){0};
    return 0;
}

/* Copies the first directory of the list without its backslashes; returns where the next begins, NULL if none does. */
static const char *next_lower(const char *list, char *out) {
    for (; *list && *list != ':'; list++) {
        if (*list == '\\' && list[1])
            list++;
        *out++ = *list;
    }
    *out = '\0';
    return *list ? list + 1 : NULL;
}

int overlay_open_lower(const struct overlay *o, const char *dir, struct err *err) {
    cleanup_free char *name = strdup(o->lower ? o->lower : "");
    if (!name)
        return err_set(err, ENOMEM, "out of memory");
    unsigned n = 0;
    for (const char *next = o->lower; next; n++) {
        next = next_lower(next, name);
        if (name[0] != '/')
            return err_set(err, EOPNOTSUPP, "a lower directory, \"%s\", is no absolute path", name);
    }
    if (n == 1) {
        int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? err_errno(err, errno, "cannot open %s", name) : fd;
    }
    cleanup_free char *data = n ? str_printf("lowerdir=%s", o->lower) : NULL;
    if (!data)
        return n ? err_set(err, ENOMEM, "out of memory") : err_set(err, EOPNOTSUPP, "it names no lower directory");
    /* A comma would end the option. */
    if (strlen(data) >= DATA_MAX || strchr(data, ','))
        return err_set(err, E2BIG, "mount(2) does not take the names of its %u lower directories", n);
    if (mount("overlay", dir, "overlay", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, data) < 0)
        return err_errno(err, errno, "cannot mount its %u lower directories", n);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int code = errno;
    if (umount2(dir, MNT_DETACH) < 0 && fd >= 0) {
        code = errno;
        fd = fd_close(fd);
    }
    return fd < 0 ? err_errno(err, code, "cannot open its lower directories at %s", dir) : fd;
}
