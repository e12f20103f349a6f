/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/snapshot_open.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "cli/progress.h"

#define USAGE_DEPTH_MAX 256 /* of what is counted */

const char *snapshot_kind_name(enum snapshot_kind kind) {
    return kind == SNAPSHOT_KIND_TEMPLATE ? "template" : "snapshot";
}

const char *snapshot_kind_dir(enum snapshot_kind kind, const struct config *config) {
    return kind == SNAPSHOT_KIND_TEMPLATE ? config->template_dir : config->snapshot_dir;
}

static int verify(void *userdata, struct err *err) {
    const struct snapshot *s = userdata;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    return manifest_verify(s->fd, &s->manifest, cpus > 0 ? (unsigned)cpus : 1, err);
}

int snapshot_verify(const struct snapshot *s, const char *name, struct err *err) {
    cleanup_free char *what = str_printf("verifying %s", name);
    int r = progress_while(what ? what : "verifying", verify, (void *)s, err);
    return r < 0 ? err_wrap(err, "snapshot %s", name) : 0;
}

void snapshot_close(struct snapshot *s) {
    manifest_clear(&s->manifest);
    fd_close(s->fd);
    *s = SNAPSHOT_NONE;
}

static int load(enum snapshot_kind kind, const char *name, struct snapshot *s, struct err *err) {
    int r = manifest_read(s->fd, &s->manifest, err);
    if (r < 0)
        return err_wrap(err, "%s %s", snapshot_kind_name(kind), name);
    bool template = kind == SNAPSHOT_KIND_TEMPLATE;
    if (s->manifest.is_template != template)
        return err_set(err, EINVAL, "%s is a %s", name, template ? "snapshot" : "template");
    s->imported = faccessat(s->fd, SNAPSHOT_IMPORTED, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    return 0;
}

int snapshot_open(enum snapshot_kind kind, const char *dir, const char *name, struct snapshot *ret, struct err *err) {
    cleanup_snapshot struct snapshot s = SNAPSHOT_NONE;
    struct store store = {.fd = -1};
    const char *what = snapshot_kind_name(kind);
    int r = id_validate(kind == SNAPSHOT_KIND_TEMPLATE ? "template name" : "snapshot name", name, err);
    if (r < 0)
        return r;
    r = store_open(dir, false, &store, err);
    if (r == 0) {
        r = store_use(&store, name, &s.fd, err);
        store_close(&store);
    }
    if (r == -ENOENT)
        return err_set(err, ENOENT, "there is no %s %s in %s", what, name, dir);
    if (r >= 0)
        r = load(kind, name, &s, err);
    if (r < 0)
        return r;
    *ret = s;
    s = SNAPSHOT_NONE;
    return 0;
}

static uint64_t usage_below(int fd, unsigned depth) {
    uint64_t sum = 0;
    struct stat st;
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_dir DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir)
        fd_close(copy);
    for (const struct dirent *e; dir && (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        /* One with several names is counted in parts, so that it adds up. */
        sum += (uint64_t)st.st_blocks * 512 / (S_ISDIR(st.st_mode) ? 1 : MAX(st.st_nlink, (nlink_t)1));
        if (!S_ISDIR(st.st_mode) || depth == USAGE_DEPTH_MAX)
            continue;
        cleanup_fd int sub = path_open_beneath(fd, e->d_name, O_RDONLY | O_DIRECTORY, 0, NULL);
        if (sub >= 0)
            sum += usage_below(sub, depth + 1);
    }
    return sum;
}

uint64_t snapshot_disk_usage(int fd) {
    return usage_below(fd, 0);
}
