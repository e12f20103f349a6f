/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/json.h"
#include "cli/lookup.h"
#include "cli/ps_table.h"
#include "cli/task.h"

#define TYPE_DETAILS "stasis.agent.v1.ProcessDetails"

struct options {
    const char *format;
};

static const struct option_row rows[] = {
    OPTION(OPTION_TEXT, struct options, format, "format", 'f', "select one of: table or json (default: \"table\")"),
};

static int print_json(const Containerd__Task__V2__PidsResponse *pids, struct err *err) {
    cleanup_json json_t *all = json_array();
    for (size_t i = 0; i < pids->n_processes; i++)
        if (json_array_append_new(all, json_integer(pids->processes[i]->pid)) < 0)
            return err_set(err, ENOMEM, "out of memory");
    return cli_print_json(all, 0, err);
}

static void free_details(Stasis__Agent__V1__ProcessDetails **details, size_t n) {
    for (size_t i = 0; i < n; i++)
        stasis__agent__v1__process_details__free_unpacked(details[i], NULL);
    free(details);
}

static int print_table(const Containerd__Task__V2__PidsResponse *pids, struct err *err) {
    size_t n = 0;
    Stasis__Agent__V1__ProcessDetails **details =
        calloc(pids->n_processes + 1, sizeof(Stasis__Agent__V1__ProcessDetails *));
    if (!details)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < pids->n_processes; i++) {
        const Containerd__Task__V2__Any *info = pids->processes[i]->info;
        if (info && strcmp(info->type_url, TYPE_DETAILS) == 0 &&
            (details[n] = stasis__agent__v1__process_details__unpack(NULL, info->value.len, info->value.data)))
            n++;
    }
    int r = n == pids->n_processes ? ps_table_print((const Stasis__Agent__V1__ProcessDetails *const *)details, n,
                                                    now_wall_usec(), stdout, err)
                                   : err_set(err, EPROTO, "the daemon's answer has no " TYPE_DETAILS);
    free_details(details, n);
    return r;
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
    if (r == 0)
        r = lookup_connect(cli, &l, &s, err);
    Containerd__Task__V2__PidsResponse *pids = NULL;
    if (r == 0)
        r = task_pids(&s, args[0], &pids, err);
    if (r != 0)
        return r;
    r = json ? print_json(pids, err) : print_table(pids, err);
    protobuf_c_message_free_unpacked(&pids->base, NULL);
    return r;
}

const struct cli_command command_ps = {
    .name = "ps",
    .arguments = "<container-id> [-ef]",
    .summary = "ps displays the processes running inside a container",
    .description = "The process ids are those of the guest the container runs in.",
    .options = {rows, ARRAY_SIZE(rows), .stop_at_first = true},
    .values_size = sizeof(struct options),
    .min_args = 1,
    .max_args = -1,
    .run = run,
};
