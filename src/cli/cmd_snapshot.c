/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cmd_snapshot.h"

static const struct cli_command *const commands[] = {
    &command_snapshot_clone,   &command_snapshot_create,
    &command_snapshot_export,  &command_snapshot_import,
    &command_snapshot_inspect, &command_snapshot_ls,
    &command_snapshot_restore, &command_snapshot_rm,
    &command_snapshot_verify,  NULL,
};

const struct cli_command command_snapshot = {
    .name = "snapshot",
    .summary = "saves whole sandboxes and brings them back",
    .description = "A snapshot is a sandbox as it was at one moment: its virtual machine with everything that\n"
                   "runs in it, and the root file systems of its containers. It can be restored any number of\n"
                   "times. Snapshots are kept in the directory that \"dir\" in the section [snapshot] of the\n"
                   "configuration names.",
    .group = commands,
};
