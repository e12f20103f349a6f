/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/delete.h"

struct options {
    bool force;
};

static const struct option_row rows[] = {
    OPTION(OPTION_FLAG, struct options, force, "force", 'f',
           "Forcibly deletes the container if it is still running (uses SIGKILL)"),
};

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)n_args;
    return delete_container(cli, args[0], ((const struct options *)values)->force, err);
}

const struct cli_command command_delete = {
    .name = "delete",
    .arguments = "<container-id>",
    .summary = "delete any resources held by the container often used with detached container",
    .description = "The delete command removes a stopped container and its virtual machine; with --force\n"
                   "one in any state, and it is no error then if there is none.",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
