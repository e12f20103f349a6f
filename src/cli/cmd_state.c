/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"
#include "cli/lookup.h"

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)values;
    (void)n_args;
    cleanup_lookup struct lookup l = LOOKUP_NONE;
    int r = lookup_container(cli, args[0], &l, err);
    if (r < 0)
        return r;
    cleanup_json json_t *state = oci_container_state_json(l.container);
    return cli_print_json(state, 2, err);
}

const struct cli_command command_state = {
    .name = "state",
    .arguments = "<container-id>",
    .summary = "output the state of a container",
    .description = "The state command outputs current state information for the\ninstance of a container.",
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
