/* SPDX-License-Identifier: Apache-2.0 */
/* Entry point: global options, the table of subcommands, and the one place where an error is reported. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "oci/spec.h"

#define EXIT_NO_COMMAND 3 /* runc's */

static void warn_ignored(const struct cli *cli) {
    if (cli->systemd_cgroup)
        log_debug("--systemd-cgroup is ignored: the container's cgroup is in its guest");
    if (cli->criu)
        log_debug("--criu is ignored: the guest has its own");
}

static int check_globals(struct cli *cli, struct err *err) {
    enum log_format format = LOG_FORMAT_PLAIN;
    if (cli->log_format && log_format_parse(cli->log_format, &format) < 0)
        return err_set(err, EINVAL, "invalid log-format: %s", cli->log_format);
    /* A person reads stderr, programs read the file; a format that was asked for is used wherever the log goes. */
    log_set_format(cli->log && !cli->log_format ? LOG_FORMAT_TEXT : format);
    log_set_level(cli->debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN);
    if (cli->log && strcmp(cli->log, "/dev/stderr") == 0)
        cli->log = NULL;
    if (cli->rootless && strcmp(cli->rootless, "auto") != 0 && strcmp(cli->rootless, "false") != 0)
        return err_set(err, EOPNOTSUPP, "--rootless %s: stasis runs as root only (use auto or false)", cli->rootless);
    return cli->log ? log_open(cli->log, err) : 0;
}

static int check_n_args(const struct cli_command *c, int n, struct err *err) {
    if (n >= c->min_args && (c->max_args < 0 || n <= c->max_args))
        return 0;
    printf("Incorrect Usage.\n\n");
    cli_print_help(c, stdout);
    if (c->min_args == c->max_args)
        return err_set(err, EINVAL, "\"%s\" requires exactly %d argument(s)", c->name, c->min_args);
    if (n < c->min_args)
        return err_set(err, EINVAL, "\"%s\" requires a minimum of %d argument(s)", c->name, c->min_args);
    return err_set(err, EINVAL, "\"%s\" requires a maximum of %d argument(s)", c->name, c->max_args);
}

static int no_command(const struct cli *cli, const char *name) {
    struct err err = ERR_INIT;
    err_set(&err, EINVAL, "No help topic for '%s'", name);
    cli_report(cli, &err);
    return EXIT_NO_COMMAND;
}

/* Finds the command that is meant, through its group if it has one: *argv then begins with its own word. NULL: there is
 * none of that name. */
static const struct cli_command *find(int *argc, char ***argv) {
    const struct cli_command *c = cli_find_command(NULL, (*argv)[0]);
    if (!c || !c->group || *argc < 2 || (*argv)[1][0] == '-')
        return c;
    (*argc)--;
    (*argv)++;
    return strcmp((*argv)[0], "help") == 0 || strcmp((*argv)[0], "h") == 0 ? c : cli_find_command(c, (*argv)[0]);
}

/* A group alone: its help. */
static int run_group(const struct cli_command *c, int argc, char **argv, struct err *err) {
    bool help = false;
    int r = options_parse(&c->options, NULL, argc, argv, &help, err);
    if (r < 0)
        printf("Incorrect Usage: %s\n\n", err->msg);
    cli_print_help(c, stdout);
    return r < 0 ? r : 0;
}

static int run_command(struct cli *cli, const struct cli_command *c, int argc, char **argv, struct err *err) {
    cleanup_free void *values = calloc(1, MAX(c->values_size, (size_t)1));
    bool help = false;
    if (!values)
        return err_set(err, ENOMEM, "out of memory");
    int at = options_parse(&c->options, values, argc, argv, &help, err), r = at;
    if (r >= 0 && help) {
        cli_print_help(c, stdout);
        r = 0;
    } else if (r >= 0) {
        r = check_n_args(c, argc - at, err);
        if (r == 0)
            r = c->run(cli, values, argc - at, argv + at, err);
    } else {
        printf("Incorrect Usage: %s\n\n", err->msg);
        cli_print_help(c, stdout);
    }
    options_clear(&c->options, values);
    return r;
}

/* `help [COMMAND…]` */
static int help(const struct cli *cli, int argc, char **argv) {
    argc--;
    argv++;
    const struct cli_command *c = argc > 0 ? find(&argc, &argv) : NULL;
    if (argc > 0 && !c)
        return no_command(cli, argv[0]);
    cli_print_help(c, stdout);
    return 0;
}

/* As a subcommand: the exit code or a negative errno. *ret_command is the one that was run. */
static int dispatch(struct cli *cli, int argc, char **argv, const struct cli_command **ret_command, struct err *err) {
    bool wants_help = false;
    int at = options_parse(&cli_global_options, cli, argc, argv, &wants_help, err);
    if (at < 0) {
        printf("Incorrect Usage. %s\n\n", err->msg);
        cli_print_help(NULL, stdout);
        return at;
    }
    if (cli->version) {
        printf("stasis version " STASIS_VERSION "\nspec: " OCI_VERSION "\n");
        return 0;
    }
    if (wants_help || at == argc) {
        cli_print_help(NULL, stdout);
        return 0;
    }
    int r = check_globals(cli, err);
    if (r < 0)
        return r;
    warn_ignored(cli);
    argc -= at;
    argv += at;
    if (strcmp(argv[0], "help") == 0 || strcmp(argv[0], "h") == 0)
        return help(cli, argc, argv);
    const struct cli_command *c = *ret_command = find(&argc, &argv);
    if (!c)
        return no_command(cli, argv[0]);
    return c->group ? run_group(c, argc, argv, err) : run_command(cli, c, argc, argv, err);
}

/* Stdio that the caller closed would be replaced by the next file we open. */
static void complete_stdio(void) {
    int fd;
    while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd < 3)
        ;
    if (fd >= 3)
        close(fd);
}

int main(int argc, char **argv) {
    struct cli cli = {.root = CLI_ROOT_DEFAULT};
    const struct cli_command *command = NULL;
    struct err err = ERR_INIT;
    complete_stdio();
    int r = dispatch(&cli, argc, argv, &command, &err);
    if (r < 0) {
        cli_report(&cli, &err);
        r = cli_exit_code(command, &err);
    }
    if (fflush(stdout) != 0 && r == 0) {
        err_errno(&err, errno, "cannot write to stdout");
        cli_report(&cli, &err);
        r = 1;
    }
    return r;
}
