/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "support.h"

static int code_of(const struct cli_command *c, int code, const char *msg) {
    struct err err = ERR_INIT;
    err_set(&err, code, "%s", msg);
    return cli_exit_code(c, &err);
}

static void maps_exit_codes(void **state) {
    (void)state;
    const char *nf = "run failed: exec: \"foo\": executable file not found in $PATH";
    assert_int_equal(code_of(&command_run, ENOENT, nf), 127);
    assert_int_equal(code_of(&command_exec, ENOENT, nf), 127);
    assert_int_equal(code_of(&command_start, ENOENT, nf), 127);
    assert_int_equal(code_of(&command_create, EACCES, "exec: \"/etc\": permission denied"), 126);
    assert_int_equal(code_of(&command_run, EPERM, "exec: \"/etc\": permission denied"), 126);
    /* Only failures of the user's program, and only where it is started. */
    assert_int_equal(code_of(&command_exec, ENOENT, "exec failed: container does not exist"), 255);
    assert_int_equal(code_of(&command_run, EACCES, "cannot create directory /run/stasis: Permission denied"), 1);
    assert_int_equal(code_of(&command_run, EIO, nf), 1);
    assert_int_equal(code_of(&command_kill, ENOENT, nf), 1);
    assert_int_equal(code_of(NULL, ENOENT, nf), 1);
}

/* A row that is incomplete would only be noticed by whoever uses it. Returns how many there are. */
static size_t check_commands(const struct cli_command *group) {
    size_t n = 0, len = group ? strlen(group->name) : 0;
    for (const struct cli_command *const *p = group ? group->group : cli_commands; *p; p++, n++) {
        const struct cli_command *c = *p;
        if (group)
            assert_true(strncmp(c->name, group->name, len) == 0 && c->name[len] == ' ');
        assert_ptr_equal(cli_find_command(group, c->name + (group ? len + 1 : 0)), c);
        assert_true(c->summary && *c->summary);
        if (p[1])
            assert_true(strcmp(c->name, p[1]->name) < 0);
        if (c->group) {
            assert_null(c->run);
            assert_true(check_commands(c) > 0);
            continue;
        }
        assert_non_null(c->arguments);
        assert_true(c->run != NULL);
        assert_true(c->max_args < 0 || c->max_args >= c->min_args);
        assert_true(c->options.n <= OPTIONS_MAX);
        assert_true(c->options.n == 0 || c->values_size > 0);
        for (size_t i = 0; i < c->options.n; i++) {
            const struct option_row *row = &c->options.rows[i];
            assert_true(*row->name && *row->help);
            assert_true(row->offset < c->values_size);
            assert_true(strcmp(row->name, "help") != 0 && row->letter != 'h');
            for (size_t j = 0; j < i; j++) {
                assert_string_not_equal(row->name, c->options.rows[j].name);
                assert_true(!row->letter || row->letter != c->options.rows[j].letter);
            }
        }
    }
    return n;
}

static void commands_are_complete(void **state) {
    (void)state;
    assert_int_equal(check_commands(NULL), 22);
    assert_null(cli_find_command(NULL, "checkpointx"));
    assert_null(cli_find_command(NULL, "snapshot create"));
    assert_null(cli_find_command(&command_snapshot, "createx"));
    assert_null(cli_find_command(&command_run, "create"));
}

/* The flags that callers of runc use. */
static void has_the_flags_of_runc(void **state) {
    (void)state;
    static const struct {
        const char *command, *flags;
    } want[] = {
        {"run", "bundle console-socket pid-file detach no-pivot no-new-keyring preserve-fds keep no-subreaper"},
        {"create", "bundle console-socket pid-file no-pivot no-new-keyring preserve-fds"},
        {"exec", "console-socket cwd env tty user additional-gids process detach pid-file process-label apparmor "
                 "no-new-privs cap preserve-fds cgroup ignore-paused"},
        {"kill", "all"},
        {"delete", "force"},
        {"list", "format quiet"},
        {"ps", "format"},
        {"events", "interval stats"},
        {"update", "resources blkio-weight cpu-period cpu-quota cpu-share cpu-rt-period cpu-rt-runtime cpuset-cpus "
                   "cpuset-mems memory memory-reservation memory-swap pids-limit l3-cache-schema mem-bw-schema"},
        {"spec", "bundle rootless"},
        {"attach", "detach-keys no-stdin sig-proxy"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
        const struct cli_command *c = cli_find_command(NULL, want[i].command);
        cleanup_free char *flags = strdup(want[i].flags);
        char *save = NULL;
        for (char *f = strtok_r(flags, " ", &save); f; f = strtok_r(NULL, " ", &save)) {
            bool found = false;
            for (size_t j = 0; j < c->options.n; j++)
                found |= strcmp(c->options.rows[j].name, f) == 0;
            if (!found)
                fail_msg("%s has no --%s", c->name, f);
        }
    }
}

static void prints_help(void **state) {
    (void)state;
    CAPTURE(text, cli_print_help(&command_kill, out));
    assert_non_null(strstr(text, "   stasis kill - "));
    assert_non_null(strstr(text, "   stasis kill [command options] <container-id> [signal]\n"));
    assert_non_null(strstr(text, "--all, -a"));
    free(text);
    CAPTURE(all, cli_print_help(NULL, out));
    for (const struct cli_command *const *c = cli_commands; *c; c++)
        assert_non_null(strstr(all, (*c)->name));
    assert_non_null(strstr(all, "--log-format value"));
    free(all);
    CAPTURE(group, cli_print_help(&command_snapshot, out));
    assert_non_null(strstr(group, "   stasis snapshot command [command options] [arguments...]\n"));
    assert_non_null(strstr(group, "\n   create "));
    free(group);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_exit_codes),
        cmocka_unit_test(commands_are_complete),
        cmocka_unit_test(has_the_flags_of_runc),
        cmocka_unit_test(prints_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
