/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/criu_cgroups.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/util.h"

#define UNIFIED "unified" /* as CRIU names the hierarchy of v2 */

/* As CRIU names the directories in its yard, and hosts those in /sys/fs/cgroup: controllers that are mounted together
 * are one. */
static const char *const hierarchies[] = {
    "blkio", "cpu",     "cpu,cpuacct",      "cpuacct",  "cpuset", "devices", "freezer", "hugetlb",    "memory",
    "misc",  "net_cls", "net_cls,net_prio", "net_prio", "pids",   "rdma",    "systemd", "perf_event",
};

/* CRIU reaches it from the container's mount namespace as well, through the yard's fd alone: what leads out of the
 * yard, as a link to the guest's /sys/fs/cgroup would, leads into the container there. */
static int mount_unified(int yard_fd, const char *yard, const char *cgroup_root, struct err *err) {
    cleanup_free char *dir = path_join(yard, UNIFIED);
    if (!dir)
        return err_set(err, ENOMEM, "out of memory");
    if (faccessat(yard_fd, UNIFIED "/cgroup.procs", F_OK, 0) == 0)
        return 0; /* from an earlier restore */
    if (mkdirat(yard_fd, UNIFIED, 0700) < 0 && errno != EEXIST)
        return err_errno(err, errno, "cannot make %s", dir);
    if (mount(cgroup_root, dir, NULL, MS_BIND, NULL) < 0)
        return err_errno(err, errno, "cannot mount %s on %s", cgroup_root, dir);
    return 0;
}

int criu_cgroups_make(const char *yard, const char *cgroup_root, struct err *err) {
    int r = path_mkdirs(yard, 0700, err);
    cleanup_fd int fd = r < 0 ? r : open(yard, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return r < 0 ? r : err_errno(err, errno, "cannot open %s", yard);
    if ((r = mount_unified(fd, yard, cgroup_root, err)) < 0)
        return r;
    for (size_t i = 0; i < ARRAY_SIZE(hierarchies); i++)
        if (symlinkat(UNIFIED, fd, hierarchies[i]) < 0 && errno != EEXIST)
            return err_errno(err, errno, "cannot make %s/%s", yard, hierarchies[i]);
    return 0;
}

size_t criu_cgroups_conf(char *out, size_t size) {
    size_t n = (size_t)snprintf(out, size, "cgroup-yard " CRIU_YARD "\n");
    for (size_t i = 0; i < ARRAY_SIZE(hierarchies); i++)
        n += (size_t)snprintf(n < size ? out + n : NULL, n < size ? size - n : 0,
                              "external mnt[/sys/fs/cgroup/%s]:" CRIU_YARD_EMPTY "\n", hierarchies[i]);
    return n;
}
