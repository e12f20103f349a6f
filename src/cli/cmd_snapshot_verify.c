/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "cli/cmd_snapshot.h"

struct options {
    bool quiet;
};

static const struct option_row rows[] = {
    OPTION(OPTION_FLAG, struct options, quiet, "quiet", 'q', "print nothing if all is well"),
};

static int verify_one(const struct config *config, const char *name, bool quiet, struct err *err) {
    cleanup_snapshot struct snapshot s = SNAPSHOT_NONE;
    int r = snapshot_open(SNAPSHOT_KIND_SNAPSHOT, config->snapshot_dir, name, &s, err);
    if (r == 0)
        r = snapshot_verify(&s, name, err);
    if (r < 0)
        return r;
    if (!quiet)
        printf("%s: as it was saved\n", name);
    return 0;
}

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    const struct options *o = values;
    struct config config;
    int r = cli_load_config(cli, &config, err), failed = 0;
    for (int i = 0; r == 0 && i < n_args; i++) {
        struct err e = ERR_INIT;
        if (verify_one(&config, args[i], o->quiet, &e) < 0) {
            cli_report(cli, &e);
            failed = 1;
        }
    }
    return r < 0 ? r : failed;
}

const struct cli_command command_snapshot_verify = {
    .name = "snapshot verify",
    .arguments = "<snapshot>...",
    .summary = "compares all of a snapshot with its digests",
    .description = "Reads memory, device state and roots. What differs is named, and the exit code is 1.",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct options),
    .min_args = 1,
    .max_args = -1,
    .run = run,
};
