/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM or TCG. That /dev/kvm opens proves little: inside a VM without nested virtualisation it may be there and emulate
 * every guest instruction of the kernel, which is far slower than TCG. The CPU's own flag tells the two apart.
 */
#include "vm/accel.h"

#include <fcntl.h>
#include <string.h>

#include "base/fd.h"
#include "base/util.h"
#include "vm/vm.h"

/* True if the first "flags" line has vmx or svm. All processors have the same ones. */
static bool cpu_has_virtualisation(const char *cpuinfo) {
    cleanup_file FILE *f = fopen(cpuinfo, "re");
    cleanup_free char *line = NULL;
    size_t size = 0;
    while (f && getline(&line, &size, f) > 0) {
        if (strncmp(line, "flags", 5) != 0)
            continue;
        char *save = NULL;
        for (char *w = strtok_r(line, " \t\n", &save); w; w = strtok_r(NULL, " \t\n", &save))
            if (!strcmp(w, "vmx") || !strcmp(w, "svm"))
                return true;
        return false;
    }
    return false;
}

int accel_resolve_from(const char *cpuinfo, const char *kvm, enum accel want, enum accel *ret, const char **ret_reason,
                       struct err *err) {
    const char *reason;
    bool usable = false;
    int open_errno = 0;
    if (want == ACCEL_TCG) {
        reason = "asked for";
    } else if (!cpu_has_virtualisation(cpuinfo)) {
        reason = "the CPU shows neither vmx nor svm in /proc/cpuinfo";
    } else {
        cleanup_fd int fd = open(kvm, O_RDWR | O_CLOEXEC);
        open_errno = fd < 0 ? errno : 0;
        usable = fd >= 0;
        reason = usable ? "the CPU has hardware virtualisation and /dev/kvm opens" : "/dev/kvm cannot be opened";
    }
    if (want == ACCEL_KVM && !usable)
        return open_errno ? err_set(err, ENODEV, "KVM cannot be used: %s: %s", reason, strerror(open_errno))
                          : err_set(err, ENODEV, "KVM cannot be used: %s", reason);
    *ret = usable ? ACCEL_KVM : ACCEL_TCG;
    if (ret_reason)
        *ret_reason = reason;
    return 0;
}

int accel_resolve(enum accel want, enum accel *ret, const char **ret_reason, struct err *err) {
    return accel_resolve_from("/proc/cpuinfo", "/dev/kvm", want, ret, ret_reason, err);
}
