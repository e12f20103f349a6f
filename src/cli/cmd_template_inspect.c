/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cmd_snapshot.h"

static const struct option_row rows[] = {SNAPSHOT_INSPECT_ROWS};

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)n_args;
    return snapshot_inspect(cli, SNAPSHOT_KIND_TEMPLATE, values, args[0], err);
}

const struct cli_command command_template_inspect = {
    .name = "template inspect",
    .arguments = "<template>",
    .summary = "shows what a template was made of and holds",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct snapshot_inspect_options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
