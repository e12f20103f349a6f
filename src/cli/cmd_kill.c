/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <string.h>

#include "cli/lookup.h"
#include "cli/task.h"

struct options {
    bool all;
};

static const struct option_row rows[] = {
    OPTION(OPTION_FLAG, struct options, all, "all", 'a',
           "send the specified signal to all processes inside the container"),
};

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    const struct options *o = values;
    cleanup_lookup struct lookup l = LOOKUP_NONE;
    cleanup_session struct session s = {0};
    int sig = n_args > 1 ? parse_signal(args[1]) : SIGTERM;
    if (sig < 0)
        return err_set(err, EINVAL, "unknown signal \"%s\"", args[1]);
    int r = lookup_running(cli, args[0], &l, err);
    /* With --all there is nothing left to do, and nothing wrong. */
    if (r == -EBUSY && o->all)
        return 0;
    if (r == 0)
        r = lookup_connect(cli, &l, &s, err);
    if (r == 0)
        r = task_kill(&s, args[0], "", sig, o->all, err);
    return r;
}

const struct cli_command command_kill = {
    .name = "kill",
    .arguments = "<container-id> [signal]",
    .summary = "kill sends the specified signal (default: SIGTERM) to the container's init process",
    .description = "Where \"[signal]\" is the signal's name, with or without SIG, or its number.",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 2,
    .run = run,
};
