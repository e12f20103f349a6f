/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/path.h"
#include "cli/checkpoint_import.h"
#include "cli/criu_flags.h"
#include "cli/launch.h"
#include "cli/progress.h"

struct options {
    struct launch_options launch;
    struct criu_flags criu;
    const char *import;
};

static const struct option_row rows[] = {
    CRIU_ROWS(struct options),
    OPTION(OPTION_TEXT, struct options, launch.bundle, "bundle", 'b',
           "path to the root of the bundle directory, defaults to the current directory"),
    OPTION(OPTION_TEXT, struct options, launch.console_socket, "console-socket", 0,
           "path to an AF_UNIX socket which will receive a file descriptor referencing the master end of the console's "
           "pseudoterminal"),
    OPTION(OPTION_FLAG, struct options, launch.detach, "detach", 'd', "detach from the container's process"),
    OPTION(OPTION_FLAG, struct options, launch.keep, "keep", 0, "do not delete the container after it exits"),
    OPTION(OPTION_TEXT, struct options, launch.pid_file, "pid-file", 0, "specify the file to write the process id to"),
    OPTION(OPTION_FLAG, struct options, launch.no_subreaper, "no-subreaper", 0,
           "accepted and ignored: nothing is reparented to us"),
    OPTION(OPTION_FLAG, struct options, launch.no_pivot, "no-pivot", 0,
           "accepted and ignored: the guest's root is not a ramdisk"),
    CRIU_ROW(OPTION_TEXT, struct options, lsm_mount_context, "lsm-mount-context",
             "accepted and ignored: the guest has no security modules"),
    OPTION(OPTION_TEXT, struct options, import, "import", 'i', "restore from an archive (checkpoint --export, Podman)"),
};

/* CRIU's logs, when nobody said where to: the sandbox's directory does not outlive a restore that fails. */
static int make_logs_dir(char **ret, struct err *err) {
    const char *tmp = getenv("TMPDIR");
    cleanup_free char *dir = str_printf("%s/stasis-restore.XXXXXX", tmp && *tmp == '/' ? tmp : "/var/tmp");
    if (!dir)
        return err_set(err, ENOMEM, "out of memory");
    if (!mkdtemp(dir))
        return err_errno(err, errno, "cannot make a directory for CRIU's logs (%s)", dir);
    *ret = TAKE_PTR(dir);
    return 0;
}

/* They stay, when there are any, for an error that names them. */
static void drop_logs_dir(const char *dir, bool failed) {
    struct err err = ERR_INIT;
    if (!dir || (failed && rmdir(dir) < 0 && errno == ENOTEMPTY))
        return;
    if (path_remove_tree(AT_FDCWD, dir, &err) < 0)
        log_warn("%s", err.msg);
}

/* One restore on its way. */
struct job {
    struct cli *cli;
    const struct options *o;
    struct criu_flags flags;
    char *images, *work; /* absolute; owned */
    char *logs;          /* of our own; owned; NULL: the caller said where to */
    struct launch_restore restore;
    struct checkpoint_import *import; /* NULL: none, or not yet */
    const char *bundle, *rootfs;      /* while it is opened */
};

static int find_paths(struct job *j, struct err *err) {
    int r = 0;
    if (!j->flags.work_path) {
        r = make_logs_dir(&j->logs, err);
        j->flags.work_path = j->logs;
    }
    if (r == 0)
        r = criu_flags_paths(&j->flags, false, &j->images, &j->work, err);
    j->restore.images = j->images;
    j->restore.work = j->work;
    return r;
}

static int unpack(void *userdata, struct err *err) {
    struct job *j = userdata;
    return checkpoint_import_open(j->cli, j->o->import, j->bundle, j->rootfs, &j->import, err);
}

static int prepare_import(void *userdata, const char *bundle, const char *rootfs, struct err *err) {
    struct job *j = userdata;
    cleanup_free char *what = str_printf("unpacking %s", j->o->import);
    j->bundle = bundle;
    j->rootfs = rootfs;
    int r = progress_while(what ? what : "unpacking", unpack, j, err);
    if (r < 0)
        return r;
    j->flags.image_path = checkpoint_import_images(j->import);
    return find_paths(j, err);
}

static int apply(void *userdata, struct err *err) {
    struct job *j = userdata;
    return checkpoint_import_apply(j->import, err);
}

static int apply_import(void *userdata, struct err *err) {
    return progress_while("changing the root file system", apply, userdata, err);
}

static void keep_import(void *userdata) {
    checkpoint_import_keep(((struct job *)userdata)->import);
}

static int undo_import(void *userdata, struct err *err) {
    return checkpoint_import_undo(((struct job *)userdata)->import, err);
}

static int run_job(struct job *j, const char *id, struct err *err) {
    struct launch_options launch_options = j->o->launch;
    Stasis__Agent__V1__CriuOptions criu;
    const struct launch_import import = {
        .prepare = prepare_import, .apply = apply_import, .keep = keep_import, .undo = undo_import, .userdata = j};
    int r = j->o->import ? 0 : find_paths(j, err);
    if (r < 0)
        return err_wrap(err, "restore failed");
    criu_flags_message(&j->flags, &criu);
    j->restore.criu = &criu;
    j->restore.print_stats = j->flags.print_stats;
    j->restore.import = j->o->import ? &import : NULL;
    launch_options.start = true;
    launch_options.restore = &j->restore;
    return launch(j->cli, &launch_options, id, err);
}

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)n_args;
    struct job j = {.cli = cli, .o = values};
    j.flags = j.o->criu;
    if (j.o->import && j.flags.image_path)
        return err_set(err, EINVAL, "--import cannot be used with --image-path");
    int r = run_job(&j, args[0], err);
    drop_logs_dir(j.logs, r < 0);
    checkpoint_import_free(j.import);
    free(j.images);
    free(j.work);
    free(j.logs);
    return r;
}

const struct cli_command command_restore = {
    .name = "restore",
    .arguments = "<container-id>",
    .summary = "restore a container from a previous checkpoint",
    .description = "The restore command makes a container of a checkpoint, in a virtual machine of its own.\n"
                   "Its configuration is the bundle's; its processes go on where the checkpoint was made.\n"
                   "In the foreground it ends as run does.",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
