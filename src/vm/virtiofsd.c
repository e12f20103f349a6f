/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/virtiofsd.h"

#include <stdio.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"

int virtiofsd_argv(int listen_fd, const char *share_dir, struct strv *argv, struct err *err) {
    int r = 0;
    r |= strv_add(argv, VIRTIOFSD_PATH);
    r |= strv_addf(argv, "--fd=%d", listen_fd);
    /* One argument each, so that a directory named like an option stays a directory. */
    r |= strv_addf(argv, "--shared-dir=%s", share_dir);
    r |= strv_add(argv, "--cache=auto");
    r |= strv_add(argv, "--xattr");
    /* The setuid and setgid bits of a file that another user truncates by opening it only the server can take away. */
    r |= strv_add(argv, "--killpriv-v2");
    /* Mounts below the share have their own device numbers in the guest too, so that inode numbers do not clash. */
    r |= strv_add(argv, "--announce-submounts");
    /* Inside our jail, its own: only the share is left to see. */
    r |= strv_add(argv, "--sandbox=namespace");
    r |= strv_add(argv, "--seccomp=kill");
    r |= strv_add(argv, "--modcaps=-mknod");
    /* The jail has set the limit. File handles would need fewer fds, but also CAP_DAC_READ_SEARCH, with which any file
     * of a host's file system can be opened. */
    r |= strv_add(argv, "--rlimit-nofile=0");
    r |= strv_add(argv, "--inode-file-handles=never");
    /* A file that is gone when a snapshot is loaded gives errors to who has it open, not an end to the machine. */
    r |= strv_add(argv, "--migration-on-error=guest-error");
    r |= strv_add(argv, "--log-level=warn");
    return r < 0 ? err_set(err, ENOMEM, "virtiofsd: out of memory") : 0;
}

int virtiofsd_socket(int *ret_listen, int *ret_connected, struct err *err) {
    cleanup_fd int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0700", 0) < 0 ||
        fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return err_errno(err, errno, "virtiofsd: cannot make a file system for its socket");
    cleanup_fd int dir = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    if (dir < 0)
        return err_errno(err, errno, "virtiofsd: cannot make a file system for its socket");

    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/vhost-user", dir);
    cleanup_fd int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cleanup_fd int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || client < 0)
        return err_errno(err, errno, "virtiofsd: cannot make a socket");
    const struct sockaddr *sa = (const struct sockaddr *)&addr;
    if (bind(listener, sa, sizeof(addr)) < 0 || listen(listener, 1) < 0)
        return err_errno(err, errno, "virtiofsd: cannot listen on its socket");
    /* This waits for no accept(): a place in the queue is enough. */
    if (connect(client, sa, sizeof(addr)) < 0)
        return err_errno(err, errno, "virtiofsd: cannot connect to its socket");
    *ret_listen = TAKE_FD(listener);
    *ret_connected = TAKE_FD(client);
    return 0;
}
