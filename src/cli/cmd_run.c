/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/launch.h"

static const struct option_row rows[] = {
    LAUNCH_OPTION_BUNDLE,
    LAUNCH_OPTION_CONSOLE_SOCKET,
    LAUNCH_OPTION(OPTION_FLAG, detach, "detach", 'd', "detach from the container's process"),
    LAUNCH_OPTION(OPTION_FLAG, keep, "keep", 0, "do not delete the container after it exits"),
    LAUNCH_OPTION_PID_FILE,
    LAUNCH_OPTION(OPTION_FLAG, no_subreaper, "no-subreaper", 0, "accepted and ignored: nothing is reparented to us"),
    LAUNCH_OPTION_NO_PIVOT,
    LAUNCH_OPTION_NO_NEW_KEYRING,
    LAUNCH_OPTION_PRESERVE_FDS,
};

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)n_args;
    struct launch_options o = *(const struct launch_options *)values;
    o.start = true;
    return launch(cli, &o, args[0], err);
}

const struct cli_command command_run = {
    .name = "run",
    .arguments = "<container-id>",
    .summary = "create and run a container",
    .description = "The run command creates an instance of a container for a bundle and starts it.\n" LAUNCH_DESCRIPTION
                   "\n\nIn the foreground it ends with the exit code of the container's process (128 plus the\n"
                   "signal if one killed it), 127 if the command was not found, 126 if it could not be\n"
                   "executed, and 1 for every other failure.",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct launch_options),
    .min_args = 1,
    .max_args = 1,
    .runs_process = true,
    .run = run,
};
