/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "ttrpc/server_impl.h"

#define ACCEPTS_MAX 16 /* per turn of the loop */

void listener_free(struct listener *l) {
    if (!l)
        return;
    sd_event_source_disable_unref(l->io);
    sd_event_source_disable_unref(l->timer);
    fd_close(l->fd);
    free(l);
}

/* The socket's mode keeps others out already; this holds even when the directory was opened up by mistake. */
static bool peer_allowed(int fd, uid_t *ret_uid) {
    struct ucred cred;
    socklen_t len = sizeof(cred);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
        return false;
    *ret_uid = cred.uid;
    return cred.uid == 0 || cred.uid == getuid();
}

static void take_peer(struct ttrpc_server *s, int fd) {
    struct err err = ERR_INIT;
    uid_t uid = (uid_t)-1;
    if (!peer_allowed(fd, &uid)) {
        log_warn("api socket: refused a connection of uid %u", uid);
        fd_close(fd);
    } else if (ttrpc_server_add_plain(s, fd, &err) < 0) {
        log_warn("api socket: refused a connection: %s", err.msg);
    }
}

/* A connection that cannot be accepted keeps the socket readable: look again later instead of at once. */
static void pause_listening(struct listener *l, int code) {
    log_warn("api socket: accepting a connection: %s; trying again", strerror(code));
    (void)sd_event_source_set_enabled(l->io, SD_EVENT_OFF);
    (void)sd_event_source_set_time(l->timer, now_usec() + LISTEN_RETRY);
    (void)sd_event_source_set_enabled(l->timer, SD_EVENT_ONESHOT);
}

static int on_resume(sd_event_source *source, uint64_t usec, void *userdata) {
    struct listener *l = userdata;
    (void)source, (void)usec;
    (void)sd_event_source_set_enabled(l->io, SD_EVENT_ON);
    return 0;
}

static int on_connection(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
    struct listener *l = userdata;
    (void)source, (void)revents;
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (peer >= 0) {
            take_peer(l->server, peer);
            continue;
        }
        /* A peer that is gone before it was accepted is no failure of ours. */
        if (errno == ECONNABORTED || errno == EINTR)
            continue;
        if (errno != EAGAIN)
            pause_listening(l, errno);
        break;
    }
    return 0;
}

int ttrpc_server_listen(struct ttrpc_server *s, int fd, struct err *err) {
    struct listener *l = calloc(1, sizeof(*l));
    if (!l) {
        fd_close(fd);
        return err_errno(err, ENOMEM, "api socket");
    }
    l->server = s;
    l->fd = fd;
    int r = fd_set_nonblock(fd, true);
    if (r >= 0)
        r = fd_set_cloexec(fd, true);
    if (r >= 0)
        r = sd_event_add_time(s->event, &l->timer, CLOCK_MONOTONIC, UINT64_MAX, 0, on_resume, l);
    if (r >= 0)
        r = sd_event_source_set_enabled(l->timer, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_add_io(s->event, &l->io, fd, EPOLLIN, on_connection, l);
    if (r < 0) {
        listener_free(l);
        return err_errno(err, -r, "api socket: watching it");
    }
    l->next = s->listeners;
    s->listeners = l;
    return 0;
}
