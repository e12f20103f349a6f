/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `stasis` program: what its subcommands share.
 *
 * Theory of operation. main.c parses the global options, finds the subcommand in the table and has its options parsed
 * into a struct of its own; the subcommand then works or returns an error, which main.c reports once. A subcommand
 * looks a container up on disk (lookup.h), connects to its sandbox's daemon (session.h) and calls it (task.h). `run`
 * and `create` (launch.h) make the sandbox directory and start the daemon first (sandbox_dir.h). A process that runs in
 * the foreground is attended by attach.h, a detached one by a monitor process (monitor.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "base/config.h"
#include "base/err.h"
#include "base/log.h"
#include "base/util.h"
#include "cli/options.h"
#include "oci/spec.h"

/* Beside the directories of containerd's namespaces, none of which can have this name: they begin with a letter or a
 * digit (containerd's identifiers, and home_name()). */
#define CLI_ROOT_DEFAULT "/run/stasis/_cli"

/* The global options. */
struct cli {
    const char *root;
    const char *log;        /* NULL: none */
    const char *log_format; /* NULL: not given */
    const char *config;     /* NULL: the default path */
    const char *rootless, *criu;
    bool debug, systemd_cgroup, version;
};

struct cli_command {
    const char *name;      /* of one in a group with the group's: "snapshot create" */
    const char *arguments; /* for the usage line: "<container-id>" */
    const char *summary;
    const char *description; /* NULL: none */
    struct option_table options;
    size_t values_size;     /* of the struct that the options fill; zeroed before */
    int min_args, max_args; /* after the options; max -1: any number */
    bool runs_process;      /* failures of the user's program to start end with 126 or 127 */
    int failure_code;       /* exit code of other failures; 0: 1 */
    /* NULL: it is none. Of a group: its commands, ending with NULL; options, arguments and run mean nothing then. */
    const struct cli_command *const *group;
    /* Returns the exit code (0 … 255), or a negative errno with err set. */
    int (*run)(struct cli *cli, const void *values, int n_args, char **args, struct err *err);
};

/* Ends with NULL. */
extern const struct cli_command *const cli_commands[];

extern const struct cli_command command_attach, command_check, command_checkpoint, command_console, command_create,
    command_delete, command_events, command_exec, command_features, command_kill, command_list, command_pause,
    command_ps, command_restore, command_resume, command_run, command_snapshot, command_spec, command_start,
    command_state, command_template, command_update;

/* Of a group (NULL: of the program) by its own word; NULL when there is none. */
const struct cli_command *cli_find_command(const struct cli_command *group, const char *word);

/* Writes help for one command, or (NULL) for the program. */
void cli_print_help(const struct cli_command *command, FILE *out);
extern const struct option_table cli_global_options;

/* Reads the configuration that --config names. */
int cli_load_config(const struct cli *cli, struct config *ret, struct err *err);

/* A network that an engine made for the container (oci_network_missing()): warns, or fails, as configured. */
int cli_check_network(const struct config *config, const json_t *spec, pid_t pid, struct err *err);

/* A volume with POSIX ACLs (oci/volume_acl.h): likewise. */
int cli_check_acls(const struct config *config, const struct oci_guest_spec *guest, struct err *err);

/*
 * The exit code for an error: 127 when the user's program was not found and 126 when it could not be executed, which
 * the daemon reports as ENOENT and EACCES (or EPERM) with "exec: " in the message; for everything else 1, or what
 * the command names (exec: 255, as runc).
 */
int cli_exit_code(const struct cli_command *command, const struct err *err);

/* Tells the user of an error that does not end the program, as main does of the one that does. */
void cli_report(const struct cli *cli, const struct err *err);

/* Prints JSON to stdout with a newline; the indentation is `indent` blanks, 0: one line. */
int cli_print_json(const json_t *v, unsigned indent, struct err *err);
