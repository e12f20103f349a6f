/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/volume_acl.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"

static const char *const attributes[] = {"system.posix_acl_access", "system.posix_acl_default"};

struct search {
    struct strv dirs; /* below source, "" itself; those before `next` have been read */
    size_t next;
    size_t left; /* entries */
    uint64_t end;
};

/* name: one component, or "." */
static bool has_acl(int dirfd, const char *name) {
    char path[64 + NAME_MAX];
    snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dirfd, name);
    for (size_t i = 0; i < ARRAY_SIZE(attributes); i++)
        if (lgetxattr(path, attributes[i], NULL, 0) > 0)
            return true;
    return false;
}

/* Directories are searched later, level by level. */
static int look_at(struct search *s, int dirfd, const char *dir, const struct dirent *e, char **ret) {
    cleanup_free char *path = str_printf("%s%s%s", dir, *dir ? "/" : "", e->d_name);
    if (!path || (e->d_type == DT_DIR && strv_add(&s->dirs, path) < 0))
        return -ENOMEM;
    if (!has_acl(dirfd, e->d_name))
        return 0;
    *ret = TAKE_PTR(path);
    return 1;
}

static int look_into(struct search *s, int top, const char *dir, char **ret) {
    int fd = path_open_beneath(top, *dir ? dir : ".", O_RDONLY | O_DIRECTORY, 0, NULL);
    cleanup_dir DIR *d = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *e;
    int r = 0;
    if (!d) {
        fd_close(fd);
        return 0;
    }
    while (r == 0 && s->left && now_usec() < s->end && (e = readdir(d)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            s->left--;
            r = look_at(s, dirfd(d), dir, e, ret);
        }
    return r;
}

int volume_find_acl(const char *source, char **ret, struct err *err) {
    struct search s = {.left = VOLUME_ACL_ENTRIES_MAX, .end = now_usec() + VOLUME_ACL_USEC_MAX};
    cleanup_free char *found = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(attributes); i++)
        if (getxattr(source, attributes[i], NULL, 0) > 0)
            return (*ret = strdup(source)) ? 1 : err_set(err, ENOMEM, "out of memory");
    cleanup_fd int top = open(source, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = top < 0 ? 0 : strv_add(&s.dirs, "");
    for (; r == 0 && s.next < s.dirs.n && s.left; s.next++)
        r = look_into(&s, top, s.dirs.v[s.next], &found);
    strv_clear(&s.dirs);
    if (r > 0)
        r = (*ret = path_join(source, found)) ? 1 : -ENOMEM;
    return r < 0 ? err_set(err, ENOMEM, "out of memory") : r;
}

int volume_acl_ignored(const struct oci_guest_spec *guest, char **ret, struct err *err) {
    for (size_t i = 0; i < guest->n_mounts; i++) {
        const struct oci_share_mount *m = &guest->mounts[i];
        cleanup_free char *path = NULL;
        int r = volume_find_acl(m->source, &path, err);
        if (r < 0)
            return r;
        if (r == 0)
            continue;
        *ret = str_printf("mounts[%u]: %s has a POSIX ACL, which does not count in the guest: its mode does",
                          m->spec_index, path);
        return *ret ? 1 : err_set(err, ENOMEM, "out of memory");
    }
    return 0;
}
