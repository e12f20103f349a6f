/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/path.h"
#include "cli/checkpoint_archive.h"
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

struct unpacking {
    const struct options *o;
    struct checkpoint_import *import;
};

static int unpack(void *userdata, struct err *err) {
    struct unpacking *u = userdata;
    return checkpoint_import(u->o->import, u->o->launch.bundle ? u->o->launch.bundle : ".", &u->import, err);
}

static int run_import(const struct options *o, struct checkpoint_import **ret, struct err *err) {
    struct unpacking u = {.o = o};
    cleanup_free char *what = str_printf("unpacking %s", o->import);
    int r = progress_while(what ? what : "unpacking", unpack, &u, err);
    *ret = u.import;
    return r;
}

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)n_args;
    const struct options *o = values;
    struct launch_options launch_options = o->launch;
    struct config config;
    cleanup_checkpoint_import struct checkpoint_import *import = NULL;
    cleanup_free char *images = NULL;
    cleanup_free char *work = NULL;
    cleanup_free char *logs = NULL; /* of our own */
    Stasis__Agent__V1__CriuOptions criu;
    struct criu_flags flags = o->criu;
    if (o->import && flags.image_path)
        return err_set(err, EINVAL, "--import cannot be used with --image-path");
    int r = cli_load_config(cli, &config, err);
    if (r == 0 && o->import)
        r = run_import(o, &import, err);
    if (r < 0)
        return err_wrap(err, "restore failed");
    if (flags.manage_cgroups_mode && strcmp(flags.manage_cgroups_mode, "soft") != 0)
        log_warn("--manage-cgroups-mode is ignored: crun restores with \"soft\"");
    if (import)
        flags.image_path = checkpoint_import_images(import);
    if (!flags.work_path) {
        r = make_logs_dir(&logs, err);
        flags.work_path = logs;
    }
    if (r == 0)
        r = criu_flags_paths(&flags, false, &images, &work, err);
    if (r < 0) {
        drop_logs_dir(logs, true);
        return err_wrap(err, "restore failed");
    }
    criu_flags_message(&flags, &criu);
    struct launch_restore restore = {.images = images, .work = work, .criu = &criu, .print_stats = flags.print_stats};
    launch_options.start = true;
    launch_options.restore = &restore;
    r = launch(cli, &launch_options, args[0], err);
    drop_logs_dir(logs, r < 0);
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
