/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/json.h"
#include "base/util.h"
#include "cli/lookup.h"
#include "cli/ps_table.h"
#include "cli/task.h"

struct options {
    const char *format;
};

static const struct option_row rows[] = {
    OPTION(OPTION_TEXT, struct options, format, "format", 'f', "select one of: table or json (default: \"table\")"),
};

/* For programs, which look these pids up on the host: there is the monitor's alone. */
static int print_json(pid_t pid, struct err *err) {
    cleanup_json json_t *all = pid > 0 ? json_pack("[i]", (int)pid) : json_array();
    return all ? cli_print_json(all, 0, err) : err_set(err, ENOMEM, "out of memory");
}

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    const struct options *o = values;
    const char *format = o->format ? o->format : "table";
    bool json = strcmp(format, "json") == 0;
    cleanup_lookup struct lookup l = LOOKUP_NONE;
    cleanup_session struct session s = {0};
    if (!json && strcmp(format, "table") != 0)
        return err_set(err, EINVAL, "invalid format option");
    if (n_args > 2 || (n_args == 2 && strcmp(args[1], "-ef") != 0))
        return err_set(err, EOPNOTSUPP,
                       "ps options other than -ef are not supported: the processes are in the guest, not on this host");
    int r = lookup_running(cli, args[0], &l, err);
    if (r == 0 && json)
        return print_json(l.container->pid, err);
    if (r == 0)
        r = lookup_connect(cli, &l, &s, err);
    Stasis__Agent__V1__ProcessesResponse *pids = NULL;
    if (r == 0)
        r = task_processes(&s, args[0], &pids, err);
    if (r != 0)
        return r;
    r = ps_table_print((const Stasis__Agent__V1__ProcessDetails *const *)pids->processes, pids->n_processes,
                       now_wall_usec(), stdout, err);
    protobuf_c_message_free_unpacked(&pids->base, NULL);
    return r;
}

const struct cli_command command_ps = {
    .name = "ps",
    .arguments = "<container-id> [-ef]",
    .summary = "ps displays the processes running inside a container",
    .description = "The table has the processes of the guest that the container runs in, with their ids there.\n"
                   "--format json gives the ids of its processes on this host: its monitor's alone.",
    .options = {rows, ARRAY_SIZE(rows), .stop_at_first = true},
    .values_size = sizeof(struct options),
    .min_args = 1,
    .max_args = -1,
    .run = run,
};
