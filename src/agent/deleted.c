/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/deleted.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/cgroup.h"
#include "agent/container.h"
#include "base/fd.h"
#include "base/mountinfo.h"
#include "base/util.h"

#define SUFFIX " (deleted)"
#define DEVICES_MAX 4096 /* mounts of the share, in all mount namespaces */
#define SEEN_SLOTS ((size_t)DELETED_FILES_MAX * 2)
#define VOLUMES_MAX 1024
#define PROC_FILE_MAX ((size_t)16 << 20)

struct file_id {
    dev_t dev;
    uint64_t ino; /* 0: an empty slot */
};

struct scan {
    const char *fstype;
    struct deleted_list *list;
    const struct deleted_list *known; /* NULL: none */
    bool copy;
    dev_t volumes[VOLUMES_MAX]; /* that are what they were */
    size_t n_volumes;
    dev_t *devices; /* of the share */
    size_t n_devices;
    uint64_t *namespaces; /* mount namespaces whose mounts are known */
    size_t n_namespaces;
    struct file_id *seen;
    size_t n_seen;
    pid_t *done; /* processes that were looked at */
    size_t n_done;
};

static bool has_suffix(const char *link) {
    size_t len = strlen(link);
    return len > strlen(SUFFIX) && strcmp(link + len - strlen(SUFFIX), SUFFIX) == 0;
}

bool deleted_judge(const struct deleted_stat *s) {
    if (s->links == 0)
        return true;
    /* An overlay counts 1 for each directory. */
    return has_suffix(s->link) && (s->is_directory || s->links == 1);
}

bool deleted_is_replaced(const struct deleted_stat *s) {
    return s->known_ino && s->ino && s->known_ino != s->ino;
}

/* Which devices are the share's. */

static bool is_known_namespace(struct scan *s, int proc) {
    struct stat st;
    if (fstatat(proc, "ns/mnt", &st, 0) < 0)
        return true; /* the process is ending */
    for (size_t i = 0; i < s->n_namespaces; i++)
        if (s->namespaces[i] == st.st_ino)
            return true;
    if (s->n_namespaces < DEVICES_MAX)
        s->namespaces[s->n_namespaces++] = st.st_ino;
    return false;
}

static bool is_device(const struct scan *s, dev_t dev) {
    for (size_t i = 0; i < s->n_devices; i++)
        if (s->devices[i] == dev)
            return true;
    return false;
}

static bool is_same_volume(const struct scan *s, dev_t dev) {
    for (size_t i = 0; i < s->n_volumes; i++)
        if (s->volumes[i] == dev)
            return true;
    return false;
}

/* Whether it is the volume that it was, by the number of its top directory. */
static void learn_volume(struct scan *s, pid_t pid, const char *mount_point, dev_t dev) {
    cleanup_free char *path = str_printf("/proc/%d/root%s", (int)pid, mount_point);
    struct statx was, is;
    if (!path || s->n_volumes == VOLUMES_MAX || is_same_volume(s, dev) ||
        statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_INO, &was) < 0 ||
        makedev(was.stx_dev_major, was.stx_dev_minor) != dev || /* another file system is mounted over it */
        statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_INO, &is) < 0 || was.stx_ino != is.stx_ino)
        return;
    s->volumes[s->n_volumes++] = dev;
}

/* Each mount below the share is a file system of its own, seen as a whole where it is a container's root or volume. */
static void learn_devices(struct scan *s, pid_t pid) {
    CLEANUP(mountinfo_close) struct mountinfo m = {0};
    struct mountinfo_entry e;
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)pid);
    if (mountinfo_open(path, &m, NULL) < 0) /* it has ended, or its namespace has */
        return;
    while (mountinfo_next(&m, &e)) {
        char *minor_text = NULL;
        unsigned long major_nr = strtoul(e.dev, &minor_text, 10);
        if (strcmp(e.type, s->fstype) != 0 || *minor_text != ':')
            continue;
        dev_t dev = makedev((unsigned)major_nr, (unsigned)strtoul(minor_text + 1, NULL, 10));
        if (!is_device(s, dev) && s->n_devices < DEVICES_MAX)
            s->devices[s->n_devices++] = dev;
        if (s->copy && pid != getpid() && strcmp(e.root, "/") == 0 && strcmp(e.mount_point, "/") != 0)
            learn_volume(s, pid, e.mount_point, dev);
    }
}

/* Each file once. False also when there are too many. */
static bool is_new(struct scan *s, dev_t dev, uint64_t ino) {
    size_t slot = (size_t)(ino * UINT64_C(0x9e3779b97f4a7c15) ^ dev) % SEEN_SLOTS;
    for (; s->seen[slot].ino; slot = (slot + 1) % SEEN_SLOTS)
        if (s->seen[slot].ino == ino && s->seen[slot].dev == dev)
            return false;
    if (s->n_seen == DELETED_FILES_MAX)
        return false;
    s->seen[slot] = (struct file_id){.dev = dev, .ino = ino};
    s->n_seen++;
    return true;
}

/* One file. */

static void printable(char *s) {
    for (; *s; s++)
        if (*s < ' ' || *s > '~')
            *s = '?';
}

static bool is_known(const struct deleted_list *known, const struct deleted_file *f) {
    for (size_t i = 0; known && i < known->n; i++)
        if (known->v[i].pid == f->pid && strcmp(known->v[i].path, f->path) == 0)
            return true;
    return false;
}

static void found(struct scan *s, const char *container_id, pid_t pid, int proc, const char *link, bool replaced) {
    struct deleted_list *l = s->list;
    cleanup_free char *comm = NULL;
    if (l->n == DELETED_MAX) {
        l->more++;
        return;
    }
    struct deleted_file *f = &l->v[l->n];
    size_t len = strlen(link);
    if (has_suffix(link))
        len -= strlen(SUFFIX);
    f->pid = pid;
    f->replaced = replaced;
    snprintf(f->container_id, sizeof(f->container_id), "%s", container_id);
    snprintf(f->path, sizeof(f->path), "%.*s", (int)len, link);
    if (file_read_at(proc, "comm", PROC_FILE_MAX, &comm, NULL, NULL) == 0)
        snprintf(f->command, sizeof(f->command), "%.*s", (int)strcspn(comm, "\n"), comm);
    printable(f->command);
    printable(f->path);
    if (!is_known(s->known, f))
        l->n++;
}

/* What /proc/PID/<name> leads to. */
static void look_at(struct scan *s, const char *container_id, pid_t pid, int proc, const char *name) {
    char link[PATH_MAX];
    struct statx sx;
    /* First what the kernel knows by itself; a server that is no host of ours (a FUSE file system of a container, which
     * may be frozen) is never asked. */
    if (statx(proc, name, AT_STATX_DONT_SYNC, STATX_INO, &sx) < 0)
        return;
    dev_t dev = makedev(sx.stx_dev_major, sx.stx_dev_minor);
    if (!is_device(s, dev) || !is_new(s, dev, sx.stx_ino))
        return;
    ssize_t n = readlinkat(proc, name, link, sizeof(link) - 1);
    if (n < 0)
        return;
    link[n] = '\0';
    struct deleted_stat st = {.link = link, .known_ino = is_same_volume(s, dev) ? sx.stx_ino : 0};
    if (statx(proc, name, AT_STATX_FORCE_SYNC, STATX_NLINK | STATX_TYPE | STATX_INO, &sx) == 0) {
        st.is_directory = S_ISDIR(sx.stx_mode);
        st.links = sx.stx_nlink;
        st.ino = sx.stx_ino;
    }
    if (deleted_judge(&st) || deleted_is_replaced(&st))
        found(s, container_id, pid, proc, link, deleted_is_replaced(&st));
}

/* Processes. */

static void look_below(struct scan *s, const char *container_id, pid_t pid, int proc, const char *dir_name) {
    int fd = openat(proc, dir_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    char name[32 + NAME_MAX];
    struct dirent *e;
    if (!dir) {
        fd_close(fd);
        return;
    }
    while ((e = readdir(dir)))
        if (e->d_name[0] != '.') {
            snprintf(name, sizeof(name), "%s/%s", dir_name, e->d_name);
            look_at(s, container_id, pid, proc, name);
        }
}

static bool is_done(struct scan *s, pid_t pid) {
    for (size_t i = 0; i < s->n_done; i++)
        if (s->done[i] == pid)
            return true;
    if (s->n_done < CGROUP_PIDS_MAX)
        s->done[s->n_done++] = pid;
    return false;
}

static void look_at_process(struct scan *s, const char *container_id, pid_t pid) {
    static const char *const links[] = {"exe", "cwd", "root"};
    char path[32], none[1];
    snprintf(path, sizeof(path), "/proc/%d", (int)pid);
    cleanup_fd int proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (proc < 0 || is_done(s, pid))
        return;
    /* The kernel's own threads run no file, and have none. They are most of what there is. */
    if (readlinkat(proc, "exe", none, sizeof(none)) < 0)
        return;
    if (!is_known_namespace(s, proc))
        learn_devices(s, pid);
    for (size_t i = 0; i < ARRAY_SIZE(links); i++)
        look_at(s, container_id, pid, proc, links[i]);
    look_below(s, container_id, pid, proc, "fd");
    look_below(s, container_id, pid, proc, "map_files");
}

static int look_at_containers(struct scan *s, const struct agent *a, struct err *err) {
    for (const struct container *c = a->containers; c; c = c->next) {
        cleanup_free pid_t *pids = NULL;
        size_t n = 0;
        int r = c->cgroup_fd < 0 ? 0 : cgroup_pids(c->cgroup_fd, &pids, &n, err);
        if (r == -ENODEV || r == -ENOENT) /* one that has stopped, and whose group somebody removed */
            continue;
        if (r < 0)
            return err_wrap(err, "container %s", c->id);
        for (size_t i = 0; i < n; i++)
            look_at_process(s, c->id, pids[i]);
    }
    return 0;
}

static int look_at_all(struct scan *s, struct err *err) {
    cleanup_dir DIR *dir = opendir("/proc");
    struct dirent *e;
    uint64_t pid;
    if (!dir)
        return err_errno(err, errno, "cannot list the processes of the guest");
    while ((e = readdir(dir)))
        if (parse_u64(e->d_name, INT_MAX, &pid) == 0)
            look_at_process(s, "", (pid_t)pid);
    return 0;
}

static int scan(const struct agent *a, const struct scan *what, struct err *err) {
    cleanup_free dev_t *devices = calloc(DEVICES_MAX, sizeof(*devices));
    cleanup_free uint64_t *namespaces = calloc(DEVICES_MAX, sizeof(*namespaces));
    cleanup_free struct file_id *seen = calloc(SEEN_SLOTS, sizeof(*seen));
    cleanup_free pid_t *done = calloc(CGROUP_PIDS_MAX, sizeof(*done));
    struct scan s = *what;
    s.devices = devices;
    s.namespaces = namespaces;
    s.seen = seen;
    s.done = done;
    if (!devices || !namespaces || !seen || !done)
        return err_set(err, ENOMEM, "out of memory");
    learn_devices(&s, getpid());
    int r = look_at_containers(&s, a, err);
    return r < 0 || s.copy ? r : look_at_all(&s, err);
}

int deleted_scan(const struct agent *a, const char *fstype, struct deleted_list *list, struct err *err) {
    const struct scan s = {.fstype = fstype, .list = list};
    return scan(a, &s, err);
}

int deleted_scan_copy(const struct agent *a, const char *fstype, const struct deleted_list *known,
                      struct deleted_list *list, struct err *err) {
    const struct scan s = {.fstype = fstype, .list = list, .known = known, .copy = true};
    return known && known->more ? 0 : scan(a, &s, err);
}

static int refuse(const struct deleted_list *l, bool copy, struct err *err) {
    for (size_t i = 0; i < MIN(l->n, (size_t)DELETED_NAMED_MAX); i++) {
        const struct deleted_file *f = &l->v[i];
        err_append(err, "%s %.200s (%s%s%s, pid %d)%s", i ? "," : "", f->path, f->command,
                   *f->container_id ? " in " : "", f->container_id, (int)f->pid,
                   !copy         ? ""
                   : f->replaced ? " is another file"
                                 : " is gone");
    }
    if (l->n + l->more > DELETED_NAMED_MAX)
        err_append(err, " and %zu more", l->n + l->more - DELETED_NAMED_MAX);
    return -EBUSY;
}

int deleted_refuse(const struct deleted_list *l, struct err *err) {
    err_set(err, EBUSY, "deleted files of the share are in use, which a copy would not have:");
    return refuse(l, false, err);
}

int deleted_refuse_copy(const struct deleted_list *l, struct err *err) {
    err_set(err, EBUSY, "files that are in use are not what they were when it was saved:");
    return refuse(l, true, err);
}
