/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cmd_snapshot.h"

static const struct cli_command *const commands[] = {
    &command_template_build, &command_template_inspect, &command_template_ls, &command_template_rm, NULL,
};

const struct cli_command command_template = {
    .name = "template",
    .summary = "manages the templates that new sandboxes are copies of",
    .description = "A template is a snapshot of a guest with nothing in it. The first sandbox of its kind makes\n"
                   "it; what is no longer used can be removed.",
    .group = commands,
};
