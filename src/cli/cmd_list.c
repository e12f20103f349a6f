/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/json.h"
#include "cli/lookup.h"
#include "cli/table.h"

struct options {
    const char *format;
    bool quiet;
};

static const struct option_row rows[] = {
    OPTION(OPTION_TEXT, struct options, format, "format", 'f', "select one of: table or json (default: \"table\")"),
    OPTION(OPTION_FLAG, struct options, quiet, "quiet", 'q', "display only container IDs"),
};

static int print_id(const struct oci_container_state *c, void *userdata) {
    (void)userdata;
    printf("%s\n", c->id);
    return 0;
}

static int add_row(const struct oci_container_state *c, void *userdata) {
    char pid[16], created[40], owner[64];
    snprintf(pid, sizeof(pid), "%d", (int)c->pid);
    const char *const cells[] = {c->id,
                                 pid,
                                 c->status,
                                 c->bundle,
                                 format_rfc3339(c->created_wall_usec, created, sizeof(created)),
                                 oci_owner_name(c->owner, owner)};
    return table_add(userdata, cells, NULL);
}

static int add_json(const struct oci_container_state *c, void *userdata) {
    return json_array_append_new(userdata, oci_container_state_json(c)) < 0 ? -ENOMEM : 0;
}

static int list_table(const struct cli *cli, struct err *err) {
    static const char *const head[] = {"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"};
    cleanup_table struct table t = {.columns = ARRAY_SIZE(head), .min_width = 12, .gap = 3};
    int r = table_add(&t, head, err);
    if (r == 0)
        r = lookup_each(cli, add_row, &t, err);
    if (r == 0)
        table_print(&t, stdout);
    return r;
}

static int list_json(const struct cli *cli, struct err *err) {
    cleanup_json json_t *all = json_array();
    int r = lookup_each(cli, add_json, all, err);
    if (r < 0)
        return r;
    if (json_array_size(all) > 0)
        return cli_print_json(all, 0, err);
    printf("null\n"); /* as runc prints an empty list */
    return 0;
}

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)n_args;
    (void)args;
    const struct options *o = values;
    const char *format = o->format ? o->format : "table";
    if (o->quiet)
        return lookup_each(cli, print_id, NULL, err);
    if (strcmp(format, "table") == 0)
        return list_table(cli, err);
    if (strcmp(format, "json") == 0)
        return list_json(cli, err);
    return err_set(err, EINVAL, "invalid format option");
}

const struct cli_command command_list = {
    .name = "list",
    .arguments = "",
    .summary = "lists containers started by stasis with the given root",
    .description =
        "Where the given root is specified via the global option \"--root\"\n(default: \"" CLI_ROOT_DEFAULT "\").",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct options),
    .max_args = 0,
    .run = run,
};
