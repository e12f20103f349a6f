/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/criu_work.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/util.h"

#define CHUNK ((size_t)1 << 20)

static int copy_bytes(int from, int to, uint64_t size) {
    while (size > 0) {
        ssize_t n = sendfile(to, from, NULL, MIN(size, CHUNK));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0; /* it became shorter */
        size -= (uint64_t)n;
    }
    return 0;
}

static int collect_file(int from_dir, int to_dir, const char *name, struct err *err) {
    struct stat st;
    cleanup_fd int from = path_open_beneath(from_dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, err);
    if (from < 0)
        return from;
    if (fstat(from, &st) < 0)
        return err_errno(err, errno, "cannot look at %s", name);
    if (!S_ISREG(st.st_mode))
        return 0;
    /* A new file: whatever the host has of this name is not written through. */
    if (FAULT(AGENT_COLLECT) || (unlinkat(to_dir, name, 0) < 0 && errno != ENOENT))
        return err_errno(err, errno, "cannot replace %s", name);
    cleanup_fd int to = path_open_beneath(to_dir, name, O_WRONLY | O_CREAT | O_EXCL, 0600, err);
    if (to < 0)
        return to;
    int r = copy_bytes(from, to, MIN((uint64_t)st.st_size, CRIU_WORK_FILE_MAX));
    return r < 0 ? err_errno(err, -r, "cannot write %s", name) : 0;
}

int criu_work_make(const char *path, struct err *err) {
    criu_work_remove(path);
    int r =
        FAULT(AGENT_WORK) ? err_errno(err, errno, "cannot create directory %s", path) : path_mkdirs(path, 0700, err);
    return r < 0 ? err_wrap(err, "cannot make CRIU's work directory") : 0;
}

int criu_work_collect(const char *path, int to_dir, struct err *err) {
    cleanup_dir DIR *dir = opendir(path);
    if (!dir)
        return err_errno(err, errno, "cannot read %s", path);
    unsigned n = 0;
    const struct dirent *e;
    while ((e = readdir(dir)) && n < CRIU_WORK_FILES_MAX) {
        if (e->d_type != DT_REG)
            continue;
        n++;
        int r = collect_file(dirfd(dir), to_dir, e->d_name, err);
        if (r < 0)
            return err_wrap(err, "cannot keep what CRIU left in %s", path);
    }
    return 0;
}

void criu_work_remove(const char *path) {
    struct err err = ERR_INIT;
    if (path_remove_tree(AT_FDCWD, path, &err) < 0)
        log_warn("%s", err.msg);
}
