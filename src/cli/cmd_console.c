/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "cli/attach.h"
#include "cli/exec_id.h"
#include "cli/lookup.h"
#include "cli/signals.h"
#include "cli/task.h"

#define ESCAPE '\x1d' /* Ctrl-] */

/* Two escapes in a row, in one read or two. */
static bool on_typed(char *buf, size_t *len, void *userdata) {
    bool *escaped = userdata;
    for (size_t i = 0; i < *len; i++) {
        if (buf[i] == ESCAPE && *escaped)
            return true;
        *escaped = buf[i] == ESCAPE;
    }
    return false;
}

static int attend(struct attach *a, struct err *err) {
    uint32_t status = 0;
    int r = attach_begin(a, err);
    if (r == 0)
        r = task_console(a->session, a->exec_id, &a->io->pass, err);
    if (r < 0)
        return r;
    io_passed(a->io);
    dprintf(STDERR_FILENO, "stasis: a shell in the guest of %s; exit ends it, Ctrl-] twice leaves it\n",
            a->session->dir->id);
    r = attach_run(a, err);
    if (r == 0)
        r = attach_wait(a, &status, err);
    attach_end(a);
    /* Also ends a shell that was left by the escape. */
    if (!a->session->closed)
        (void)task_delete(a->session, a->id, a->exec_id, NULL, NULL);
    if (r == 1)
        dprintf(STDERR_FILENO, "\nstasis: left the console\n");
    return r == 0 ? (int)(status & 0xff) : r == 1 ? 0 : r;
}

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)values;
    (void)n_args;
    static const struct io_request req = {.terminal = true};
    char exec_id[EXEC_ID_SIZE];
    bool escaped = false;
    cleanup_lookup struct lookup l = LOOKUP_NONE;
    struct io io = IO_NONE;
    struct session s = {0};
    int r = lookup_running(cli, args[0], &l, err);
    if (r == 0)
        r = exec_id_make(exec_id, err);
    if (r == 0)
        r = io_prepare(&req, &io, err);
    if (r == 0) {
        signals_block();
        r = lookup_connect(cli, &l, &s, err);
    }
    if (r == 0) {
        struct attach a = {
            .session = &s, .id = "", .exec_id = exec_id, .io = &io, .filter = on_typed, .userdata = &escaped};
        r = attend(&a, err);
        attach_end(&a);
    }
    io_close(&io);
    session_close(&s);
    return r;
}

const struct cli_command command_console = {
    .name = "console",
    .arguments = "<container-id>",
    .summary = "opens a debug shell in the guest of a container",
    .description = "The shell runs beside the container in its virtual machine, as root of the guest. It must\n"
                   "be allowed by debug_console in the section [agent] of the configuration the container\n"
                   "was started with. Ctrl-] typed twice leaves it.",
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
