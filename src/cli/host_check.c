/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/host_check.h"

#include <linux/magic.h>
#include <stdarg.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/json.h"
#include "base/path.h"

void check_list_clear(struct check_list *l) {
    for (size_t i = 0; i < l->n; i++) {
        free(l->items[i].name);
        free(l->items[i].detail);
    }
    l->n = 0;
}

void check_add(struct check_list *l, enum check_status status, const char *name, const char *fmt, ...) {
    if (l->n >= CHECK_ITEMS_MAX)
        return;
    struct check_item *item = &l->items[l->n];
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&item->detail, fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    item->name = strdup(name);
    if (!item->name) {
        free(item->detail);
        return;
    }
    /* What comes from the guest must not drive the terminal. */
    str_printable(item->name, "");
    str_printable(item->detail, "");
    item->status = status;
    l->n++;
}

bool check_has_failed(const struct check_list *l) {
    for (size_t i = 0; i < l->n; i++)
        if (l->items[i].status == CHECK_FAIL)
            return true;
    return false;
}

const char *check_status_name(enum check_status status) {
    static const char *const names[] = {[CHECK_OK] = "ok", [CHECK_WARN] = "warn", [CHECK_FAIL] = "fail"};
    return names[status];
}

void check_print(const struct check_list *l, FILE *out) {
    for (size_t i = 0; i < l->n; i++)
        fprintf(out, "%-4s  %s%s%s\n", check_status_name(l->items[i].status), l->items[i].name,
                *l->items[i].detail ? ": " : "", l->items[i].detail);
}

/* PREFIX/lib/stasis/KIND/current for PREFIX/bin/stasis. */
static char *installed(const char *kind) {
    cleanup_free char *own = NULL;
    if (path_own_dir(&own, NULL) < 0)
        return NULL;
    cleanup_free char *path = str_printf("%s/../lib/stasis/%s/current", own, kind);
    char *real = path ? realpath(path, NULL) : NULL;
    return real ? real : TAKE_PTR(path);
}

static bool check_vmm(struct check_list *l, const struct config *config) {
    cleanup_json json_t *manifest = NULL;
    cleanup_free char *dir = installed("vmm");
    cleanup_free char *file = dir ? path_join(dir, "manifest.json") : NULL;
    cleanup_free char *root = *config->vmm_root ? strdup(config->vmm_root) : dir ? path_join(dir, "root") : NULL;
    cleanup_free char *virtiofsd = root ? path_join(root, "usr/libexec/virtiofsd") : NULL;
    cleanup_free char *qemu = root ? path_join(root, "usr/bin/qemu-system-x86_64") : NULL;
    struct err err = ERR_INIT;
    if (!qemu || !virtiofsd || access(qemu, X_OK) < 0) {
        check_add(l, CHECK_FAIL, "vmm root", "no qemu-system-x86_64 in %s (run make setup)", root ? root : "?");
        return false;
    }
    const char *qemu_version = "", *virtiofsd_version = "";
    if (!*config->vmm_root && json_parse_file(file, &manifest, &err) < 0) {
        check_add(l, CHECK_FAIL, "vmm root", "%s (run make setup)", err.msg);
        return false;
    }
    (void)json_unpack(manifest, "{s?{s?s}, s?{s?s}}", "qemu", "version", &qemu_version, "virtiofsd", "version",
                      &virtiofsd_version);
    check_add(l, CHECK_OK, "vmm root", "%s%s%s", root, *qemu_version ? ", QEMU " : "", qemu_version);
    bool ok = access(virtiofsd, X_OK) == 0;
    if (ok)
        check_add(l, CHECK_OK, "virtiofsd", "%s", *virtiofsd_version ? virtiofsd_version : virtiofsd);
    else
        check_add(l, CHECK_FAIL, "virtiofsd", "no %s (run make setup)", virtiofsd);
    return ok;
}

static bool check_guest(struct check_list *l, const struct config *config) {
    static const char *const files[] = {"vmlinux", "initramfs", "root.img"};
    cleanup_json json_t *manifest = NULL;
    cleanup_free char *dir = *config->guest_dir ? strdup(config->guest_dir) : installed("guest");
    cleanup_free char *file = dir ? path_join(dir, "manifest.json") : NULL;
    struct err err = ERR_INIT;
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        cleanup_free char *path = dir ? path_join(dir, files[i]) : NULL;
        if (!path || access(path, R_OK) < 0) {
            check_add(l, CHECK_FAIL, "guest", "no %s in %s (run make setup)", files[i], dir ? dir : "?");
            return false;
        }
    }
    if (json_parse_file(file, &manifest, &err) < 0) {
        check_add(l, CHECK_FAIL, "guest", "%s (run make setup)", err.msg);
        return false;
    }
    const char *kernel = "?", *criu = "none", *crun = "none";
    (void)json_unpack(manifest, "{s?s, s?{s?s, s?s}}", "kernel", &kernel, "packages", "criu", &criu, "crun", &crun);
    check_add(l, CHECK_OK, "guest", "%s, kernel %s, criu %s, crun %s", dir, kernel, criu, crun);
    return true;
}

static void check_device(struct check_list *l, const char *name, const char *path, const char *without) {
    if (access(path, R_OK | W_OK) == 0)
        check_add(l, CHECK_OK, name, "%s", path);
    else
        check_add(l, CHECK_WARN, name, "%s: %s; %s", path, strerror(errno), without);
}

static void check_cgroup(struct check_list *l) {
    struct statfs fs;
    if (statfs("/sys/fs/cgroup", &fs) < 0)
        check_add(l, CHECK_WARN, "cgroup", "none mounted; the sandboxes' processes are not limited on this host");
    else if (fs.f_type == CGROUP2_SUPER_MAGIC)
        check_add(l, CHECK_OK, "cgroup", "version 2");
    else
        check_add(l, CHECK_WARN, "cgroup", "version 1 on this host; containers get version 2 in their guest");
}

bool check_host(struct check_list *l, const struct config *config) {
    bool root = geteuid() == 0;
    if (root)
        check_add(l, CHECK_OK, "root", "running as root");
    else
        check_add(l, CHECK_FAIL, "root", "running as uid %d (run stasis as root)", (int)geteuid());
    bool vmm = check_vmm(l, config), guest = check_guest(l, config);
    check_device(l, "vsock", "/dev/vhost-vsock",
                 "the agent is reached over virtio-serial, which needs nothing (for vsock: modprobe vhost_vsock)");
    check_device(l, "tun", "/dev/net/tun", "guests get no network (modprobe tun)");
    check_cgroup(l);
    return root && vmm && guest;
}
