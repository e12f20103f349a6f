/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/console.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent/job.h"
#include "agent/tty.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/util.h"

/* Makes the terminal the shell's own, so that it has job control. Fd 0 is in place by now. */
static int setup(void *userdata, struct err *err) {
    if (ioctl(STDIN_FILENO, TIOCSCTTY, 0) < 0)
        return err_errno(err, errno, "cannot take the terminal");
    return job_setup_child(userdata, err);
}

static int open_pty(int *ret_master, int *ret_slave, struct err *err) {
    cleanup_fd int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    int unlock = 0;
    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0)
        return err_errno(err, errno, "cannot make a terminal");
    int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0)
        return err_errno(err, errno, "cannot open the other side of the terminal");
    *ret_master = TAKE_FD(master);
    *ret_slave = slave;
    return 0;
}

static int spawn(int slave, struct proc *ret, struct err *err) {
    char *const argv[] = {(char[]){"-sh"}, NULL}; /* "-": a login shell */
    char *const env[] = {(char[]){"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, (char[]){"HOME=/root"}, (char[]){"TERM=xterm"},
                         (char[]){"PS1=guest:\\w# "}, NULL};
    struct proc_spec spec = {
        .path = CONSOLE_SHELL,
        .argv = argv,
        .env = env,
        .cwd = "/root",
        .fds = {{slave, 0}, {slave, 1}, {slave, 2}},
        .n_fds = 3,
        .new_session = true,
        .outlive_parent = true,
        .setup = setup,
    };
    return proc_spawn(&spec, ret, err);
}

struct process *console_get(struct agent *a, const char *exec_id, struct err *err) {
    for (struct process *p = a->consoles; p; p = p->next)
        if (strcmp(p->exec_id, exec_id) == 0)
            return p;
    err_set(err, ENOENT, "there is no console \"%.*s\"", ID_MAX, exec_id);
    return NULL;
}

int console_start(struct agent *a, const char *exec_id, uint32_t width, uint32_t height, struct err *err) {
    if (!a->console_allowed)
        return err_set(err, EPERM, "debug consoles are not enabled ([agent] debug_console)");
    int r = id_validate("console id", exec_id, err);
    if (r < 0)
        return r;
    if (console_get(a, exec_id, NULL))
        return err_set(err, EEXIST, "console %s already exists", exec_id);
    if (a->n_consoles >= AGENT_CONSOLES_MAX)
        return err_set(err, ENOSPC, "the guest has %d consoles already", AGENT_CONSOLES_MAX);

    struct process_streams streams = {.terminal = true, .width = width, .height = height, .relayed = true};
    struct process *p = NULL;
    cleanup_fd int master = -1, slave = -1;
    struct proc proc = PROC_NONE;
    r = open_pty(&master, &slave, err);
    if (r == 0)
        r = process_new(a->event, a->children, exec_id, &streams, NULL, NULL, &p, err);
    if (r < 0 || !p)
        return r;
    /* Before the shell reads the mode, which it sets again at each prompt. */
    r = tty_resize(master, width, height, err);
    if (r == 0)
        r = tty_keep_newlines(master, err);
    if (r == 0)
        r = spawn(slave, &proc, err);
    if (r == 0) {
        proc.pidfd = fd_close(proc.pidfd); /* the process opens its own */
        r = process_started(p, proc.pid, TAKE_FD(master), err);
    }
    if (r < 0) {
        if (proc.pid > 0)
            (void)kill(proc.pid, SIGKILL);
        process_free(p);
        return err_wrap(err, "cannot start a console");
    }
    p->next = a->consoles;
    a->consoles = p;
    a->n_consoles++;
    log_info("debug console %s: started, pid %d", exec_id, (int)proc.pid);
    return (int)proc.pid;
}

int console_delete(struct agent *a, const char *exec_id, struct err *err) {
    struct process *p = console_get(a, exec_id, err);
    if (!p)
        return -ENOENT;
    for (struct process **at = &a->consoles; *at; at = &(*at)->next)
        if (*at == p) {
            *at = p->next;
            a->n_consoles--;
            break;
        }
    process_close_output(p, STDOUT_FILENO);
    (void)process_signal(p, SIGKILL, NULL); /* it may have ended by itself */
    process_free(p);
    log_info("debug console %s: ended", exec_id);
    return 0;
}
