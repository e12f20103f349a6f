/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/lookup.h"
#include "cli/task.h"

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)values;
    (void)n_args;
    cleanup_lookup struct lookup l = LOOKUP_NONE;
    cleanup_session struct session s = {0};
    int r = lookup_container(cli, args[0], &l, err);
    if (r < 0)
        return r;
    if (strcmp(l.container->status, "paused") != 0)
        return err_set(err, EBUSY, "container not paused");
    r = lookup_connect(cli, &l, &s, err);
    return r < 0 ? r : task_resume(&s, args[0], err);
}

const struct cli_command command_resume = {
    .name = "resume",
    .arguments = "<container-id>",
    .summary = "resumes all processes that have been previously paused",
    .description = "The resume command resumes all processes in the instance of the container.",
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
