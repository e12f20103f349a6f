/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "cli/cli.h"
#include "oci/spec.h"

struct options {
    const char *bundle;
    bool rootless;
};

static const struct option_row rows[] = {
    OPTION(OPTION_TEXT, struct options, bundle, "bundle", 'b', "path to the root of the bundle directory"),
    OPTION(OPTION_FLAG, struct options, rootless, "rootless", 0, "refused: stasis runs as root only"),
};

/* JSON indented by tabs, as runc writes it. jansson indents by blanks; a line of its output never begins with a blank
 * for another reason, strings having no raw newlines. */
static void indent_by_tabs(char *text) {
    char *out = text;
    for (char *in = text; *in;) {
        for (; *in == ' '; in++)
            *out++ = '\t';
        while (*in && *in != '\n')
            *out++ = *in++;
        if (*in)
            *out++ = *in++;
    }
    *out = '\0';
}

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)cli;
    (void)n_args;
    (void)args;
    const struct options *o = values;
    if (o->rootless)
        return err_set(err, EOPNOTSUPP, "--rootless: stasis runs as root only");
    cleanup_free char *path = path_join(o->bundle ? o->bundle : ".", "config.json");
    cleanup_json json_t *spec = oci_spec_default();
    cleanup_free char *text = spec ? json_text(spec, JSON_INDENT(1)) : NULL;
    if (!path || !text)
        return err_set(err, ENOMEM, "out of memory");
    indent_by_tabs(text);
    cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return errno == EEXIST ? err_set(err, EEXIST, "File config.json exists. Remove it first")
                               : err_errno(err, errno, "cannot create %s", path);
    int r = fd_write_all(fd, text, strlen(text));
    if (r < 0) {
        (void)unlink(path);
        return err_errno(err, -r, "cannot write %s", path);
    }
    return 0;
}

const struct cli_command command_spec = {
    .name = "spec",
    .arguments = "",
    .summary = "create a new specification file",
    .description = "The spec command creates the new specification file named \"config.json\" for the\n"
                   "bundle. It is a starter file: its process is \"sh\" on a terminal, its root file system\n"
                   "the directory \"rootfs\" beside it.",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct options),
    .max_args = 0,
    .run = run,
};
