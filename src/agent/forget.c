/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/forget.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/caches.h"
#include "agent/job.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/util.h"

#define TIMEOUT_USEC (30 * USEC_PER_SEC)

struct forgetting {
    struct agent *agent;
    struct strv paths;
    agent_done_fn fn;
    void *userdata;
};

int forget_path(int share_fd, const char *path, struct err *err) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    cleanup_free char *parent = slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
    if (!parent)
        return err_set(err, ENOMEM, "out of memory");
    cleanup_fd int dir = path_open_beneath(share_fd, parent, O_PATH | O_DIRECTORY, 0, err);
    if (dir < 0)
        return dir == -ENOENT ? 0 : dir;
    /* Whoever wants to make a name anew has the kernel ask the server whether what it remembers is still there, however
     * fresh; what is not it lets go of, with all that is below and mounted there. The share's top cannot be written to,
     * so nothing is made. */
    if (mkdirat(dir, name, 0700) == 0)
        return unlinkat(dir, name, AT_REMOVEDIR) < 0 ? err_errno(err, errno, "cannot remove %s", path) : 0;
    return errno == EEXIST ? err_errno(err, errno, "cannot forget %s of the share", path) : 0;
}

static int run(void *arg) {
    const struct forgetting *f = arg;
    struct err err = ERR_INIT;
    cleanup_fd int share = open(f->agent->share_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int failures = share < 0;
    for (size_t i = 0; share >= 0 && i < f->paths.n; i++)
        if (forget_path(share, f->paths.v[i], &err) < 0) {
            log_warn("%s", err.msg);
            failures++;
        }
    if (caches_tell_host(f->agent->share_dir, &err) < 0) {
        log_warn("%s", err.msg);
        failures++;
    }
    return failures != 0;
}

static void free_forgetting(struct forgetting *f) {
    strv_clear(&f->paths);
    free(f);
}

static void on_done(void *userdata, int status) {
    struct forgetting *f = userdata;
    struct err err = ERR_INIT;
    if (status != 0)
        err_set(&err, status == -ETIMEDOUT ? ETIMEDOUT : EIO, "the guest keeps what it knows of %s in the share",
                f->paths.n == 1 ? f->paths.v[0] : "removed directories");
    f->fn(f->userdata, status ? &err : NULL);
    free_forgetting(f);
}

/* No component but names. */
static bool is_path(const char *path) {
    cleanup_free char *absolute = str_printf("/%s", path);
    return absolute && *path && path_is_normal(absolute);
}

int forget_paths(struct agent *a, char *const *paths, size_t n, agent_done_fn fn, void *userdata, struct err *err) {
    if (n > FORGET_PATHS_MAX)
        return err_set(err, E2BIG, "more than %d paths to forget", FORGET_PATHS_MAX);
    struct forgetting *f = calloc(1, sizeof(*f));
    if (!f)
        return err_set(err, ENOMEM, "out of memory");
    *f = (struct forgetting){.agent = a, .fn = fn, .userdata = userdata};
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++)
        r = !is_path(paths[i])                  ? err_set(err, EINVAL, "\"%.200s\" is no path of the share", paths[i])
            : strv_add(&f->paths, paths[i]) < 0 ? err_set(err, ENOMEM, "out of memory")
                                                : 0;
    if (r == 0)
        r = job_fork(a->event, a->children, run, f, TIMEOUT_USEC, on_done, f, NULL, err);
    if (r < 0)
        free_forgetting(f);
    return r;
}
