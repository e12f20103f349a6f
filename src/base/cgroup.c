/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cgroup.h"

#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cgroup_path.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mountinfo.h"
#include "base/path.h"
#include "base/util.h"

#define PROCS "cgroup.procs"
#define REMOVE_RETRY_USEC (5 * 1000)
static_assert(CGROUP_DEPTH_MAX <= 64, "hierarchy.made has a bit for each directory");

const struct cgroup_host cgroup_host_self = {.mountinfo = MOUNTINFO_SELF, .self = "/proc/self/cgroup"};

struct hierarchy {
    char *dev;         /* tells the hierarchy: it may be mounted more than once */
    char *mount_point; /* the first one's */
    char *root;        /* which directory of the hierarchy that is */
    char *options;     /* ",cpu,cpuacct," of version 1 */
    char *home;        /* directory to go back to */
    char *why;         /* it was not entered */
    bool v2, cpuset, entered;
    uint64_t made; /* bit i: the directory of the path's first i + 1 names was made here */
};

struct cgroup_place {
    struct strv names; /* of the path's directories */
    struct hierarchy *v;
    size_t n;
};

static struct cgroup_place *place_free(struct cgroup_place *p) {
    if (!p)
        return NULL;
    for (size_t i = 0; i < p->n; i++) {
        struct hierarchy *h = &p->v[i];
        free(h->dev);
        free(h->mount_point);
        free(h->root);
        free(h->options);
        free(h->home);
        free(h->why);
    }
    free(p->v);
    strv_clear(&p->names);
    free(p);
    return NULL;
}
DEFINE_CLEANUP(struct cgroup_place *, place_free);
#define cleanup_place CLEANUP(place_freep)

static bool has_option(const char *options, const char *name, size_t len) {
    for (const char *p = options; *p; p += strcspn(p, ",")) {
        p += *p == ',';
        if (strncmp(p, name, len) == 0 && (p[len] == ',' || p[len] == '\0'))
            return true;
    }
    return false;
}

/* Takes a mounted hierarchy into the list, once. */
static int add_hierarchy(struct cgroup_place *p, const struct mountinfo_entry *e, struct err *err) {
    bool v2 = strcmp(e->type, "cgroup2") == 0;
    if (!v2 && strcmp(e->type, "cgroup") != 0)
        return 0;
    for (size_t i = 0; i < p->n; i++)
        if (strcmp(p->v[i].dev, e->dev) == 0)
            return 0;
    if (p->n == CGROUP_HIERARCHIES_MAX)
        return err_set(err, E2BIG, "more than %d cgroup hierarchies are mounted", CGROUP_HIERARCHIES_MAX);
    struct hierarchy *v = realloc(p->v, (p->n + 1) * sizeof(*v));
    if (!v)
        return err_set(err, ENOMEM, "out of memory");
    p->v = v;
    v[p->n] = (struct hierarchy){
        .dev = strdup(e->dev),
        .mount_point = strdup(e->mount_point),
        .root = strdup(e->root),
        .options = strdup(e->super_options),
        .v2 = v2,
        .cpuset = !v2 && has_option(e->super_options, "cpuset", strlen("cpuset")),
    };
    struct hierarchy *h = &v[p->n++];
    return h->dev && h->mount_point && h->root && h->options ? 0 : err_set(err, ENOMEM, "out of memory");
}

/* The path and every mounted hierarchy, nothing entered yet. */
static int place_new(const struct cgroup_host *host, const char *cgroups_path, struct cgroup_place **ret,
                     struct err *err) {
    cleanup_place struct cgroup_place *p = calloc(1, sizeof(*p));
    if (!p) {
        err_set(err, ENOMEM, "out of memory");
        return -ENOMEM;
    }
    int r = cgroup_path_split(cgroups_path, &p->names, err);
    if (r < 0)
        return r;
    struct mountinfo table = {0};
    struct mountinfo_entry e;
    r = mountinfo_open(host->mountinfo, &table, err);
    while (r == 0 && mountinfo_next(&table, &e))
        r = add_hierarchy(p, &e, err);
    mountinfo_close(&table);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(p);
    return 0;
}

/* The directory of the path's first n names, malloc'd. */
static char *dir_path(const struct cgroup_place *p, const struct hierarchy *h, size_t n) {
    size_t size = strlen(h->mount_point) + 1;
    for (size_t i = 0; i < n; i++)
        size += strlen(p->names.v[i]) + 1;
    char *path = malloc(size);
    if (!path)
        return NULL;
    char *end = stpcpy(path, h->mount_point);
    for (size_t i = 0; i < n; i++) {
        *end++ = '/';
        end = stpcpy(end, p->names.v[i]);
    }
    return path;
}

/* Where in its mount the directory `path` of the hierarchy is. Only a part of the hierarchy may be mounted (a container
 * sees its own): what lies outside is out of reach, and the mount's top is as near as one can get. */
static char *home_path(const struct hierarchy *h, const char *path) {
    size_t len = strcmp(h->root, "/") == 0 ? 0 : strlen(h->root);
    if (strncmp(path, h->root, len) != 0 || (path[len] != '/' && path[len] != '\0') || strstr(path, "/.."))
        return strdup(h->mount_point);
    return path_join(h->mount_point, path + len);
}

/* Finds out of "ID:CONTROLLER[,…]:PATH" lines where this process is in each hierarchy. */
static int find_home(struct cgroup_place *p, const char *self, struct err *err) {
    cleanup_free char *text = NULL;
    int r = file_read_at(AT_FDCWD, self, CGROUP_LIST_MAX, &text, NULL, err);
    if (r < 0)
        return r;
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *list = strchr(line, ':'), *path = list ? strchr(++list, ':') : NULL;
        if (!path)
            continue;
        *path++ = '\0';
        for (size_t i = 0; i < p->n; i++) {
            struct hierarchy *h = &p->v[i];
            if (h->home || h->v2 != (*list == '\0') || (!h->v2 && !has_option(h->options, list, strcspn(list, ","))))
                continue;
            if (!(h->home = home_path(h, path)))
                return err_set(err, ENOMEM, "out of memory");
        }
    }
    return 0;
}

static int enter_dir(const char *dir, struct err *err) {
    cleanup_fd int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "cannot open cgroup %s", dir);
    int r = file_write_at(fd, PROCS, "0", err); /* 0: the process that writes */
    return r < 0 ? err_wrap(err, "cannot enter cgroup %s", dir) : r;
}

/* Fills an empty cpuset.cpus or cpuset.mems in from the directory above. */
static int fill_cpuset(const char *dir, struct err *err) {
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
    cleanup_fd int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    cleanup_fd int parent = fd < 0 ? -1 : openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0)
        return err_errno(err, errno, "cannot open cgroup %s", dir);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        cleanup_free char *own = NULL, *above = NULL;
        int r = file_read_at(fd, files[i], CGROUP_LIST_MAX, &own, NULL, err);
        if (r == 0 && (*own == '\0' || *own == '\n')) {
            r = file_read_at(parent, files[i], CGROUP_LIST_MAX, &above, NULL, err);
            if (r == 0)
                r = file_write_at(fd, files[i], above, err);
        }
        if (r < 0)
            return err_wrap(err, "cgroup %s", dir);
    }
    return 0;
}

/* Lets a directory's children have their own counts, controller by controller. What cannot be had (a controller that is
 * not for this kind of group) costs only the count. */
static void share_controllers(const char *dir) {
    cleanup_free char *text = NULL;
    cleanup_fd int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || file_read_at(fd, "cgroup.controllers", CGROUP_LIST_MAX, &text, NULL, NULL) < 0)
        return;
    for (char *save = NULL, *name = strtok_r(text, " \n", &save); name; name = strtok_r(NULL, " \n", &save)) {
        char value[NAME_MAX];
        struct err err = ERR_INIT;
        snprintf(value, sizeof(value), "+%s", name);
        if (file_write_at(fd, "cgroup.subtree_control", value, &err) < 0)
            log_debug("cgroup %s: %s", dir, err.msg);
    }
}

static int make_dirs(const struct cgroup_place *p, struct hierarchy *h, struct err *err) {
    for (size_t i = 0; i < p->names.n; i++) {
        cleanup_free char *dir = dir_path(p, h, i + 1);
        if (!dir)
            return err_set(err, ENOMEM, "out of memory");
        if (mkdir(dir, 0755) == 0)
            h->made |= UINT64_C(1) << i;
        else if (errno != EEXIST)
            return err_errno(err, errno, "cannot make cgroup %s", dir);
        int r = h->cpuset ? fill_cpuset(dir, err) : 0;
        if (r < 0)
            return r;
        if (h->v2 && h->made & UINT64_C(1) << i && i + 1 < p->names.n)
            share_controllers(dir);
    }
    return 0;
}

/* Removes a directory, and waits until `end` for the last process in it to be gone. Returns 0 or -errno. */
static int remove_dir(const char *dir, uint64_t end) {
    while (rmdir(dir) < 0) {
        /* EROFS: nobody can have made or entered it through this mount. It also comes when there is no directory. */
        if (errno == ENOENT || errno == EROFS)
            return 0;
        if (errno != EBUSY || now_usec() >= end)
            return -errno;
        nanosleep(&(struct timespec){.tv_nsec = REMOVE_RETRY_USEC * 1000L}, NULL);
    }
    return 0;
}

/* Goes back and removes what was made here. */
static void undo(const struct cgroup_place *p, struct hierarchy *h, uint64_t end) {
    struct err err = ERR_INIT;
    /* One that has no line in /proc/self/cgroup was not entered. */
    if (h->entered && enter_dir(h->home, &err) < 0)
        log_warn("cannot go back: %s", err.msg);
    h->entered = false;
    for (size_t i = p->names.n; i-- > 0 && h->made & UINT64_C(1) << i;) {
        cleanup_free char *dir = dir_path(p, h, i + 1);
        int r = dir ? remove_dir(dir, end) : -ENOMEM;
        /* Others may have moved in since, and then it is theirs: a parent, or a pod's. */
        if (r < 0 && r != -EBUSY && r != -ENOTEMPTY)
            log_warn("cannot remove cgroup %s: %s", dir ? dir : h->mount_point, strerror(-r));
        else if (r < 0)
            log_debug("cgroup %s is in use and stays", dir);
        if (r < 0)
            break;
        end = 0; /* only the deepest is waited for */
    }
    h->made = 0;
}

static int enter(const struct cgroup_place *p, struct hierarchy *h, struct err *err) {
    if (!h->home)
        return err_set(err, ENODATA, "%s: this process is in no cgroup of it", h->mount_point);
    cleanup_free char *leaf = dir_path(p, h, p->names.n);
    if (!leaf)
        return err_set(err, ENOMEM, "out of memory");
    int r = make_dirs(p, h, err);
    if (r == 0)
        r = enter_dir(leaf, err);
    if (r == 0)
        h->entered = true;
    else
        undo(p, h, 0);
    return r;
}

int cgroup_enter_host(const struct cgroup_host *host, const char *cgroups_path, struct cgroup_place **ret,
                      struct err *err) {
    cleanup_place struct cgroup_place *p = NULL;
    int r = place_new(host, cgroups_path, &p, err);
    if (r == 0)
        r = find_home(p, host->self, err);
    if (r < 0)
        return r;
    if (p->n == 0)
        return err_set(err, ENOENT, "cannot enter cgroup %s: no cgroup hierarchy is mounted", cgroups_path);

    size_t entered = 0;
    struct err first = ERR_INIT;
    for (size_t i = 0; i < p->n; i++) {
        struct err e = ERR_INIT;
        if (enter(p, &p->v[i], &e) == 0)
            entered++;
        else if (i == 0)
            err_copy(&first, &e);
        if (e.code)
            p->v[i].why = strdup(e.msg); /* NULL, out of memory: the warning goes without */
    }
    if (!entered)
        return err_copy(err, &first);
    for (size_t i = 0; i < p->n; i++)
        if (!p->v[i].entered)
            log_warn("the sandbox is not counted in %s: %s", p->v[i].mount_point, p->v[i].why ? p->v[i].why : "");
    *ret = TAKE_PTR(p);
    return 0;
}

int cgroup_enter(const char *cgroups_path, struct cgroup_place **ret, struct err *err) {
    return cgroup_enter_host(&cgroup_host_self, cgroups_path, ret, err);
}

void cgroup_leave(struct cgroup_place *place) {
    uint64_t end = now_usec() + CGROUP_REMOVE_USEC;
    for (size_t i = 0; place && i < place->n; i++)
        undo(place, &place->v[i], end);
    place_free(place);
}

int cgroup_remove_host(const struct cgroup_host *host, const char *cgroups_path, struct err *err) {
    cleanup_place struct cgroup_place *p = NULL;
    uint64_t end = now_usec() + CGROUP_REMOVE_USEC;
    int r = place_new(host, cgroups_path, &p, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < p->n; i++) {
        cleanup_free char *dir = dir_path(p, &p->v[i], p->names.n);
        int e = dir ? remove_dir(dir, end) : -ENOMEM;
        if (e < 0 && r == 0)
            r = err_errno(err, -e, "cannot remove cgroup %s", dir ? dir : cgroups_path);
    }
    return r;
}

int cgroup_remove(const char *cgroups_path, struct err *err) {
    return cgroup_remove_host(&cgroup_host_self, cgroups_path, err);
}
