/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cmd_snapshot.h"

static const struct option_row rows[] = {SNAPSHOT_RM_ROWS};

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    return snapshot_rm(cli, SNAPSHOT_KIND_SNAPSHOT, values, n_args, args, err);
}

const struct cli_command command_snapshot_rm = {
    .name = "snapshot rm",
    .arguments = "<snapshot>... | --all",
    .summary = "removes snapshots that nothing stands on",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct snapshot_rm_options),
    .min_args = 0,
    .max_args = -1,
    .run = run,
};
