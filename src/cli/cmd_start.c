/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/json.h"
#include "cli/lookup.h"
#include "cli/task.h"
#include "oci/spec.h"

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)values;
    (void)n_args;
    cleanup_lookup struct lookup l = LOOKUP_NONE;
    cleanup_session struct session s = {0};
    int r = lookup_container(cli, args[0], &l, err);
    if (r < 0)
        return r;
    const char *status = l.container->status;
    if (strcmp(status, "stopped") == 0)
        return err_set(err, EBUSY, "cannot start a container that has stopped");
    if (strcmp(status, "running") == 0)
        return err_set(err, EBUSY, "cannot start an already running container");
    if (strcmp(status, "created") != 0)
        return err_set(err, EBUSY, "cannot start a container in the %s state", status);
    /* Since the creation an engine may have made a network. */
    cleanup_json json_t *spec = NULL;
    struct config config;
    r = cli_load_config(cli, &config, err);
    if (r == 0)
        r = oci_spec_load(l.container->bundle, &spec, err);
    if (r == 0)
        r = cli_check_network(&config, spec, l.container->pid, err);
    if (r == 0)
        r = lookup_connect(cli, &l, &s, err);
    if (r == 0)
        r = task_start(&s, args[0], "", 0, err);
    return r;
}

const struct cli_command command_start = {
    .name = "start",
    .arguments = "<container-id>",
    .summary = "executes the user defined process in a created container",
    .description = "The start command executes the user defined process in a created container.",
    .min_args = 1,
    .max_args = 1,
    .runs_process = true,
    .run = run,
};
