/* SPDX-License-Identifier: Apache-2.0 */
#include "base/host_namespaces.h"

#include <fcntl.h>
#include <sched.h>

#include "base/fd.h"

void host_namespaces_close(struct host_namespaces *h) {
    h->mnt = fd_close(h->mnt);
    h->net = fd_close(h->net);
}

int host_namespaces_open(struct host_namespaces *ret, struct err *err) {
    struct host_namespaces h = {
        .mnt = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC),
        .net = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC),
    };
    if (h.mnt < 0 || h.net < 0) {
        int r = err_errno(err, errno, "cannot open this process's namespaces in /proc/self/ns");
        host_namespaces_close(&h);
        return r;
    }
    *ret = h;
    return 0;
}

int host_namespaces_dup(const struct host_namespaces *h, int first_fd, struct host_namespaces *ret, struct err *err) {
    struct host_namespaces copy = {
        .mnt = h->mnt < 0 ? -1 : fcntl(h->mnt, F_DUPFD_CLOEXEC, first_fd),
        .net = h->net < 0 ? -1 : fcntl(h->net, F_DUPFD_CLOEXEC, first_fd),
    };
    if ((h->mnt >= 0 && copy.mnt < 0) || (h->net >= 0 && copy.net < 0)) {
        int r = err_errno(err, errno, "cannot keep the host's namespaces open");
        host_namespaces_close(&copy);
        return r;
    }
    *ret = copy;
    return 0;
}

int host_namespaces_enter(const struct host_namespaces *h, struct err *err) {
    if (h->net >= 0 && setns(h->net, CLONE_NEWNET) < 0)
        return err_errno(err, errno, "cannot enter the host's network namespace");
    if (h->mnt >= 0 && setns(h->mnt, CLONE_NEWNS) < 0)
        return err_errno(err, errno, "cannot enter the host's mount namespace");
    return 0;
}
