/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "oci/network.h"
#include "oci/volume_acl.h"

const struct cli_command *const cli_commands[] = {
    &command_attach,
    &command_check,
    &command_checkpoint,
    &command_console,
    &command_create,
    &command_delete,
    &command_events,
    &command_exec,
    &command_features,
    &command_kill,
    &command_list,
    &command_pause,
    &command_ps,
    &command_restore,
    &command_resume,
    &command_run,
    &command_snapshot,
    &command_spec,
    &command_start,
    &command_state,
    &command_template,
    &command_update,
    NULL,
};

static const struct option_row global_rows[] = {
    OPTION(OPTION_FLAG, struct cli, debug, "debug", 0, "enable debug logging"),
    OPTION(OPTION_TEXT, struct cli, log, "log", 0, "set the log file (default is '/dev/stderr')"),
    OPTION(OPTION_TEXT, struct cli, log_format, "log-format", 0, "set the log format ('text' or 'json')"),
    OPTION(OPTION_TEXT, struct cli, root, "root", 0,
           "root directory for storage of container state (default: \"" CLI_ROOT_DEFAULT "\")"),
    OPTION(OPTION_TEXT, struct cli, config, "config", 0, "configuration (default: \"" CONFIG_DEFAULT_PATH "\")"),
    OPTION(OPTION_TEXT, struct cli, criu, "criu", 0, "accepted and ignored: the guest has its own criu"),
    OPTION(OPTION_FLAG, struct cli, systemd_cgroup, "systemd-cgroup", 0,
           "accepted and ignored: the container's cgroup is in its guest"),
    OPTION(OPTION_TEXT, struct cli, rootless, "rootless", 0, "'auto' or 'false': stasis runs as root only"),
    OPTION(OPTION_FLAG, struct cli, version, "version", 'v', "print the version"),
};

const struct option_table cli_global_options = {global_rows, ARRAY_SIZE(global_rows), .stop_at_first = true};

static const char *own_word(const struct cli_command *c) {
    const char *blank = strrchr(c->name, ' ');
    return blank ? blank + 1 : c->name;
}

const struct cli_command *cli_find_command(const struct cli_command *group, const char *word) {
    for (const struct cli_command *const *c = group ? group->group : cli_commands; c && *c; c++)
        if (strcmp(own_word(*c), word) == 0)
            return *c;
    return NULL;
}

static void print_commands(const struct cli_command *const *c, FILE *out) {
    fprintf(out, "COMMANDS:\n");
    for (; *c; c++)
        fprintf(out, "   %-10s  %s\n", own_word(*c), (*c)->summary);
}

static void print_program_help(FILE *out) {
    fprintf(out, "NAME:\n   stasis - containers in virtual machines of their own, with checkpoint and restore\n\n"
                 "USAGE:\n   stasis [global options] command [command options] [arguments...]\n\n"
                 "VERSION:\n   " STASIS_VERSION "\n\n");
    print_commands(cli_commands, out);
    fprintf(out, "   %-10s  %s\n\nGLOBAL OPTIONS:\n", "help, h", "shows a list of commands or help for one command");
    options_print(&cli_global_options, out);
}

void cli_print_help(const struct cli_command *c, FILE *out) {
    if (!c) {
        print_program_help(out);
        return;
    }
    fprintf(out, "NAME:\n   stasis %s - %s\n\nUSAGE:\n   stasis %s %s%s\n", c->name, c->summary, c->name,
            c->options.n ? "[command options] " : "",
            c->group ? "command [command options] [arguments...]" : c->arguments);
    if (c->description)
        fprintf(out, "\nDESCRIPTION:\n%s\n", c->description);
    if (c->group) {
        fprintf(out, "\n");
        print_commands(c->group, out);
    }
    fprintf(out, "\nOPTIONS:\n");
    options_print(&c->options, out);
}

int cli_load_config(const struct cli *cli, struct config *ret, struct err *err) {
    config_init(ret);
    return config_load(ret, cli->config, err);
}

int cli_check_network(const struct config *config, const json_t *spec, pid_t pid, struct err *err) {
    cleanup_free char *text = NULL;
    int r = oci_network_missing(spec, pid, &text, err);
    if (r <= 0)
        return r;
    if (config->network_refuse)
        return err_set(err, EOPNOTSUPP, "%s ([network] missing)", text);
    log_warn("%s", text);
    return 0;
}

int cli_check_acls(const struct config *config, const struct oci_guest_spec *guest, struct err *err) {
    cleanup_free char *text = NULL;
    int r = volume_acl_ignored(guest, &text, err);
    if (r <= 0)
        return r;
    if (config->acl_refuse)
        return err_set(err, EOPNOTSUPP, "%s ([container] acl)", text);
    log_warn("%s", text);
    return 0;
}

/* With a log file an error goes there and, as plain text, to stderr, as runc does it. */
void cli_report(const struct cli *cli, const struct err *err) {
    log_error("%s", err->msg);
    if (cli->log)
        dprintf(STDERR_FILENO, "stasis: %s\n", err->msg);
}

int cli_exit_code(const struct cli_command *command, const struct err *err) {
    int failure = command && command->failure_code ? command->failure_code : 1;
    if (!command || !command->runs_process || !strstr(err->msg, "exec: "))
        return failure;
    if (err->code == ENOENT)
        return 127;
    return err->code == EACCES || err->code == EPERM ? 126 : failure;
}

int cli_print_json(const json_t *v, unsigned indent, struct err *err) {
    cleanup_free char *text = v ? json_text(v, indent ? JSON_INDENT(indent) : JSON_COMPACT) : NULL;
    if (!text)
        return err_set(err, ENOMEM, "out of memory");
    printf("%s\n", text);
    return 0;
}
