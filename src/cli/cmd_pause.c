/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/lookup.h"
#include "cli/task.h"

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)values;
    (void)n_args;
    cleanup_lookup struct lookup l = LOOKUP_NONE;
    cleanup_session struct session s = {0};
    int r = lookup_running(cli, args[0], &l, err);
    if (r < 0)
        return r;
    const char *status = l.container->status;
    if (strcmp(status, "running") != 0 && strcmp(status, "created") != 0)
        return err_set(err, EBUSY, "container not running");
    r = lookup_connect(cli, &l, &s, err);
    return r < 0 ? r : task_pause(&s, args[0], err);
}

const struct cli_command command_pause = {
    .name = "pause",
    .arguments = "<container-id>",
    .summary = "pause suspends all processes inside the container",
    .description = "The pause command suspends all processes in the instance of the container.",
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
