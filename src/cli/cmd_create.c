/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/launch.h"

static const struct option_row rows[] = {
    LAUNCH_OPTION_BUNDLE,   LAUNCH_OPTION_CONSOLE_SOCKET, LAUNCH_OPTION_PID_FILE,
    LAUNCH_OPTION_NO_PIVOT, LAUNCH_OPTION_NO_NEW_KEYRING, LAUNCH_OPTION_PRESERVE_FDS,
};

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)n_args;
    return launch(cli, values, args[0], err);
}

const struct cli_command command_create = {
    .name = "create",
    .arguments = "<container-id>",
    .summary = "create a container",
    .description = "The create command creates an instance of a container for a bundle; the start\n"
                   "command then runs its process.\n" LAUNCH_DESCRIPTION,
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct launch_options),
    .min_args = 1,
    .max_args = 1,
    .runs_process = true,
    .run = run,
};
