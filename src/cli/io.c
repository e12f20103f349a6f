/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/io.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"

#define URI_FD "fd://"
#define URI_NONE ""

int io_check(const struct io_request *req, struct err *err) {
    if (req->detach && req->terminal && !req->console_socket)
        return err_set(err, EINVAL, "cannot allocate tty if stasis will detach without setting console socket");
    if ((!req->detach || !req->terminal) && req->console_socket)
        return err_set(err, EINVAL, "cannot use console socket if stasis will not detach or allocate tty");
    return 0;
}

/* The next fd to pass. */
static const char *pass(struct io *io, int fd, bool own) {
    io->fds[io->pass.n_fds] = fd;
    io->own_fds[io->pass.n_fds++] = own;
    return URI_FD;
}

static int prepare_relayed_terminal(struct io *io, struct err *err) {
    int pair[2];
    int r = terminal_open(&io->terminal, err);
    if (r < 0)
        return r;
    terminal_size(io->terminal.fd, &io->pass.width, &io->pass.height);
    io->pass.relayed = true;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(err, errno, "cannot make a socket pair for the terminal");
    io->from_process = pair[0];
    io->pass.in = pass(io, pair[1], true);
    io->pass.out = pass(io, pair[1], false); /* the same one twice */
    /* A second fd, because the loop can watch each fd only once. */
    io->to_process = fcntl(pair[0], F_DUPFD_CLOEXEC, 3);
    return io->to_process < 0 ? err_errno(err, errno, "cannot make a socket pair for the terminal") : 0;
}

static int prepare_new_terminal(const struct io_request *req, struct io *io, struct err *err) {
    int r = terminal_send_console(req->console_socket, req->width, req->height, &io->slave, err);
    if (r < 0)
        return r;
    io->pass.width = req->width;
    io->pass.height = req->height;
    io->pass.in = pass(io, io->slave, false);
    io->pass.out = pass(io, io->slave, false);
    return 0;
}

static int prepare_stdin(const struct io_request *req, struct io *io, struct err *err) {
    if (req->no_stdin)
        return 0;
    if (!isatty(STDIN_FILENO)) {
        io->pass.in = pass(io, STDIN_FILENO, false);
        return 0;
    }
    if (req->detach)
        return 0; /* nobody will be there to read it for the process */
    int p[2];
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_errno(err, errno, "cannot make a pipe for stdin");
    io->pass.in = pass(io, p[0], true);
    io->to_process = p[1];
    return 0;
}

int io_prepare(const struct io_request *req, struct io *io, struct err *err) {
    *io = IO_NONE;
    io->pass = (struct task_stdio){.in = URI_NONE, .out = URI_NONE, .err = URI_NONE, .terminal = req->terminal};
    io->pass.fds = io->fds;
    if (req->terminal && !(req->optional_terminal && (req->no_stdin || !isatty(STDIN_FILENO))))
        return req->detach ? prepare_new_terminal(req, io, err) : prepare_relayed_terminal(io, err);
    int r = prepare_stdin(req, io, err);
    if (r < 0)
        return r;
    io->pass.out = pass(io, STDOUT_FILENO, false);
    if (!req->terminal)
        io->pass.err = pass(io, STDERR_FILENO, false);
    return 0;
}

void io_passed(struct io *io) {
    for (size_t i = 0; i < io->pass.n_fds; i++)
        if (io->own_fds[i]) {
            fd_close(io->fds[i]);
            io->own_fds[i] = false;
        }
    io->pass.n_fds = 0;
}

void io_close(struct io *io) {
    io_passed(io);
    terminal_close(&io->terminal);
    io->to_process = fd_close(io->to_process);
    io->from_process = fd_close(io->from_process);
    io->slave = fd_close(io->slave);
}
