/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies, many at a time. Each is made by a process of its own, so that they do not fall together; this one waits for
 * them and passes signals on.
 */
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/proc.h"
#include "cli/cmd_snapshot.h"
#include "cli/signals.h"
#include "cli/snapshot_restore.h"

#define CLONES_MAX 1024
#define AT_ONCE_MIN 16
#define AT_ONCE_PER_CPU 4

struct options {
    const char *id, *prefix;
    uint64_t n;
    struct strv mounts;
    bool force;
};

static const struct option_row rows[] = {
    OPTION(OPTION_UINT, struct options, n, "number", 'n', "how many (default: 1)"),
    OPTION(OPTION_TEXT, struct options, id, "id", 0, "the id of a single one"),
    OPTION(OPTION_TEXT, struct options, prefix, "prefix", 0,
           "their ids are PREFIX-1, PREFIX-2, … (default: the snapshot's name)"),
    OPTION(OPTION_LIST, struct options, mounts, "allow-mount", 0, "as with restore"),
    OPTION(OPTION_FLAG, struct options, force, "force", 0, "as with restore"),
};

struct clone {
    char *id;  /* owned */
    pid_t pid; /* that makes it; 0: it has ended */
};

static void __attribute__((noreturn)) make(struct cli *cli, const struct snapshot_restore *o) {
    struct restored restored = {0};
    struct err err = ERR_INIT;
    int r = snapshot_restore(cli, o, &restored, &err);
    if (r < 0) {
        err_wrap(&err, "%s", o->id);
        cli_report(cli, &err);
        _exit(1);
    }
    /* In one piece: others print as well. */
    cleanup_free char *line = str_printf("%s\n", restored.id);
    _exit(!line || fd_write_all(STDOUT_FILENO, line, strlen(line)) < 0);
}

static int start(struct cli *cli, const struct options *o, const char *name, struct clone *c, struct err *err) {
    const struct snapshot_restore restore = {
        .name = name, .id = c->id, .identity = RESTORE_IDENTITY_NEW, .force = o->force, .mounts = &o->mounts};
    pid_t parent = getpid();
    fflush(stdout);
    c->pid = fork();
    if (c->pid < 0) {
        c->pid = 0;
        return err_errno(err, errno, "%s: cannot start a process", c->id);
    }
    if (c->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM); /* a signal that it cleans up after */
        if (getppid() != parent)
            _exit(1);
        make(cli, &restore);
    }
    return 0;
}

/* Returns how many of them failed. */
static unsigned reap(struct cli *cli, struct clone *clones, size_t n, size_t *running) {
    unsigned failed = 0;
    for (size_t i = 0; i < n; i++) {
        int status;
        if (clones[i].pid <= 0 || waitpid(clones[i].pid, &status, WNOHANG) != clones[i].pid)
            continue;
        clones[i].pid = 0;
        (*running)--;
        failed += status != 0;
        if (WIFSIGNALED(status)) {
            struct err e = ERR_INIT;
            err_set(&e, EIO, "%s: the process that made it was killed by SIG%s", clones[i].id,
                    sigabbrev_np(WTERMSIG(status)));
            cli_report(cli, &e);
        }
    }
    return failed;
}

/* Each has deadlines, which it would not meet with all the others beside it. */
static size_t at_once(void) {
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    return (size_t)MAX(AT_ONCE_MIN, AT_ONCE_PER_CPU * cpus);
}

/* Makes them all; one that cannot even be begun, or a signal, is the end of beginning. Returns how many there are not.
 */
static unsigned make_all(struct cli *cli, const struct options *o, const char *name, struct clone *clones, size_t n,
                         struct err *err) {
    size_t begun = 0, running = 0, most = at_once();
    unsigned failed = 0;
    bool ending = false;
    sigset_t all;
    sigfillset(&all);
    for (;;) {
        while (!ending && begun < n && running < most) {
            ending = start(cli, o, name, &clones[begun], err) < 0;
            begun += !ending;
            running += !ending;
        }
        failed += reap(cli, clones, n, &running);
        if (running == 0 && (ending || begun == n))
            return failed + (unsigned)(n - begun);
        if (running < most && begun < n && !ending)
            continue;
        int sig = sigwaitinfo(&all, NULL);
        if (sig <= 0 || !signals_is_end(sig))
            continue;
        ending = true;
        for (size_t i = 0; i < n; i++)
            if (clones[i].pid > 0)
                kill(clones[i].pid, sig);
    }
}

static int name_them(const struct options *o, const char *name, struct clone *clones, size_t n, struct err *err) {
    const char *prefix = o->prefix ? o->prefix : name;
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++) {
        clones[i].id = o->id ? strdup(o->id) : str_printf("%s-%zu", prefix, i + 1);
        r = clones[i].id ? id_validate("container id", clones[i].id, err) : err_set(err, ENOMEM, "out of memory");
    }
    return r;
}

/* What would fail for all is said once. */
static int check(const struct cli *cli, const struct options *o, const char *name, struct err *err) {
    cleanup_snapshot struct snapshot s = SNAPSHOT_NONE;
    struct config config;
    if (o->id && (o->n > 1 || o->prefix))
        return err_set(err, EINVAL, "--id is for a single clone, without --prefix");
    if (o->n > CLONES_MAX)
        return err_set(err, EINVAL, "-n %llu: more than %d", (unsigned long long)o->n, CLONES_MAX);
    int r = cli_load_config(cli, &config, err);
    return r < 0 ? r : snapshot_open(SNAPSHOT_KIND_SNAPSHOT, config.snapshot_dir, name, &s, err);
}

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)n_args;
    const struct options *o = values;
    size_t n = o->n ? (size_t)o->n : 1;
    unsigned failed = 0;
    int r = check(cli, o, args[0], err);
    struct clone *clones = r == 0 ? calloc(n, sizeof(*clones)) : NULL;
    if (r == 0)
        r = clones ? name_them(o, args[0], clones, n, err) : err_set(err, ENOMEM, "out of memory");
    if (r == 0) {
        sigset_t child;
        struct err begin = ERR_INIT;
        signals_block();
        sigemptyset(&child);
        sigaddset(&child, SIGCHLD);
        sigprocmask(SIG_BLOCK, &child, NULL);
        failed = make_all(cli, o, args[0], clones, n, &begin);
        if (begin.code)
            r = err_copy(err, &begin);
    }
    for (size_t i = 0; clones && i < n; i++)
        free(clones[i].id);
    free(clones);
    if (r == 0 && failed)
        r = err_set(err, EIO, "%u of %zu clones of %s could not be made; the others run", failed, n, args[0]);
    return r;
}

const struct cli_command command_snapshot_clone = {
    .name = "snapshot clone",
    .arguments = "<snapshot>",
    .summary = "makes copies of a snapshot",
    .description = "Each is a sandbox with an identity of its own: host name, addresses, machine id, random\n"
                   "numbers. Their ids are printed as they are ready. When one fails the others stay, and the\n"
                   "exit code is 1.",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
