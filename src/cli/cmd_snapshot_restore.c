/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "cli/attend.h"
#include "cli/cmd_snapshot.h"
#include "cli/delete.h"
#include "cli/detach_keys.h"
#include "cli/size_text.h"
#include "cli/snapshot_restore.h"

struct options {
    const char *id, *log, *identity, *pid_file;
    struct attend_options attend;
    struct strv mounts;
    bool replace, force, attach, keep, quiet;
};

static const struct option_row rows[] = {
    OPTION(OPTION_TEXT, struct options, id, "id", 0, "the sandbox's id (default: the one it had)"),
    OPTION(OPTION_FLAG, struct options, replace, "replace", 0,
           "delete the sandbox that has the id first, also a running one: it is rewound"),
    OPTION(
        OPTION_FLAG, struct options, force, "force", 0,
        "also when files that are in use are gone from a volume, or were replaced: those give errors, or are others"),
    OPTION(OPTION_TEXT, struct options, identity, "identity", 0,
           "keep or new: host name, addresses, machine id (default: keep if it takes the place of the original, which "
           "was saved on this host)"),
    OPTION(OPTION_LIST, struct options, mounts, "allow-mount", 0,
           "SOURCE: may be mounted although the snapshot was imported; SOURCE=PATH: mounts PATH in its place"),
    OPTION(OPTION_FLAG, struct options, attach, "attach", 'a', "stay in the foreground, as run does"),
    OPTION(OPTION_FLAG, struct options, keep, "keep", 0, "with --attach: do not delete it when it has ended"),
    OPTION(OPTION_TEXT, struct options, attend.detach_keys, "detach-keys", 0,
           "with --attach: keys that leave it running (default: \"" DETACH_KEYS_DEFAULT "\")"),
    OPTION(OPTION_TEXT, struct options, log, "log", 'l', "append its stdout and stderr to this file"),
    OPTION(OPTION_TEXT, struct options, pid_file, "pid-file", 0, "specify the file to write the process id to"),
    OPTION(OPTION_FLAG, struct options, quiet, "quiet", 'q', "print the id only"),
};

static int check(const struct options *o, struct snapshot_restore *restore, struct err *err) {
    if (o->attach && o->log)
        return err_set(err, EINVAL, "--attach cannot be used with --log");
    if (!o->attach && (o->keep || o->attend.detach_keys))
        return err_set(err, EINVAL, "--%s is for --attach", o->keep ? "keep" : "detach-keys");
    if (o->identity && strcmp(o->identity, "new") == 0)
        restore->identity = RESTORE_IDENTITY_NEW;
    else if (o->identity && strcmp(o->identity, "keep") == 0)
        restore->identity = RESTORE_IDENTITY_KEEP;
    else if (o->identity)
        return err_set(err, EINVAL, "--identity %s: must be keep or new", o->identity);
    return attend_check(&o->attend, err);
}

/* Before anything is replaced: that the log can be written. */
static int check_log(const char *path, struct err *err) {
    cleanup_fd int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    return fd < 0 ? err_errno(err, errno, "cannot open the log %s", path) : 0;
}

static int stay(const struct cli *cli, const struct options *o, const char *id, struct err *err) {
    bool detached = false;
    struct err problem = ERR_INIT;
    int r = attend(cli, id, &o->attend, &detached, err);
    if (r >= 0 && !detached && !o->keep && delete_container(cli, id, true, &problem) < 0)
        log_warn("cannot delete container %s: %s", id, problem.msg);
    return r < 0 ? err_wrap(err, "%s runs, but", id) : r;
}

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)n_args;
    const struct options *o = values;
    struct snapshot_restore restore = {.name = args[0],
                                       .id = o->id,
                                       .replace = o->replace,
                                       .force = o->force,
                                       .mounts = &o->mounts,
                                       .pid_file = o->pid_file};
    struct restored restored = {0};
    char took[SIZE_TEXT_MAX];
    int r = check(o, &restore, err);
    if (r == 0 && o->log)
        r = check_log(o->log, err);
    if (r == 0)
        r = snapshot_restore(cli, &restore, &restored, err);
    if (r == 0 && o->log) {
        r = attend_log(cli, restored.id, o->log, err);
        if (r < 0)
            err_wrap(err, "%s runs, but", restored.id);
    }
    if (r == 0 && o->attach)
        r = stay(cli, o, restored.id, err);
    else if (r == 0 && o->quiet)
        printf("%s\n", restored.id);
    else if (r == 0)
        printf("%s: restored in %s\n", restored.id, time_text(restored.usec, took));
    free(restored.id);
    return r;
}

const struct cli_command command_snapshot_restore = {
    .name = "snapshot restore",
    .arguments = "<snapshot>",
    .summary = "makes a sandbox of a snapshot",
    .description = "The sandbox goes on where it was saved. Under its old id it is the original, rewound; under\n"
                   "another one a copy with an identity of its own. It runs in the background, and what it\n"
                   "writes waits in the guest until somebody attaches, unless --attach or --log is given.",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
