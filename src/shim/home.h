/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory of a sandbox that containerd asked for: $STASIS_ROOT/<namespace>/<id> (default /run/stasis), and its
 * socket.
 *
 * Theory of operation. Whoever may use the directory holds a lock (flock) on it; `start` takes it and hands it to the
 * daemon, which keeps it for life. A directory without a holder was left by a daemon that was killed, and is taken
 * over. The socket is where containerd's shims have theirs; ROOT/<namespace>/<id>/api.sock is a link to it, so that
 * the stasis CLI finds the sandbox.
 */
#pragma once

#include "base/err.h"
#include "base/util.h"

#define HOME_ROOT_DEFAULT "/run/stasis"
#define HOME_ROOT_ENV "STASIS_ROOT"

struct home {
    char *root;  /* of the namespace; owned */
    char *id;    /* owned */
    int lock_fd; /* the directory, locked; -1: not taken */
};

#define HOME_NONE                                                                                                      \
    (struct home) {                                                                                                    \
        .lock_fd = -1                                                                                                  \
    }

void home_close(struct home *h); /* what is on disk stays */
#define cleanup_home CLEANUP(home_close)

/* Names it, touching nothing. Both are checked (id_validate); a namespace must begin with a letter or a digit. */
int home_name(const char *namespace, const char *id, struct home *ret, struct err *err);

/* Makes the directory and takes the lock. -EEXIST when a sandbox of this id is running. */
int home_take(struct home *h, struct err *err);

/* Links api.sock to the socket at `path`. */
int home_link_socket(const struct home *h, const char *path, struct err *err);

/* Ends the daemon if it still runs (it did not answer), removes what it left (oci/remains.h) and the directory. It is
 * no error if there is none. */
int home_clear(const struct home *h, struct err *err);

/* The daemon's pid as its state.json says; 0 if it says nothing. */
int home_daemon_pid(const struct home *h);

/* Connects to the unix socket at "unix://PATH" or PATH. Returns the fd. */
int home_connect(const char *address, struct err *err);

/* Listens there, mode 0600; a socket file that nobody serves is replaced. Returns the fd (non-blocking). -EADDRINUSE
 * when somebody serves it. */
int home_listen(const char *address, struct err *err);

/* The path in an address. */
const char *home_socket_path(const char *address);
