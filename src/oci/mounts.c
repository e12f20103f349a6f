/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mounts[] for the guest.
 *
 * Theory of operation. A mount is either a file system that the guest's kernel makes by itself (proc, tmpfs, …), which
 * passes through with the options that crun and that file system know, or a bind of something on the host. The host
 * mounts the latter at share/<ctr>/mounts/<n> and the guest binds it from there. A bind of one of the host's kernel
 * file systems (/proc, /sys, /dev, a cgroup tree) would show the host to the guest and is refused, but for the cases
 * where the user plainly means "the one that belongs there": source and destination are the same, or a device that
 * every Linux has; these become the guest's own.
 */
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mountinfo.h"
#include "base/path.h"
#include "oci/rewrite.h"

#ifndef MQUEUE_MAGIC
#define MQUEUE_MAGIC 0x19800202
#endif

#define SUBMOUNTS_MAX 64 /* below one read-only bind; with more, all of it is read-only */

enum option_action {
    OPT_PASS,
    OPT_BIND,   /* makes the mount a bind; set again by us */
    OPT_SILENT, /* left out: it changes nothing that can be seen */
    OPT_NOTE,   /* left out with a note */
    OPT_REFUSE, /* cannot be honoured, and the user relies on it */
};

/* The specification's options (config.md, "Linux mount options"), and what crun makes of them. */
static const struct option {
    const char *name;
    enum option_action action;
} options[] = {
    {"async", OPT_PASS},
    {"atime", OPT_PASS},
    {"bind", OPT_BIND},
    {"defaults", OPT_PASS},
    {"dev", OPT_PASS},
    {"diratime", OPT_PASS},
    {"dirsync", OPT_PASS},
    {"exec", OPT_PASS},
    {"idmap", OPT_REFUSE},
    {"iversion", OPT_NOTE},
    {"lazytime", OPT_NOTE},
    {"loud", OPT_SILENT},
    {"mand", OPT_PASS},
    {"noatime", OPT_PASS},
    {"nodev", OPT_PASS},
    {"nodiratime", OPT_PASS},
    {"noexec", OPT_PASS},
    {"noiversion", OPT_NOTE},
    {"nolazytime", OPT_NOTE},
    {"nomand", OPT_PASS},
    {"norelatime", OPT_PASS},
    {"nostrictatime", OPT_PASS},
    {"nosuid", OPT_PASS},
    {"nosymfollow", OPT_REFUSE},
    {"private", OPT_PASS},
    {"ratime", OPT_PASS},
    {"rbind", OPT_BIND},
    {"rdev", OPT_PASS},
    {"rdiratime", OPT_PASS},
    {"relatime", OPT_PASS},
    {"remount", OPT_REFUSE},
    {"rexec", OPT_PASS},
    {"ridmap", OPT_REFUSE},
    {"rnoatime", OPT_PASS},
    {"rnodev", OPT_PASS},
    {"rnodiratime", OPT_PASS},
    {"rnoexec", OPT_PASS},
    {"rnorelatime", OPT_PASS},
    {"rnostrictatime", OPT_PASS},
    {"rnosuid", OPT_PASS},
    {"rnosymfollow", OPT_REFUSE},
    {"ro", OPT_PASS},
    {"rprivate", OPT_PASS},
    {"rrelatime", OPT_PASS},
    {"rro", OPT_PASS},
    {"rrw", OPT_PASS},
    {"rshared", OPT_PASS},
    {"rslave", OPT_PASS},
    {"rstrictatime", OPT_PASS},
    {"rsuid", OPT_PASS},
    {"rsymfollow", OPT_SILENT},
    {"runbindable", OPT_PASS},
    {"rw", OPT_PASS},
    {"shared", OPT_PASS},
    {"silent", OPT_SILENT},
    {"slave", OPT_PASS},
    {"strictatime", OPT_PASS},
    {"suid", OPT_PASS},
    {"symfollow", OPT_SILENT},
    {"sync", OPT_PASS},
    {"tmpcopyup", OPT_PASS},
    {"unbindable", OPT_PASS},
};

/* File systems that the guest's kernel makes, with the options of their own; "x=" takes a value. */
static const struct fs {
    const char *type, *guest_type;
    const char *own[12];
} file_systems[] = {
    {"proc", "proc", {"hidepid=", "gid=", "subset="}},
    {"sysfs", "sysfs", {NULL}},
    {"tmpfs",
     "tmpfs",
     {"size=", "nr_blocks=", "nr_inodes=", "mode=", "uid=", "gid=", "huge=", "mpol=", "inode32", "inode64", "noswap"}},
    {"devpts", "devpts", {"newinstance", "ptmxmode=", "mode=", "uid=", "gid=", "max="}},
    {"mqueue", "mqueue", {NULL}},
    {"cgroup", "cgroup", {NULL}},
    {"cgroup2", "cgroup", {NULL}},
};

/* One of mounts[] on its way. */
struct mount {
    size_t index;
    const char *type, *source, *destination;
    const json_t *options;
    bool bind, recursive, read_only;
    bool below;         /* what is mounted below the one that the options are of */
    bool all_read_only; /* "rro": and what is mounted below */
};

const char *oci_mount_option_name(size_t i) {
    size_t n = 0;
    for (size_t k = 0; k < ARRAY_SIZE(options); k++)
        if (options[k].action != OPT_REFUSE && options[k].action != OPT_NOTE && n++ == i)
            return options[k].name;
    return NULL;
}

static const struct option *find_option(const char *name) {
    for (size_t i = 0; i < ARRAY_SIZE(options); i++)
        if (strcmp(options[i].name, name) == 0)
            return &options[i];
    return NULL;
}

static const struct fs *find_fs(const char *type) {
    for (size_t i = 0; i < ARRAY_SIZE(file_systems); i++)
        if (strcmp(file_systems[i].type, type) == 0)
            return &file_systems[i];
    return NULL;
}

static bool fs_has_option(const struct fs *fs, const char *opt) {
    for (size_t i = 0; fs && i < ARRAY_SIZE(fs->own) && fs->own[i]; i++) {
        const char *own = fs->own[i];
        size_t n = strlen(own);
        if (own[n - 1] == '=' ? strncmp(opt, own, n) == 0 : strcmp(opt, own) == 0)
            return true;
    }
    return false;
}

static bool is_selinux_option(const char *opt) {
    return strncmp(opt, "context=", 8) == 0 || strncmp(opt, "fscontext=", 10) == 0 ||
           strncmp(opt, "defcontext=", 11) == 0 || strncmp(opt, "rootcontext=", 12) == 0;
}

static int one_option(struct rewrite *rw, const struct mount *m, size_t i, const struct fs *fs, json_t *to,
                      struct err *err) {
    const char *s = json_string_value(json_array_get(m->options, i));
    const struct option *o = find_option(s);
    if (o && o->action == OPT_REFUSE)
        return err_set(err, EOPNOTSUPP, "mounts[%zu].options[%zu]: \"%s\" is not supported", m->index, i, s);
    if (o && (o->action == OPT_BIND || o->action == OPT_SILENT))
        return 0;
    if (m->below && (strcmp(s, "ro") == 0 || strcmp(s, "rw") == 0))
        return 0;
    if (o && o->action == OPT_NOTE)
        return note_add(&rw->out->notes, err, "mounts[%zu].options[%zu]: \"%s\" is not supported, ignored", m->index, i,
                        s);
    if (is_selinux_option(s))
        return note_add(&rw->out->notes, err, "mounts[%zu].options[%zu]: the guest has no SELinux, ignored", m->index,
                        i);
    if (!o && !fs_has_option(fs, s))
        return err_set(err, EINVAL, "mounts[%zu].options[%zu]: unknown option \"%.100s\" for %s", m->index, i, s,
                       m->bind ? "a bind mount" : m->type);
    if (m->bind && strcmp(s, "tmpcopyup") == 0)
        return err_set(err, EINVAL, "mounts[%zu].options[%zu]: \"tmpcopyup\" is only for tmpfs", m->index, i);
    return json_push(to, json_string(s), err);
}

static int add_guest_mount(struct rewrite *rw, const struct mount *m, const char *type, const char *source,
                           const char *first_option, const struct fs *fs, struct err *err) {
    cleanup_json json_t *opts = json_array();
    int r = first_option ? json_push(opts, json_string(first_option), err) : 0;
    for (size_t i = 0; r == 0 && i < json_array_size(m->options); i++)
        r = one_option(rw, m, i, fs, opts, err);
    if (r < 0)
        return r;
    json_t *guest = json_pack("{s:s+, s:s, s:s, s:O}", "destination", m->destination[0] == '/' ? "" : "/",
                              m->destination, "type", type, "source", source, "options", opts);
    return json_push(json_object_get(rw->guest, "mounts"), guest, err);
}

/* True if path is dir or below it. */
static bool is_below(const char *path, const char *dir) {
    size_t n = strlen(dir);
    return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

/* File systems that are windows into the host's kernel rather than storage, wherever they are mounted. */
static bool is_kernel_fs(const char *path) {
    static const long magics[] = {
        PROC_SUPER_MAGIC,    SYSFS_MAGIC,          CGROUP_SUPER_MAGIC,
        CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC,        TRACEFS_MAGIC,
        SECURITYFS_MAGIC,    BPF_FS_MAGIC,         DEVPTS_SUPER_MAGIC,
        MQUEUE_MAGIC,        HUGETLBFS_MAGIC,      NSFS_MAGIC,
        EFIVARFS_MAGIC,      PSTOREFS_MAGIC,       SELINUX_MAGIC,
        BINFMTFS_MAGIC,      BINDERFS_SUPER_MAGIC, 0x62656570 /* configfs */,
    };
    struct statfs fs;
    if (statfs(path, &fs) < 0)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(magics); i++)
        if ((unsigned long)fs.f_type == (unsigned long)magics[i])
            return true;
    return false;
}

/* /dev/shm is an ordinary tmpfs with the user's files, though it is below /dev. */
static bool is_host_kernel_path(const char *real) {
    if (is_below(real, "/dev/shm"))
        return false;
    return is_below(real, "/proc") || is_below(real, "/sys") || is_below(real, "/dev") || is_kernel_fs(real);
}

/* A kernel file system of the host that is bound to its own place: the guest's own one takes that place. */
static const char *guest_twin(const char *source, const char *destination) {
    static const char *const twins[][2] = {
        {"/proc", "proc"}, {"/sys", "sysfs"}, {"/sys/fs/cgroup", "cgroup"}, {"/dev/mqueue", "mqueue"}};
    for (size_t i = 0; i < ARRAY_SIZE(twins); i++)
        if (strcmp(source, twins[i][0]) == 0 && strcmp(destination, twins[i][0]) == 0)
            return twins[i][1];
    return NULL;
}

static int bind_of_kernel_fs(struct rewrite *rw, struct mount *m, const char *real, const struct stat *st,
                             struct err *err) {
    const char *twin = guest_twin(real, m->destination);
    if (twin) {
        int r = note_add(&rw->out->notes, err, "mounts[%zu]: %s is the guest's own, not the host's", m->index, real);
        return r < 0 ? r : add_guest_mount(rw, m, twin, twin, NULL, find_fs(twin), err);
    }
    const char *device = S_ISCHR(st->st_mode) ? oci_guest_device(major(st->st_rdev), minor(st->st_rdev)) : NULL;
    if (device) {
        int r =
            note_add(&rw->out->notes, err, "mounts[%zu]: device %s is the guest's own, not the host's", m->index, real);
        return r < 0 ? r : add_guest_mount(rw, m, "bind", device, "bind", NULL, err);
    }
    return err_set(err, EOPNOTSUPP, "mounts[%zu].source: %s %s and cannot be used in a VM", m->index, m->source,
                   S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode) ? "is a device of the host"
                                                                : "belongs to the host's kernel");
}

/* The paths, relative to real, of what the host has mounted below it; parents before children, as they were mounted.
 * ret->n is 0 if there is nothing, or something that a container shall not write to for being mounted there: the
 * host's kernel file systems, or more than is looked at. */
static int writable_below(const char *real, struct strv *ret, struct err *err) {
    struct mountinfo table = {0};
    struct mountinfo_entry e;
    size_t len = strcmp(real, "/") == 0 ? 0 : strlen(real);
    bool refused = false;
    int r = mountinfo_open(MOUNTINFO_SELF, &table, err);
    while (r == 0 && !refused && mountinfo_next(&table, &e)) {
        if (!is_below(e.mount_point, len ? real : "") || !e.mount_point[len] || !e.mount_point[len + 1])
            continue;
        refused = ret->n >= SUBMOUNTS_MAX || is_host_kernel_path(e.mount_point);
        bool known = access(e.mount_point, F_OK) < 0; /* hidden by another mount */
        for (size_t i = 0; i < ret->n && !known; i++)
            known = strcmp(ret->v[i], e.mount_point + len) == 0;
        if (!known && strv_add(ret, e.mount_point + len) < 0)
            r = err_set(err, ENOMEM, "out of memory");
    }
    mountinfo_close(&table);
    if (r < 0 || refused)
        strv_clear(ret);
    return r;
}

/* The guest mounts what is below by itself: as parts of the one read-only mount they would be read-only. */
static int add_mounts_below(struct rewrite *rw, const struct mount *m, const char *guest_source,
                            const struct strv *below, struct err *err) {
    int r = 0;
    for (size_t i = 0; r == 0 && i < below->n; i++) {
        cleanup_free char *destination = str_printf("%s%s", m->destination, below->v[i]);
        cleanup_free char *source = str_printf("%s%s", guest_source, below->v[i]);
        if (!destination || !source)
            return err_set(err, ENOMEM, "out of memory");
        struct mount part = *m;
        part.destination = destination;
        part.below = true;
        r = add_guest_mount(rw, &part, "bind", source, "bind", NULL, err);
    }
    return r;
}

static int add_share_mount(struct rewrite *rw, const struct mount *m, const char *real, struct err *err) {
    struct oci_guest_spec *out = rw->out;
    struct oci_share_mount *grown = realloc(out->mounts, (out->n_mounts + 1) * sizeof(*grown));
    if (!grown)
        return err_set(err, ENOMEM, "out of memory");
    out->mounts = grown;
    unsigned n = (unsigned)out->n_mounts;
    cleanup_strv struct strv below = {0};
    int r = m->read_only && m->recursive && !m->all_read_only ? writable_below(real, &below, err) : 0;
    if (r < 0)
        return r;
    char *source = strdup(real);
    if (!source)
        return err_set(err, ENOMEM, "out of memory");
    out->mounts[out->n_mounts++] = (struct oci_share_mount){.source = source,
                                                            .read_only = m->read_only,
                                                            .recursive = m->recursive,
                                                            .top_only = below.n > 0,
                                                            .index = n,
                                                            .spec_index = (unsigned)m->index};
    char guest_source[ID_MAX + 64];
    snprintf(guest_source, sizeof(guest_source), OCI_GUEST_SHARE "/%s/mounts/%u", rw->id, n);
    r = add_guest_mount(rw, m, "bind", guest_source, m->recursive ? "rbind" : "bind", NULL, err);
    return r < 0 ? r : add_mounts_below(rw, m, guest_source, &below, err);
}

static int rewrite_bind(struct rewrite *rw, struct mount *m, struct err *err) {
    if (!m->source || !*m->source)
        return err_set(err, EINVAL, "mounts[%zu].source: is missing", m->index);
    cleanup_free char *path = m->source[0] == '/' ? strdup(m->source) : path_join(rw->bundle, m->source);
    if (!path)
        return err_set(err, ENOMEM, "out of memory");
    /* With links resolved: what is checked here is what the host mounts. */
    cleanup_free char *real = realpath(path, NULL);
    struct stat st;
    if (!real || lstat(real, &st) < 0)
        return err_errno(err, errno, "mounts[%zu].source: cannot use %s", m->index, path);
    if (is_host_kernel_path(real) || S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
        return bind_of_kernel_fs(rw, m, real, &st, err);
    if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
        return err_set(err, EOPNOTSUPP,
                       "mounts[%zu].source: %s is a %s of the host, which has no other end in a VM; only files and "
                       "directories can be mounted",
                       m->index, path, S_ISSOCK(st.st_mode) ? "socket" : "FIFO");
    return add_share_mount(rw, m, real, err);
}

static void read_options(struct mount *m) {
    m->bind = strcmp(m->type, "bind") == 0;
    for (size_t i = 0; i < json_array_size(m->options); i++) {
        const char *s = json_string_value(json_array_get(m->options, i));
        if (strcmp(s, "bind") == 0 || strcmp(s, "rbind") == 0) {
            m->bind = true;
            m->recursive = s[0] == 'r';
        } else if (strcmp(s, "ro") == 0 || strcmp(s, "rro") == 0) {
            m->read_only = true;
            m->all_read_only |= s[1] == 'r';
        } else if (strcmp(s, "rw") == 0 || strcmp(s, "rrw") == 0) {
            m->read_only = false;
            m->all_read_only &= s[1] != 'r';
        }
    }
}

static int rewrite_mount(struct rewrite *rw, size_t index, const json_t *in, struct err *err) {
    const char *type = json_string_value(json_object_get(in, "type"));
    struct mount m = {
        .index = index,
        .type = type ? type : "",
        .source = json_string_value(json_object_get(in, "source")),
        .destination = json_string_value(json_object_get(in, "destination")),
        .options = json_object_get(in, "options"),
    };
    if (!*m.destination)
        return err_set(err, EINVAL, "mounts[%zu].destination: must not be empty", index);
    if (strlen(m.destination) >= PATH_MAX - 1)
        return err_set(err, EINVAL, "mounts[%zu].destination: longer than %d bytes", index, PATH_MAX - 2);
    if (json_array_size(json_object_get(in, "uidMappings")) || json_array_size(json_object_get(in, "gidMappings")))
        return err_set(err, EOPNOTSUPP, "mounts[%zu].uidMappings: id-mapped mounts are not supported", index);
    read_options(&m);
    if (m.bind)
        return rewrite_bind(rw, &m, err);
    const struct fs *fs = find_fs(m.type);
    if (!fs)
        return err_set(err, EOPNOTSUPP,
                       "mounts[%zu].type: \"%.64s\" is not supported; use bind, tmpfs, proc, sysfs, devpts, mqueue or "
                       "cgroup",
                       index, m.type);
    const char *source = m.source && *m.source ? m.source : fs->guest_type;
    return add_guest_mount(rw, &m, fs->guest_type, strcmp(fs->guest_type, "cgroup") == 0 ? "cgroup" : source, NULL, fs,
                           err);
}

int rewrite_mounts(struct rewrite *rw, struct err *err) {
    const json_t *list = json_object_get(rw->spec, "mounts");
    int r = json_put(rw->guest, "mounts", json_array(), err);
    for (size_t i = 0; r >= 0 && i < json_array_size(list); i++)
        r = rewrite_mount(rw, i, json_array_get(list, i), err);
    return r;
}
