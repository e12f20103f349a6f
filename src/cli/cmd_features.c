/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"
#include "cli/cli.h"
#include "oci/spec.h"

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)cli;
    (void)values;
    (void)n_args;
    (void)args;
    cleanup_json json_t *features = oci_features();
    return cli_print_json(features, 4, err);
}

const struct cli_command command_features = {
    .name = "features",
    .arguments = "",
    .summary = "show the enabled features",
    .description = "Shows what of the OCI runtime specification is honoured, as JSON\n(runtime-spec, features.md).",
    .max_args = 0,
    .run = run,
};
