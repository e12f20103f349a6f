/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/attend.h"

#include <fcntl.h>
#include <string.h>

#include "base/fd.h"
#include "cli/attach.h"
#include "cli/detach_keys.h"
#include "cli/find_exec.h"
#include "cli/lookup.h"
#include "cli/monitor.h"
#include "cli/signals.h"
#include "cli/snapshot_call.h"
#include "cli/task.h"

int attend_check(const struct attend_options *o, struct err *err) {
    struct detach_keys keys;
    return o->detach_keys ? detach_keys_parse(o->detach_keys, &keys, err) : 0;
}

static bool on_typed(char *buf, size_t *len, void *userdata) {
    return detach_keys_filter(userdata, buf, len);
}

/* Of a container that has ended the output that nobody took is still there, as long as its daemon is. */
static int connect_to(const struct cli *cli, const char *id, struct lookup *l, struct session *s, struct err *err) {
    int r = lookup_container(cli, id, l, err);
    return r < 0 ? r : lookup_connect(cli, l, s, err);
}

static int stay(const struct cli *cli, struct attach *a, uint32_t *ret_status, struct err *err) {
    int r = attach_begin(a, err);
    if (r == 0)
        r = call_attach(a->session, a->id, a->exec_id, &a->io->pass, false, err);
    if (r < 0)
        return r;
    a->io->pass.width = a->io->pass.height = 0; /* its terminal has the size of whoever had it before */
    io_passed(a->io);
    r = attach_run(a, err);
    if (r == 0)
        r = attach_wait(a, ret_status, err);
    attach_end(a);
    if (r == 1 || r == -EINTR)
        (void)call_detach(a->session, a->id, a->exec_id, NULL); /* our end of the streams is closed with us anyway */
    if (a->vm_death.code)
        cli_report(cli, &a->vm_death);
    if (r == -ECONNRESET) {
        /* Killed with its daemon: an exit like any other. */
        cli_report(cli, err);
        *ret_status = MONITOR_LOST;
        return 0;
    }
    return r;
}

int attend(const struct cli *cli, const char *id, const struct attend_options *o, bool *ret_detached, struct err *err) {
    char exec_id[ID_MAX + 1] = "";
    struct io_request req = {.no_stdin = o->no_stdin, .optional_terminal = true};
    cleanup_lookup struct lookup l = LOOKUP_NONE;
    struct io io = IO_NONE;
    struct session s = {0};
    struct detach_keys keys;
    uint32_t status = 0;
    *ret_detached = false;
    int r = detach_keys_parse(o->detach_keys ? o->detach_keys : DETACH_KEYS_DEFAULT, &keys, err);
    if (r < 0)
        return r;
    signals_block();
    r = connect_to(cli, id, &l, &s, err);
    if (r == 0 && o->exec_id)
        r = find_exec(&s, id, o->exec_id, exec_id, err);
    if (r == 0)
        r = task_has_terminal(&s, id, exec_id, &req.terminal, err);
    if (r == 0)
        r = io_prepare(&req, &io, err);
    if (r == 0) {
        struct attach a = {.session = &s,
                           .id = id,
                           .exec_id = exec_id,
                           .io = &io,
                           .filter = on_typed,
                           .userdata = &keys,
                           .keep_signals = o->no_sig_proxy};
        r = stay(cli, &a, &status, err);
        attach_end(&a);
        *ret_detached = r == 1;
        if (r == 1)
            status = a.signal ? 128 + (uint32_t)a.signal : 0;
    }
    io_close(&io);
    session_close(&s);
    return r < 0 ? r : (int)(status & 0xff);
}

int attend_log(const struct cli *cli, const char *id, const char *path, struct err *err) {
    cleanup_lookup struct lookup l = LOOKUP_NONE;
    cleanup_session struct session s = {0};
    bool terminal = false;
    cleanup_fd int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    if (fd < 0)
        return err_errno(err, errno, "cannot open the log %s", path);
    int r = connect_to(cli, id, &l, &s, err);
    if (r == 0)
        r = task_has_terminal(&s, id, "", &terminal, err);
    if (r < 0)
        return r;
    const int fds[] = {fd, fd};
    const struct task_stdio io = {.in = "",
                                  .out = "fd://",
                                  .err = terminal ? "" : "fd://",
                                  .fds = fds,
                                  .n_fds = terminal ? 1 : 2,
                                  .terminal = terminal};
    r = call_attach(&s, id, "", &io, true, err);
    return r < 0 ? err_wrap(err, "cannot connect the log %s", path) : 0;
}
