/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/criu_checkpoint.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/path.h"
#include "oci/criu_image.h"
#include "oci/criu_pages.h"
#include "proto/criu.pb-c.h"

#define NAME_MAX_IMG 64
#define PAGES_MAX (UINT64_C(1) << 52) /* of 4 KiB: all that 64 bits can address */
#define PID_SLOTS 65536U              /* of the table by pid: a power of two, several times CRIU_PROCESSES_MAX */
#define LOG_HEAD ((size_t)16 << 10)   /* the version is in the log's first lines */

/* By CRIU's task states. */
static const char *const states[] = {"unknown", "alive", "dead", "stopped", "unknown", "unknown", "zombie"};
static const char *const arches[] = {"unknown", "x86_64", "arm",         "aarch64", "ppc64",
                                     "s390",    "mips",   "loongarch64", "riscv64"};

struct reading {
    int dirfd;
    struct criu_checkpoint *c;
    uint32_t *by_pid; /* PID_SLOTS places of indices plus one; 0: free */
    size_t n_threads, n_fds;
};
_Static_assert(PID_SLOTS >= 2 * CRIU_PROCESSES_MAX, "the table must never be full");

void criu_checkpoint_clear(struct criu_checkpoint *c) {
    for (size_t i = 0; i < c->n_processes; i++) {
        free(c->processes[i].comm);
        free(c->processes[i].fds);
    }
    free(c->processes);
    criu_files_clear(&c->files);
    *c = (struct criu_checkpoint){0};
}

static int read_inventory(struct reading *rd, struct err *err) {
    cleanup_criu_message ProtobufCMessage *m = NULL;
    int r = criu_image_read_one(rd->dirfd, "inventory.img", CRIU_INVENTORY, &criu__inventory__descriptor, &m, err);
    if (r < 0)
        return r;
    const Criu__Inventory *inv = (const Criu__Inventory *)m;
    rd->c->img_version = inv->img_version;
    rd->c->root_files_id = inv->root_ids ? inv->root_ids->files_id : 0;
    rd->c->dump_uptime_usec = inv->dump_uptime;
    rd->c->tcp_close = inv->tcp_close;
    return 0;
}

/* The place of pid in the table: where it is, or where it would be. */
static uint32_t *find_pid(const struct reading *rd, uint32_t pid) {
    uint32_t slot = pid * 2654435769U >> 16; /* multiplicative hashing: the upper bits are mixed best */
    while (rd->by_pid[slot] && rd->c->processes[rd->by_pid[slot] - 1].pid != pid)
        slot = (slot + 1) % PID_SLOTS;
    return &rd->by_pid[slot];
}

/* CRIU writes parents before children, so that a tree is what it must be: a cycle has nothing to begin with. */
static int add_process(struct reading *rd, const struct criu_image *img, const Criu__Pstree *e, struct err *err) {
    struct criu_checkpoint *c = rd->c;
    if (e->pid == 0)
        return criu_image_error(img, EINVAL, err, "a process with pid 0");
    uint32_t *own = find_pid(rd, e->pid);
    size_t parent = e->ppid ? *find_pid(rd, e->ppid) : 0;
    if (*own)
        return criu_image_error(img, EINVAL, err, "a second process with pid %u", e->pid);
    if (e->ppid == 0 && c->n_processes)
        return criu_image_error(img, EINVAL, err, "process %u is a second root", e->pid);
    if (e->ppid != 0 && parent == 0)
        return criu_image_error(img, EINVAL, err, "process %u before its parent %u", e->pid, e->ppid);
    *own = (uint32_t)c->n_processes + 1;
    rd->n_threads += e->n_threads;
    if (rd->n_threads > CRIU_THREADS_MAX)
        return criu_image_error(img, EFBIG, err, "more than %d threads", CRIU_THREADS_MAX);
    c->processes[c->n_processes++] = (struct criu_process){.pid = e->pid,
                                                           .ppid = e->ppid,
                                                           .pgid = e->pgid,
                                                           .sid = e->sid,
                                                           .parent = parent ? parent - 1 : 0,
                                                           .n_threads = (uint32_t)e->n_threads,
                                                           .state = states[0]};
    return 0;
}

static int read_pstree(struct reading *rd, struct err *err) {
    struct criu_checkpoint *c = rd->c;
    cleanup_criu_image struct criu_image *img = NULL;
    int r = criu_image_open(rd->dirfd, "pstree.img", CRIU_PSTREE, &img, err);
    if (r < 0)
        return r;
    for (size_t size = 0;;) {
        cleanup_criu_message ProtobufCMessage *m = NULL;
        if ((r = criu_image_next_message(img, &criu__pstree__descriptor, &m, err)) < 0)
            return r;
        if (r == 0)
            break;
        if (c->n_processes == CRIU_PROCESSES_MAX)
            return criu_image_error(img, EFBIG, err, "more than %d processes", CRIU_PROCESSES_MAX);
        if (c->n_processes == size) {
            size = MAX(size * 2, (size_t)16);
            struct criu_process *v = reallocarray(c->processes, size, sizeof(*v));
            if (!v)
                return err_set(err, ENOMEM, "out of memory");
            c->processes = v;
        }
        if ((r = add_process(rd, img, (const Criu__Pstree *)m, err)) < 0)
            return r;
    }
    return c->n_processes ? 0 : err_set(err, EINVAL, "pstree.img has no process");
}

/* Returns the files id that the core names, 0 if none. */
static int read_core(struct reading *rd, struct criu_process *p, uint32_t *ret_files_id, struct err *err) {
    char name[NAME_MAX_IMG];
    cleanup_criu_message ProtobufCMessage *m = NULL;
    snprintf(name, sizeof(name), "core-%u.img", p->pid);
    int r = criu_image_read_one(rd->dirfd, name, CRIU_CORE, &criu__core__descriptor, &m, err);
    if (r < 0)
        return r;
    const Criu__Core *core = (const Criu__Core *)m;
    if (!core->tc)
        return err_set(err, EINVAL, "%s does not describe a process", name);
    if (core->mtype < ARRAY_SIZE(arches))
        rd->c->arch = arches[core->mtype];
    if (core->tc->task_state < ARRAY_SIZE(states))
        p->state = states[core->tc->task_state];
    p->comm = criu_text(core->tc->comm, strlen(core->tc->comm));
    if (!p->comm)
        return err_set(err, ENOMEM, "out of memory");
    *ret_files_id = core->ids ? core->ids->files_id : 0;
    return 0;
}

static int add_pages(const struct criu_image *img, const Criu__PagemapEntry *e, struct criu_process *p,
                     struct err *err) {
    uint64_t n = criu_pages_count(e);
    uint32_t flags = criu_pages_flags(e);
    if (n > PAGES_MAX || p->pages + p->pages_parent + n > PAGES_MAX)
        return criu_image_error(img, EFBIG, err, "more pages than there can be");
    if (flags & CRIU_PAGES_PARENT)
        p->pages_parent += n;
    else if (flags & (CRIU_PAGES_PRESENT | CRIU_PAGES_LAZY))
        p->pages += n;
    if (flags & CRIU_PAGES_LAZY)
        p->pages_lazy += n;
    return 0;
}

/* A process that shares another's memory, or a zombie, has no pagemap. */
static int read_pagemap(const struct reading *rd, struct criu_process *p, struct err *err) {
    char name[NAME_MAX_IMG];
    cleanup_criu_image struct criu_image *img = NULL;
    snprintf(name, sizeof(name), "pagemap-%u.img", p->pid);
    int r = criu_image_open(rd->dirfd, name, CRIU_PAGEMAP, &img, err);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    for (bool head = true;; head = false) {
        cleanup_criu_message ProtobufCMessage *m = NULL;
        r = criu_image_next_message(img, head ? &criu__pagemap_head__descriptor : &criu__pagemap_entry__descriptor, &m,
                                    err);
        if (r < 0)
            return r;
        if (r == 0)
            return head ? err_set(err, EINVAL, "%s is cut off: it has no entry", name) : 0;
        if (!head && (r = add_pages(img, (const Criu__PagemapEntry *)m, p, err)) < 0)
            return r;
    }
}

static int read_mm(const struct reading *rd, struct criu_process *p, struct err *err) {
    char name[NAME_MAX_IMG];
    cleanup_criu_message ProtobufCMessage *m = NULL;
    snprintf(name, sizeof(name), "mm-%u.img", p->pid);
    int r = criu_image_read_one(rd->dirfd, name, CRIU_MM, &criu__mm__descriptor, &m, err);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    p->exe_file_id = ((const Criu__Mm *)m)->exe_file_id;
    return 0;
}

/* The files id stands in the core since CRIU 4, before that in a file of its own. */
static int find_files_id(const struct reading *rd, const struct criu_process *p, uint32_t *files_id, struct err *err) {
    char name[NAME_MAX_IMG];
    cleanup_criu_message ProtobufCMessage *m = NULL;
    if (*files_id)
        return 0;
    snprintf(name, sizeof(name), "ids-%u.img", p->pid);
    int r = criu_image_read_one(rd->dirfd, name, CRIU_IDS, &criu__kobj_ids__descriptor, &m, err);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    *files_id = ((const Criu__KobjIds *)m)->files_id;
    return 0;
}

static int add_fd(struct reading *rd, const struct criu_image *img, const Criu__Fdinfo *e, struct criu_process *p,
                  size_t *size, struct err *err) {
    if (rd->n_fds++ == CRIU_FDS_MAX)
        return criu_image_error(img, EFBIG, err, "more than %u file descriptors", CRIU_FDS_MAX);
    if (!criu_files_find(&rd->c->files, e->id))
        return criu_image_error(img, EINVAL, err, "descriptor %u is of a file that is not there", e->fd);
    if (p->n_fds == *size) {
        *size = MAX(*size * 2, (size_t)8);
        struct criu_fd *v = reallocarray(p->fds, *size, sizeof(*v));
        if (!v)
            return err_set(err, ENOMEM, "out of memory");
        p->fds = v;
    }
    p->fds[p->n_fds++] = (struct criu_fd){.fd = e->fd, .file_id = e->id};
    return 0;
}

static int read_fds(struct reading *rd, struct criu_process *p, uint32_t files_id, struct err *err) {
    char name[NAME_MAX_IMG];
    cleanup_criu_image struct criu_image *img = NULL;
    snprintf(name, sizeof(name), "fdinfo-%u.img", files_id);
    int r = criu_image_open(rd->dirfd, name, CRIU_FDINFO, &img, err);
    if (r < 0)
        return r == -ENOENT ? 0 : r; /* CRIU leaves files out that would be empty */
    for (size_t size = 0;;) {
        cleanup_criu_message ProtobufCMessage *m = NULL;
        if ((r = criu_image_next_message(img, &criu__fdinfo__descriptor, &m, err)) <= 0)
            return r;
        if ((r = add_fd(rd, img, (const Criu__Fdinfo *)m, p, &size, err)) < 0)
            return r;
    }
}

static int read_process(struct reading *rd, struct criu_process *p, struct err *err) {
    uint32_t files_id = 0;
    int r;
    if ((r = read_core(rd, p, &files_id, err)) < 0 || (r = read_pagemap(rd, p, err)) < 0 ||
        (r = read_mm(rd, p, err)) < 0 || (r = find_files_id(rd, p, &files_id, err)) < 0)
        return r;
    return files_id ? read_fds(rd, p, files_id, err) : 0;
}

int criu_checkpoint_read(int dirfd, struct criu_checkpoint *ret, struct err *err) {
    cleanup_criu_checkpoint struct criu_checkpoint c = {.arch = arches[0]};
    cleanup_free uint32_t *by_pid = calloc(PID_SLOTS, sizeof(*by_pid));
    struct reading rd = {.dirfd = dirfd, .c = &c, .by_pid = by_pid};
    int r;
    if (!by_pid)
        return err_set(err, ENOMEM, "out of memory");
    if ((r = read_inventory(&rd, err)) < 0 || (r = read_pstree(&rd, err)) < 0)
        return r;
    r = criu_files_read(dirfd, &c.files, err);
    if (r < 0 && r != -ENOENT)
        return r;
    for (size_t i = 0; i < c.n_processes; i++)
        if ((r = read_process(&rd, &c.processes[i], err)) < 0)
            return r;
    *ret = c;
    c = (struct criu_checkpoint){0};
    return 0;
}

int criu_log_version(int dirfd, const char *name, char ret[CRIU_VERSION_MAX], struct err *err) {
    static const char mark[] = "Version: ";
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+~-";
    char head[LOG_HEAD + 1];
    struct stat st;
    cleanup_fd int fd = path_open_beneath(dirfd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, err);
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0)
        return err_errno(err, errno, "cannot read %s", name);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "%s is not a regular file", name);
    ssize_t n = pread(fd, head, LOG_HEAD, 0);
    if (n < 0)
        return err_errno(err, errno, "cannot read %s", name);
    head[n] = '\0';
    const char *at = strstr(head, mark);
    size_t len = at ? strspn(at + strlen(mark), allowed) : 0;
    if (len == 0 || len >= CRIU_VERSION_MAX)
        return 0;
    memcpy(ret, at + strlen(mark), len);
    ret[len] = '\0';
    return 1;
}
