/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the groups `snapshot` and `template`, and what those of both share. */
#pragma once

#include <stdbool.h>

#include "cli/cli.h"
#include "cli/snapshot_open.h"

extern const struct cli_command command_snapshot_clone, command_snapshot_create, command_snapshot_export,
    command_snapshot_import, command_snapshot_inspect, command_snapshot_ls, command_snapshot_restore,
    command_snapshot_rm, command_snapshot_verify;
extern const struct cli_command command_template_build, command_template_inspect, command_template_ls,
    command_template_rm;

/* `ls`: options and what they do. */
struct snapshot_ls_options {
    const char *format;
    bool json, quiet;
};
#define SNAPSHOT_LS_ROWS                                                                                               \
    OPTION(OPTION_TEXT, struct snapshot_ls_options, format, "format", 'f', "table or json (default: \"table\")"),      \
        OPTION(OPTION_FLAG, struct snapshot_ls_options, json, "json", 0, "as --format json"),                          \
        OPTION(OPTION_FLAG, struct snapshot_ls_options, quiet, "quiet", 'q', "names only")
int snapshot_ls(const struct cli *cli, enum snapshot_kind kind, const struct snapshot_ls_options *o, struct err *err);

/* `rm` */
struct snapshot_rm_options {
    bool all, force;
};
#define SNAPSHOT_RM_ROWS                                                                                               \
    OPTION(OPTION_FLAG, struct snapshot_rm_options, all, "all", 'a', "all of them"),                                   \
        OPTION(OPTION_FLAG, struct snapshot_rm_options, force, "force", 'f', "one that is not there is no error")
int snapshot_rm(const struct cli *cli, enum snapshot_kind kind, const struct snapshot_rm_options *o, int n,
                char *const *names, struct err *err);

/* `inspect` */
struct snapshot_inspect_options {
    const char *format;
    bool json;
};
#define SNAPSHOT_INSPECT_ROWS                                                                                          \
    OPTION(OPTION_TEXT, struct snapshot_inspect_options, format, "format", 'f', "text or json (default: \"text\")"),   \
        OPTION(OPTION_FLAG, struct snapshot_inspect_options, json, "json", 0, "as --format json")
int snapshot_inspect(const struct cli *cli, enum snapshot_kind kind, const struct snapshot_inspect_options *o,
                     const char *name, struct err *err);
