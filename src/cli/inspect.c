/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/inspect.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "oci/archive_config.h"
#include "oci/archive_create.h"
#include "oci/archive_extract.h"
#include "oci/criu_checkpoint.h"
#include "oci/criu_pages.h"
#include "oci/criu_stats.h"

#define GUEST_MANIFEST "lib/stasis/guest/current/manifest.json"
#define MANIFEST_MAX ((size_t)1 << 20)

/* What is known of one checkpoint. */
struct facts {
    const char *path;
    char *dir;  /* where an archive was unpacked; NULL: it is a directory of images */
    int images; /* fd */
    int logs;   /* fd of where dump.log and stats-dump are */
    struct archive_contents contents;
    struct archive_config config;
    const char *engine; /* NULL: not known */
    struct criu_checkpoint criu;
    char criu_version[CRIU_VERSION_MAX]; /* "": not known */
    char guest_criu[CRIU_VERSION_MAX];   /* of the guest here; "": not known */
    uint64_t images_bytes;
    char why_not[256]; /* "": it can be restored here */
};

static int unpack(void *userdata, struct err *err) {
    struct facts *f = userdata;
    const char *tmp = getenv("TMPDIR");
    const struct archive_extract_options options = {.inspect = true};
    f->dir = str_printf("%s/stasis-inspect.XXXXXX", tmp && *tmp == '/' ? tmp : "/var/tmp");
    if (!f->dir)
        return err_set(err, ENOMEM, "out of memory");
    if (!mkdtemp(f->dir)) {
        int r = err_errno(err, errno, "cannot make a directory to unpack into (%s)", f->dir);
        free(TAKE_PTR(f->dir));
        return r;
    }
    f->logs = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = f->logs < 0 ? err_errno(err, errno, "cannot open %s", f->dir)
                        : archive_extract(f->path, f->logs, &options, &f->contents, err);
    if (r == 0)
        r = f->images = path_open_beneath(f->logs, ARCHIVE_CHECKPOINT, O_RDONLY | O_DIRECTORY, 0, err);
    return MIN(r, 0);
}

static int read_texts(struct facts *f, struct err *err) {
    cleanup_free char *config = NULL;
    cleanup_free char *spec = NULL;
    size_t len;
    int r = 0;
    if (f->contents.has_config) {
        r = file_read_at(f->logs, ARCHIVE_CONFIG, ARCHIVE_CONFIG_MAX, &config, &len, err);
        if (r == 0)
            r = archive_config_parse(config, len, &f->config, err);
    }
    if (r == 0 && f->contents.has_spec) {
        r = file_read_at(f->logs, ARCHIVE_SPEC, JSON_TEXT_MAX, &spec, &len, err);
        if (r == 0)
            r = archive_engine(spec, len, &f->engine, err);
    }
    return r;
}

static int add_size(int dirfd, const char *name, uint64_t *io) {
    struct stat st;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
        *io += (uint64_t)st.st_size;
    return 0;
}

static void measure(struct facts *f) {
    int copy = openat(f->images, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_dir DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
    struct dirent *e;
    while (d && (e = readdir(d)))
        (void)add_size(f->images, e->d_name, &f->images_bytes);
}

/* The CRIU of the guest that would restore it, from the manifest beside this program. */
static void find_guest_criu(struct facts *f) {
    cleanup_free char *own = NULL;
    cleanup_json json_t *doc = NULL;
    if (path_own_dir(&own, NULL) < 0)
        return;
    cleanup_free char *path = str_printf("%s/../" GUEST_MANIFEST, own);
    if (!path || json_parse_file(path, &doc, NULL) < 0)
        return;
    const char *v = json_string_value(json_object_get(json_object_get(doc, "packages"), "criu"));
    if (v)
        snprintf(f->guest_criu, sizeof(f->guest_criu), "%.*s", (int)strcspn(v, "-"), v);
}

/* "4.1.1": 4 and 1; false if it does not begin so. */
static bool parse_version(const char *text, unsigned long ret[2]) {
    char *end;
    ret[0] = strtoul(text, &end, 10);
    if (end == text || *end != '.')
        return false;
    text = end + 1;
    ret[1] = strtoul(text, &end, 10);
    return end != text;
}

static void judge(struct facts *f) {
    unsigned long theirs[2], ours[2];
    struct err err = ERR_INIT;
    if (criu_pages_check(f->images, &err) < 0)
        snprintf(f->why_not, sizeof(f->why_not), "%.250s", err.msg);
    else if (strcmp(f->criu.arch, "x86_64") != 0)
        snprintf(f->why_not, sizeof(f->why_not), "it is of another architecture: %s", f->criu.arch);
    else if (parse_version(f->criu_version, theirs) && parse_version(f->guest_criu, ours) &&
             (theirs[0] > ours[0] || (theirs[0] == ours[0] && theirs[1] > ours[1])))
        snprintf(f->why_not, sizeof(f->why_not), "it was made by CRIU %.40s, the guest here has %.40s", f->criu_version,
                 f->guest_criu);
}

static int gather(struct facts *f, struct err *err) {
    struct stat st;
    if (stat(f->path, &st) < 0)
        return err_errno(err, errno, "cannot open %s", f->path);
    int r = 0;
    if (S_ISDIR(st.st_mode)) {
        f->images = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        f->logs = fcntl(f->images, F_DUPFD_CLOEXEC, 3);
        if (f->images < 0 || f->logs < 0)
            r = err_errno(err, errno, "cannot open %s", f->path);
    } else {
        r = progress_while("unpacking", unpack, f, err);
    }
    if (r == 0)
        r = read_texts(f, err);
    if (r == 0)
        r = criu_checkpoint_read(f->images, &f->criu, err);
    if (r < 0)
        return r;
    if (criu_log_version(f->logs, ARCHIVE_LOG, f->criu_version, NULL) <= 0)
        f->criu_version[0] = '\0';
    measure(f);
    find_guest_criu(f);
    judge(f);
    return 0;
}

static void clear(struct facts *f) {
    struct err err = ERR_INIT;
    fd_close(f->images);
    fd_close(f->logs);
    if (f->dir && path_remove_tree(AT_FDCWD, f->dir, &err) < 0)
        log_warn("%s", err.msg);
    free(f->dir);
    archive_contents_clear(&f->contents);
    archive_config_clear(&f->config);
    criu_checkpoint_clear(&f->criu);
}

/* JSON, which the text is printed from as well. */

static json_t *time_json(uint64_t wall_usec) {
    char buf[40];
    return wall_usec ? json_string(format_rfc3339(wall_usec, buf, sizeof(buf))) : json_null();
}

static json_t *file_json(const struct facts *f, const struct criu_fd *fd) {
    const struct criu_file *file = criu_files_find(&f->criu.files, fd->file_id);
    if (!file)
        return json_pack("{s:I}", "fd", (json_int_t)fd->fd);
    return json_pack("{s:I, s:s, s:s*, s:s*, s:s*, s:s*, s:s*}", "fd", (json_int_t)fd->fd, "kind", file->kind, "path",
                     file->name, "protocol", file->proto, "state", file->state, "source", file->source, "destination",
                     file->dest);
}

static json_t *process_json(const struct facts *f, const struct criu_process *p) {
    json_t *fds = json_array();
    for (size_t i = 0; fds && i < p->n_fds; i++)
        if (json_array_append_new(fds, file_json(f, &p->fds[i])) < 0) {
            json_decref(fds);
            return NULL;
        }
    return json_pack("{s:I, s:I, s:s, s:s, s:I, s:I, s:I, s:o}", "pid", (json_int_t)p->pid, "ppid", (json_int_t)p->ppid,
                     "command", p->comm ? p->comm : "", "state", p->state, "threads", (json_int_t)p->n_threads,
                     "memory", CRIU_PAGE_SIZE * (json_int_t)p->pages, "memory_in_parent",
                     CRIU_PAGE_SIZE * (json_int_t)p->pages_parent, "files", fds);
}

static json_t *document(const struct facts *f) {
    json_t *processes = json_array();
    for (size_t i = 0; processes && i < f->criu.n_processes; i++)
        if (json_array_append_new(processes, process_json(f, &f->criu.processes[i])) < 0) {
            json_decref(processes);
            return NULL;
        }
    return json_pack("{s:s, s:s*, s:s*, s:s*, s:s*, s:s*, s:o, s:o, s:s*, s:s, s:I, s:I, s:b, s:s*, s:o}", "path",
                     f->path, "id", f->config.id, "name", f->config.name, "image", f->config.rootfs_image_name,
                     "engine", f->engine, "runtime", f->config.runtime, "created",
                     time_json(f->config.created_wall_usec), "checkpointed",
                     time_json(f->config.checkpointed_wall_usec), "criu_version",
                     *f->criu_version ? f->criu_version : NULL, "architecture", f->criu.arch, "images_size",
                     (json_int_t)f->images_bytes, "rootfs_diff_size", (json_int_t)f->contents.rootfs_diff_bytes,
                     "restorable", !*f->why_not, "reason", *f->why_not ? f->why_not : NULL, "processes", processes);
}

static const char *size_text(json_int_t bytes, char buf[32]) {
    static const char units[] = "BKMGT";
    double v = (double)bytes;
    size_t u = 0;
    for (; v >= 1024 && u < sizeof(units) - 2; u++)
        v /= 1024;
    snprintf(buf, 32, u ? "%.1f %ciB" : "%.0f %c", v, units[u]);
    return buf;
}

static void print_line(const char *title, const char *text) {
    if (text && *text)
        printf("%-14s%s\n", title, text);
}

static void print_word(const char *before, const char *word) {
    if (word && *word)
        printf("%s%s", before, word);
}

static unsigned depth_of(const struct facts *f, size_t i) {
    unsigned depth = 0;
    for (; f->criu.processes[i].parent != i && depth < 64; i = f->criu.processes[i].parent)
        depth++;
    return depth;
}

static void print_process(const struct facts *f, size_t i) {
    const struct criu_process *p = &f->criu.processes[i];
    char memory[32];
    printf("  %*s%u %s, %s, %u thread%s, %s\n", (int)(2 * depth_of(f, i)), "", p->pid, p->comm ? p->comm : "?",
           p->state, p->n_threads, p->n_threads == 1 ? "" : "s",
           size_text(CRIU_PAGE_SIZE * (json_int_t)p->pages, memory));
    for (size_t k = 0; k < p->n_fds; k++) {
        const struct criu_file *file = criu_files_find(&f->criu.files, p->fds[k].file_id);
        if (!file)
            continue;
        printf("  %*s  %u: %s", (int)(2 * depth_of(f, i)), "", p->fds[k].fd, file->kind);
        print_word(" ", file->proto);
        print_word(" ", file->name);
        print_word(" ", file->source);
        print_word(" -> ", file->dest);
        print_word(" ", file->state);
        printf("\n");
    }
}

static void print_text(const struct facts *f) {
    char size[32], when[40];
    print_line("checkpoint", f->path);
    print_line("container", f->config.name ? f->config.name : f->config.id);
    print_line("image", f->config.rootfs_image_name);
    print_line("engine", f->engine);
    print_line("runtime", f->config.runtime);
    if (f->config.checkpointed_wall_usec)
        print_line("checkpointed", format_rfc3339(f->config.checkpointed_wall_usec, when, sizeof(when)));
    print_line("CRIU", f->criu_version);
    print_line("architecture", f->criu.arch);
    print_line("images", size_text((json_int_t)f->images_bytes, size));
    if (f->contents.has_rootfs_diff)
        print_line("root changes", size_text((json_int_t)f->contents.rootfs_diff_bytes, size));
    const char *unless = *f->criu_version ? "" : ", unless a newer CRIU made it: no dump.log is there to say";
    printf("%-14s%s%s\n", "restorable", *f->why_not ? "no: " : "yes", *f->why_not ? f->why_not : unless);
    printf("processes\n");
    for (size_t i = 0; i < f->criu.n_processes; i++)
        print_process(f, i);
}

int inspect_checkpoint(const char *path, bool json, struct err *err) {
    struct facts f = {.path = path, .images = -1, .logs = -1};
    int r = gather(&f, err);
    if (r == 0 && json) {
        cleanup_json json_t *doc = document(&f);
        r = cli_print_json(doc, 2, err);
    } else if (r == 0) {
        print_text(&f);
    }
    clear(&f);
    return r < 0 ? err_wrap(err, "cannot inspect %s", path) : 0;
}
