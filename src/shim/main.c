/* SPDX-License-Identifier: Apache-2.0 */
/* containerd-shim-stasis-v2: what containerd runs for a task, and the daemon of a sandbox. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/fd.h"
#include "base/log.h"
#include "sandbox/machine.h"
#include "shim/bootstrap.h"
#include "shim/cmdline.h"
#include "shim/serve.h"
#include "shim/start.h"

static int print_version(const struct cmdline *c, struct err *err) {
    cleanup_free char *name = bootstrap_runtime_name(c->program);
    if (!name)
        return err_set(err, ENOMEM, "out of memory");
    printf("%s:\n  Version: %s\n  Runtime: %s\n", c->program, STASIS_VERSION, name);
    return 0;
}

static int print_info(const struct cmdline *c, struct err *err) {
    cleanup_free uint8_t *info = NULL;
    size_t len;
    int r = bootstrap_info(c->program, &info, &len, err);
    if (r == 0 && (r = fd_write_all(STDOUT_FILENO, info, len)) < 0)
        r = err_errno(err, -r, "cannot print");
    return r;
}

static int check_snapshot(const struct cmdline *c, struct err *err) {
    struct config config;
    config_init(&config);
    cleanup_fd int dir = open(c->bundle ? c->bundle : "", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_errno(err, errno, "cannot open the snapshot %s", c->bundle ? c->bundle : "(-bundle is missing)");
    int r = config_load(&config, c->config, err);
    return r < 0 ? r : machine_check_snapshot(&config, dir, err);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        int (*fn)(const struct cmdline *c, struct err *err);
        bool plain; /* what it says on stderr is shown to a person as it is, by containerd */
    } commands[] = {
        {"start", shim_start, true},      {"delete", shim_delete, true}, {"serve", shim_serve, false},
        {"version", print_version, true}, {"info", print_info, true},    {"check-snapshot", check_snapshot, true},
    };
    struct cmdline c;
    struct err err = ERR_INIT;
    int r = cmdline_parse(argc, argv, &c, &err);
    if (r == 0)
        r = err_set(&err, EINVAL, "unknown command %s", c.command);
    for (size_t i = 0; r == -EINVAL && c.command && i < ARRAY_SIZE(commands); i++)
        if (strcmp(c.command, commands[i].name) == 0) {
            if (commands[i].plain)
                log_set_format(LOG_FORMAT_PLAIN);
            err = (struct err)ERR_INIT;
            r = commands[i].fn(&c, &err);
            break;
        }
    if (r < 0)
        log_error("%s", err.msg);
    return r < 0 ? 1 : 0;
}
