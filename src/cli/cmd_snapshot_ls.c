/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cmd_snapshot.h"

static const struct option_row rows[] = {SNAPSHOT_LS_ROWS};

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)n_args;
    (void)args;
    return snapshot_ls(cli, SNAPSHOT_KIND_SNAPSHOT, values, err);
}

const struct cli_command command_snapshot_ls = {
    .name = "snapshot ls",
    .arguments = "",
    .summary = "lists the snapshots",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct snapshot_ls_options),
    .min_args = 0,
    .max_args = 0,
    .run = run,
};
