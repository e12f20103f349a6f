/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "sandbox/boot.h"
#include "sandbox/capture.h"
#include "snapshot/store.h"

static void close_store(struct store *s) {
    store_close(s);
}

int template_find(struct sandbox *sb, struct err *err) {
    struct boot *b = sb->boot;
    struct store store CLEANUP(close_store) = {.fd = -1};
    char name[ID_MAX + 1];
    machine_template_name(&sb->machine, name);
    b->build_store = sb->config.template_dir;
    int r = store_open(sb->config.template_dir, false, &store, err);
    if (r == 0)
        r = store_use(&store, name, &b->source_fd, err);
    if (r < 0)
        return r;
    b->source = str_printf("%s/%s", sb->config.template_dir, name);
    if (!b->source)
        return err_set(err, ENOMEM, "out of memory");
    struct err why = ERR_INIT;
    r = manifest_read(b->source_fd, &b->manifest, &why);
    if (r == 0 && !b->manifest.is_template)
        r = err_set(&why, EBADMSG, "it is not a template");
    if (r == 0)
        r = manifest_check_machine(&b->manifest.machine, &sb->machine.made, &why);
    if (r < 0) {
        template_discard(sb);
        return err_set(err, EBADMSG, "%s is damaged: %s", b->source, why.msg);
    }
    b->kind = BOOT_TEMPLATE;
    (void)futimens(b->source_fd, NULL); /* for remove_oldest(); without, it is only made again sooner */
    snprintf(sb->template.name, sizeof(sb->template.name), "%s", name);
    sb->template.memory_bytes = memory_image_data(b->manifest.memory);
    return 0;
}

/* The next start makes another one. */
void template_discard(struct sandbox *sb) {
    struct boot *b = sb->boot;
    struct store store CLEANUP(close_store) = {.fd = -1};
    char name[ID_MAX + 1];
    struct err err = ERR_INIT;
    machine_template_name(&sb->machine, name);
    b->source_fd = fd_close(b->source_fd); /* our own lock */
    int r = store_open(sb->config.template_dir, false, &store, &err);
    if (r == 0)
        r = store_remove(&store, name, &err);
    if (r < 0 && r != -ENOENT && r != -EBUSY) /* somebody else is doing the same */
        log_warn("%s", err.msg);
}

struct used {
    const char *name;
    struct timespec at;
};

static int newest_first(const void *a, const void *b) {
    const struct timespec *x = &((const struct used *)a)->at, *y = &((const struct used *)b)->at;
    if (x->tv_sec != y->tv_sec)
        return x->tv_sec < y->tv_sec ? 1 : -1;
    return x->tv_nsec < y->tv_nsec ? 1 : x->tv_nsec > y->tv_nsec ? -1 : 0;
}

/* Machines of other sizes, and of packages that are no longer installed, leave templates behind. */
static void remove_oldest(const char *dir) {
    struct store store CLEANUP(close_store) = {.fd = -1};
    cleanup_strv struct strv names = {0};
    struct err err = ERR_INIT;
    if (store_open(dir, false, &store, &err) < 0 || store_list(&store, &names, &err) < 0) {
        log_warn("%s", err.msg);
        return;
    }
    cleanup_free struct used *used = calloc(MAX(names.n, (size_t)1), sizeof(*used));
    size_t n = 0;
    for (size_t i = 0; used && i < names.n; i++) {
        struct stat st;
        if (fstatat(store.fd, names.v[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
            used[n++] = (struct used){.name = names.v[i], .at = st.st_mtim};
    }
    if (n > TEMPLATES_MAX)
        qsort(used, n, sizeof(*used), newest_first);
    for (size_t i = TEMPLATES_MAX; i < n; i++)
        if (store_remove(&store, used[i].name, &err) < 0)
            log_debug("%s", err.msg); /* in use just now, or gone */
}

/* Nothing has run since: the sandbox it was made of is as good as a copy. */
static int open_made(const struct sandbox *sb) {
    cleanup_free char *path = str_printf("%s/%s/" MANIFEST_MEMORY, sb->config.template_dir, sb->template.name);
    int fd = path ? open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (fd < 0)
        log_debug("its snapshots share no memory: %s", path ? strerror(errno) : "out of memory");
    return fd;
}

static void on_made(void *userdata, const struct capture_outcome *outcome, const struct err *err) {
    struct sandbox *sb = userdata;
    sb->boot->build_lock = fd_close(sb->boot->build_lock);
    sb->template.built = !err;
    if (err) {
        sb->template.err = *err;
        log_warn("no template was made: %s", err->msg);
    } else {
        sb->template.memory_bytes = outcome->memory_bytes;
        sb->boot->memory_fd = open_made(sb);
        remove_oldest(sb->config.template_dir);
    }
    if (!err)
        log_info("made a template with %llu MiB of memory in %llu ms",
                 (unsigned long long)(outcome->memory_bytes >> 20),
                 (unsigned long long)(outcome->stopped_usec / USEC_PER_MSEC));
    sandbox_mark(sb, "template");
    if (sb->death.code == 0)
        boot_ready(sb);
}

/* One maker at a time; the others do without. */
static int lock_store(const char *dir, struct err *err) {
    struct store store CLEANUP(close_store) = {.fd = -1};
    int r = store_open(dir, true, &store, err);
    if (r < 0)
        return r;
    cleanup_fd int fd = openat(store.fd, ".lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || FAULT(TEMPLATE_LOCK) || flock(fd, LOCK_EX | LOCK_NB) < 0)
        return err_errno(err, errno, "cannot lock %s", dir);
    return TAKE_FD(fd);
}

void template_make(struct sandbox *sb) {
    struct boot *b = sb->boot;
    /* Others may be writing gigabytes to that disk, and a template that a crash of the host damages is made again. */
    struct capture_spec spec = {.store = b->build_store, .is_template = true, .no_sync = true};
    char name[ID_MAX + 1];
    struct err err = ERR_INIT;
    machine_template_name(&sb->machine, name);
    spec.name = name;
    snprintf(sb->template.name, sizeof(sb->template.name), "%s", name);
    b->build_store = NULL;
    b->build_lock = lock_store(spec.store, &err);
    int r = b->build_lock < 0 ? b->build_lock : capture_start(sb, &spec, on_made, sb, &err);
    if (r == 0)
        return;
    b->build_lock = fd_close(b->build_lock);
    if (r == -EAGAIN || r == -EEXIST)
        log_debug("another sandbox makes the template");
    else
        log_warn("no template was made: %s", err.msg);
    sb->template.err = err;
    boot_ready(sb);
}

struct building {
    struct sandbox *sb;
    template_done_fn done;
    void *userdata;
};

static void on_ready(void *userdata, const struct err *err) {
    struct building *b = userdata;
    const struct err *e = err ? err : b->sb->template.err.code ? &b->sb->template.err : NULL;
    b->done(b->userdata, e ? NULL : &b->sb->template, e);
    free(b);
}

static int remove_old(struct sandbox *sb, const char *store_dir, struct err *err) {
    cleanup_machine struct machine m = {0};
    struct store store CLEANUP(close_store) = {.fd = -1};
    char name[ID_MAX + 1];
    int r = machine_here(&sb->config, &m, err);
    if (r < 0)
        return r;
    machine_template_name(&m, name);
    r = store_open(store_dir, false, &store, err);
    if (r == 0)
        r = store_remove(&store, name, err);
    return r == -ENOENT ? 0 : r;
}

int template_build(struct sandbox *sb, const char *store, bool rebuild, template_done_fn done, void *userdata,
                   struct err *err) {
    struct config config = sb->config;
    config.use_template = true;
    if (strlen(store) >= sizeof(config.template_dir))
        return err_set(err, ENAMETOOLONG, "store: %s", store);
    memcpy(config.template_dir, store, strlen(store) + 1);
    int r = sandbox_configure(sb, &config, err);
    if (r == 0 && rebuild)
        r = remove_old(sb, store, err);
    if (r < 0)
        return r;
    struct building *b = malloc(sizeof(*b));
    if (!b)
        return err_set(err, ENOMEM, "out of memory");
    *b = (struct building){.sb = sb, .done = done, .userdata = userdata};
    r = sandbox_when_ready(sb, on_ready, b, err);
    if (r < 0)
        free(b);
    return r;
}
