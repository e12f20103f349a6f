/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/criu_job.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/criu_cgroups.h"
#include "agent/criu_log.h"
#include "agent/criu_work.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"

#define PROBE ".stasis-probe"
#define INVENTORY "inventory.img"
#define NETWORK_PREFIX "ifaddr-" /* of the image of addresses, one for each network namespace */

/* A crun that takes longer than this is killed; the caller has had its answer long before. */
#define CRIU_TIMEOUT_USEC (UINT64_C(3600) * USEC_PER_SEC)

static const struct {
    const char *name, *log;
} operations[] = {
    [CRIU_DUMP] = {"checkpoint", "dump.log"},
    [CRIU_RESTORE] = {"restore", "restore.log"},
};

static int check_writable(int fd, const char *path, struct err *err) {
    (void)unlinkat(fd, PROBE, 0); /* of an attempt whose machine was stopped */
    int file = FAULT(AGENT_PROBE) ? err_errno(err, errno, "cannot open %s", PROBE)
                                  : path_open_beneath(fd, PROBE, O_WRONLY | O_CREAT | O_EXCL, 0600, err);
    if (file < 0)
        return err_wrap(err, "cannot write to %s", path);
    fd_close(file);
    if (unlinkat(fd, PROBE, 0) < 0)
        return err_errno(err, errno, "cannot write to %s", path);
    return 0;
}

/* Opens SHARE/<id>/checkpoint/<name>. */
static int open_dir(const struct criu_job *j, const char *what, const char *name, char **ret_path, struct err *err) {
    int r = id_validate(what, name, err);
    if (r < 0)
        return r;
    cleanup_free char *below = str_printf("%s/" CRIU_DIR "/%s", j->id, name);
    cleanup_free char *path = below ? path_join(j->agent->share_dir, below) : NULL;
    if (!path)
        return err_set(err, ENOMEM, "out of memory");
    cleanup_fd int share = open(j->agent->share_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (share < 0)
        return err_errno(err, errno, "cannot open %s", j->agent->share_dir);
    int fd = path_open_beneath(share, below, O_RDONLY | O_DIRECTORY, 0, err);
    if (fd < 0)
        return err_wrap(err, "the %s %s, which the host has to make,", what, path);
    *ret_path = TAKE_PTR(path);
    return fd;
}

static int check_images(const struct criu_job *j, int fd, struct err *err) {
    if (j->op == CRIU_DUMP)
        return check_writable(fd, j->image_path, err);
    if (faccessat(fd, INVENTORY, R_OK, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "%s holds no checkpoint: %s", j->image_path, INVENTORY);
    return 0;
}

static int make_argv(struct criu_job *j, const struct criu_options *o, struct err *err) {
    int r = strv_add(&j->argv, operations[j->op].name);
    r |= strv_addf(&j->argv, "--image-path=%s", j->image_path);
    r |= strv_addf(&j->argv, "--work-path=%s", j->agent->criu.work_path);
    r |= criu_options_argv(o, j->op, &j->argv);
    return r ? err_set(err, ENOMEM, "out of memory") : 0;
}

/* Whether the images in directory fd `dir` have what was in a network namespace; those of an external one, or of a dump
 * with empty-ns, have not. */
static bool has_network(int dir) {
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_dir DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *e;
    if (!d)
        fd_close(fd);
    while (d && (e = readdir(d)))
        if (strncmp(e->d_name, NETWORK_PREFIX, strlen(NETWORK_PREFIX)) == 0)
            return true;
    return !d; /* then nothing is to be left out of the restore, which will fail over it */
}

/* CRIU locks the network of connections for the dump, by rules that it finds in the images again at the restore.
 * Without them it only locks once more if it is told that the namespace is empty; else the end that is restored first
 * sends to one that is not there yet, and is reset. Not in the network of a pod, where a restore that fails would leave
 * the lock. */
static void lock_again(int images, struct criu_options *o) {
    static char network[] = "network";
    static char *const list[] = {network};
    if (!o->own_network || !o->tcp_established || o->n_empty_ns || has_network(images))
        return;
    o->empty_ns = list;
    o->n_empty_ns = ARRAY_SIZE(list);
}

/* The library that CRIU is run with is a plugin as well (criu_plugin.c); CRIU looks for those in a directory. */
static void add_plugin(const char *preload, char conf[CRIU_CONF_MAX]) {
    const char *name = preload ? strrchr(preload, '/') : NULL;
    size_t n = strlen(conf);
    if (name)
        snprintf(conf + n, CRIU_CONF_MAX - n, "libdir %.*s\n", (int)(name - preload), preload);
}

int criu_job_init(struct criu_job *j, struct agent *a, const char *id, enum criu_operation op, const char *image_dir,
                  const char *work_dir, const struct criu_options *o, struct err *err) {
    *j = (struct criu_job){.agent = a, .op = op, .work_fd = -1, .output = -1, .status = -1};
    snprintf(j->id, sizeof(j->id), "%s", id);
    /* First the one that takes the account of what follows. */
    j->work_fd = open_dir(j, "work directory", work_dir, &j->work_path, err);
    int r = MIN(j->work_fd, 0);
    if (r == 0)
        r = check_writable(j->work_fd, j->work_path, err);
    if (r < 0)
        return r;
    /* A log that is there afterwards is of this attempt. */
    (void)unlinkat(j->work_fd, operations[op].log, 0);
    cleanup_fd int images = open_dir(j, "image directory", image_dir, &j->image_path, err);
    r = images < 0 ? images : check_images(j, images, err);
    if (r == 0)
        r = criu_options_check(o, op, err);
    if (r == 0)
        r = make_argv(j, o, err);
    if (r < 0)
        return r;
    struct criu_options options = *o;
    if (op == CRIU_RESTORE) {
        lock_again(images, &options);
        /* Other engines' have none, and nothing to compare with. */
        options.check_cpu = faccessat(images, "cpuinfo.img", F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
    }
    criu_options_conf(&options, op, j->turn.conf);
    add_plugin(a->criu.preload, j->turn.conf);
    j->output = memfd_create("criu-output", MFD_CLOEXEC);
    return j->output < 0 ? err_errno(err, errno, "cannot keep what CRIU prints") : 0;
}

int criu_job_begin(struct criu_job *j, struct err *err) {
    int r = criu_write_conf(&j->agent->criu, &j->turn, err);
    if (r == 0)
        r = criu_work_make(j->agent->criu.work_path, err);
    if (r == 0 && j->op == CRIU_RESTORE)
        r = criu_cgroups_make(j->agent->criu.yard_path, j->agent->cgroup_root, err);
    if (r == 0)
        j->began = true;
    return r;
}

void criu_job_collect(const struct criu_job *j) {
    struct err err = ERR_INIT;
    /* What is missing the host misses as well; and what CRIU did is not undone by it. */
    if (j->began && criu_work_collect(j->agent->criu.work_path, j->work_fd, &err) < 0)
        log_warn("container %s: %s", j->id, err.msg);
}

void criu_job_args(const struct criu_job *j, struct crun_request *req) {
    /* All options there are leave room. */
    for (size_t i = 0; i < j->argv.n && i + 1 < CRUN_ARGS_MAX; i++)
        req->args[i] = j->argv.v[i];
    req->id = j->id;
    req->timeout_usec = CRIU_TIMEOUT_USEC;
    req->preload = j->agent->criu.preload;
}

void criu_job_read_mounts(struct criu_job *j, pid_t pid) {
    char path[40];
    free(j->mounts);
    j->mounts = NULL;
    snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)pid);
    (void)file_read_at(AT_FDCWD, path, CRIU_MOUNTS_MAX, &j->mounts, NULL, NULL); /* only for the account */
}

void criu_job_explain(const struct criu_job *j, struct err *err) {
    size_t len = 0;
    /* Where CRIU wrote it: the host's copy may be cut, on a full disk. */
    cleanup_fd int dir = j->began ? open(j->agent->criu.work_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    cleanup_free char *log = criu_log_read(dir >= 0 ? dir : j->work_fd, operations[j->op].log, &len);
    if (log) {
        criu_log_append_errors(log, len, err);
        return;
    }
    err_append(err, "; CRIU did not get as far as to write %s/%s", j->work_path, operations[j->op].log);
    char text[CRIU_LOG_LINE_MAX * 4 + 1], line[CRIU_LOG_LINE_MAX + 1];
    ssize_t n = pread(j->output, text, sizeof(text) - 1, 0);
    text[MAX(n, (ssize_t)0)] = '\0';
    check_last_line(text, line, sizeof(line));
    if (line[0])
        err_append(err, "; it printed: %s", line);
}

static char *command_line(const struct criu_job *j) {
    size_t size = sizeof("crun ") + sizeof(j->id), n = 0;
    for (size_t i = 0; i < j->argv.n; i++)
        size += strlen(j->argv.v[i]) + 1;
    char *text = malloc(size);
    if (!text)
        return NULL;
    n = (size_t)snprintf(text, size, "crun");
    for (size_t i = 0; i < j->argv.n; i++)
        n += (size_t)snprintf(text + n, size - n, " %s", j->argv.v[i]);
    snprintf(text + n, size - n, " %s", j->id);
    return text;
}

void criu_job_report(const struct criu_job *j, const struct err *err) {
    if (j->work_fd < 0)
        return;
    struct err write_err = ERR_INIT;
    cleanup_free char *command = command_line(j);
    const struct criu_attempt attempt = {
        .what = operations[j->op].name,
        .id = j->id,
        .command = command ? command : "crun …",
        .conf = j->turn.conf,
        .check = j->agent->criu_check,
        .mounts = j->mounts,
        .log_name = operations[j->op].log,
        .output = j->output,
        .status = j->status,
        .err = err,
    };
    if (criu_diagnosis_write(j->work_fd, &attempt, &write_err) < 0)
        log_warn("container %s: %s", j->id, write_err.msg);
}

void criu_job_clear(struct criu_job *j) {
    j->work_fd = fd_close(j->work_fd);
    j->output = fd_close(j->output);
    free(j->image_path);
    free(j->work_path);
    free(j->mounts);
    strv_clear(&j->argv);
    if (j->began)
        criu_work_remove(j->agent->criu.work_path);
    /* Last: the next one may begin within. */
    criu_leave(&j->agent->criu, &j->turn);
}
