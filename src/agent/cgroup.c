/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/util.h"

int cgroup_path_parse(const char *text, char **ret) {
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, "0::/", 4) != 0)
            continue;
        *ret = strndup(line + 3, strcspn(line + 3, "\n"));
        return *ret ? 0 : -ENOMEM;
    }
    return -ENODATA;
}

int cgroup_open_of(const char *root, pid_t pid, int *ret_fd, char **ret_path, struct err *err) {
    char file[64];
    cleanup_free char *text = NULL, *path = NULL, *full = NULL;
    snprintf(file, sizeof(file), "/proc/%d/cgroup", (int)pid);
    int r = file_read_at(AT_FDCWD, file, CGROUP_FILE_MAX, &text, NULL, err);
    if (r < 0)
        return r;
    r = cgroup_path_parse(text, &path);
    if (r < 0)
        return err_errno(err, -r, "%s names no cgroup", file);
    full = path_join(root, path);
    if (!full)
        return err_set(err, ENOMEM, "out of memory");
    int fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "cannot open cgroup %s", full);
    *ret_fd = fd;
    *ret_path = TAKE_PTR(full);
    return 0;
}

struct pids {
    pid_t *v;
    size_t n, size;
};

static int add_pids(struct pids *pids, const char *text) {
    for (const char *p = text; *p;) {
        char *end;
        long pid = strtol(p, &end, 10);
        if (end == p)
            break;
        p = *end ? end + 1 : end;
        /* 0: a process of another pid namespace, which cannot be */
        if (pid <= 0 || pids->n >= CGROUP_PIDS_MAX)
            continue;
        if (pids->n == pids->size) {
            size_t size = MAX(pids->size * 2, (size_t)64);
            pid_t *v = realloc(pids->v, size * sizeof(*v));
            if (!v)
                return -ENOMEM;
            pids->v = v;
            pids->size = size;
        }
        pids->v[pids->n++] = (pid_t)pid;
    }
    return 0;
}

static int walk(int fd, struct pids *pids, unsigned depth) {
    cleanup_free char *text = NULL;
    int r = file_read_at(fd, "cgroup.procs", CGROUP_FILE_MAX, &text, NULL, NULL);
    /* EOPNOTSUPP: a threaded group, whose processes are listed above it. ENODEV, ENOENT: it was just removed. */
    if (r < 0 && r != -EOPNOTSUPP && r != -ENODEV && r != -ENOENT)
        return r;
    if (r >= 0 && (r = add_pids(pids, text)) < 0)
        return r;
    if (depth == CGROUP_DEPTH_MAX)
        return 0;
    int at = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_dir DIR *dir = at < 0 ? NULL : fdopendir(at);
    if (!dir) {
        fd_close(at);
        return -errno;
    }
    struct dirent *e;
    while ((e = readdir(dir))) {
        if (e->d_type != DT_DIR || e->d_name[0] == '.')
            continue;
        cleanup_fd int sub = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (sub >= 0 && (r = walk(sub, pids, depth + 1)) < 0)
            return r;
    }
    return 0;
}

int cgroup_pids(int fd, pid_t **ret, size_t *ret_n, struct err *err) {
    struct pids pids = {0};
    int r = walk(fd, &pids, 0);
    if (r < 0) {
        free(pids.v);
        return err_errno(err, -r, "cannot list the processes of the cgroup");
    }
    *ret = pids.v;
    *ret_n = pids.n;
    return 0;
}

int cgroup_read_key(int fd, const char *file, const char *key, uint64_t *ret) {
    cleanup_free char *text = NULL;
    int r = file_read_at(fd, file, CGROUP_FILE_MAX, &text, NULL, NULL);
    if (r < 0)
        return r;
    size_t len = strlen(key);
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (strncmp(line, key, len) == 0 && line[len] == ' ')
            return parse_u64(line + len + 1, UINT64_MAX, ret);
    return -ENODATA;
}

int cgroup_kill(int fd, struct err *err) {
    return file_write_at(fd, "cgroup.kill", "1", err);
}

int cgroup_freeze(int fd, bool freeze, struct err *err) {
    return file_write_at(fd, "cgroup.freeze", freeze ? "1" : "0", err);
}

/* The groups below a directory, the deepest first. What cannot be removed shows when its parent cannot either. */
static void remove_below(int fd, unsigned depth) {
    int at = depth == CGROUP_DEPTH_MAX ? -1 : openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_dir DIR *dir = at < 0 ? NULL : fdopendir(at);
    if (!dir) {
        fd_close(at);
        return;
    }
    struct dirent *e;
    while ((e = readdir(dir))) {
        if (e->d_type != DT_DIR || e->d_name[0] == '.')
            continue;
        cleanup_fd int sub = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (sub >= 0)
            remove_below(sub, depth + 1);
        (void)unlinkat(fd, e->d_name, AT_REMOVEDIR); /* see above */
    }
}

int cgroup_remove(const char *path, struct err *err) {
    cleanup_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        remove_below(fd, 0);
    if (rmdir(path) < 0 && errno != ENOENT)
        return err_errno(err, errno, "cannot remove cgroup %s", path);
    return 0;
}
