/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/attend.h"
#include "cli/detach_keys.h"

struct options {
    struct attend_options attend;
};

static const struct option_row rows[] = {
    OPTION(OPTION_TEXT, struct options, attend.exec_id, "exec", 0,
           "a process of exec, by its PID in `stasis ps` or its id"),
    OPTION(OPTION_TEXT, struct options, attend.detach_keys, "detach-keys", 0,
           "keys that leave it running, \"\" for none (default: \"" DETACH_KEYS_DEFAULT "\")"),
    OPTION(OPTION_FLAG, struct options, attend.no_stdin, "no-stdin", 0, "do not connect stdin"),
    {.name = "sig-proxy",
     .kind = OPTION_FLAG,
     .offset = offsetof(struct options, attend.no_sig_proxy),
     .help = "pass signals on to the process (default: true)",
     .inverted = true},
};

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)n_args;
    bool detached;
    int r = attend(cli, args[0], &((const struct options *)values)->attend, &detached, err);
    return r < 0 ? err_wrap(err, "attach failed") : r;
}

const struct cli_command command_attach = {
    .name = "attach",
    .arguments = "<container-id>",
    .summary = "connects to the streams of a running container",
    .description = "Connects stdin, stdout and stderr to a process that has nothing connected to them, such as\n"
                   "one of a restored snapshot, and ends with its exit code. What it has written meanwhile\n"
                   "comes first. A terminal is raw; the detach keys leave the process running.",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
