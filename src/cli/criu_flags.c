/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/criu_flags.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "oci/criu_stats.h"

#define TEXT(s) ((char *)(uintptr_t)((s) ? (s) : ""))

void criu_flags_message(const struct criu_flags *f, Stasis__Agent__V1__CriuOptions *ret) {
    stasis__agent__v1__criu_options__init(ret);
    ret->tcp_established = f->tcp_established;
    ret->tcp_skip_in_flight = f->tcp_skip_in_flight;
    ret->tcp_close = f->tcp_close;
    ret->ext_unix_sk = f->ext_unix_sk;
    ret->shell_job = f->shell_job;
    ret->file_locks = f->file_locks;
    ret->auto_dedup = f->auto_dedup;
    ret->lazy_pages = f->lazy_pages;
    ret->link_remap = f->link_remap;
    ret->manage_cgroups_mode = TEXT(f->manage_cgroups_mode);
    ret->network_lock = TEXT(f->network_lock);
    ret->lsm_profile = TEXT(f->lsm_profile);
    ret->lsm_mount_context = TEXT(f->lsm_mount_context);
    ret->page_server = TEXT(f->page_server);
    ret->empty_ns = f->empty_ns.v;
    ret->n_empty_ns = f->empty_ns.n;
}

/* An absolute path of a directory that need not exist: that it would be in does, or is made. */
static int absolute(const char *path, bool create, char **ret, struct err *err) {
    if (!create) {
        *ret = realpath(path, NULL);
        return *ret ? 0 : err_errno(err, errno, "directory %s", path);
    }
    cleanup_free char *copy = strdup(path);
    if (!copy)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t n = strlen(copy); n > 1 && copy[n - 1] == '/';)
        copy[--n] = '\0';
    char *slash = strrchr(copy, '/');
    const char *name = slash ? slash + 1 : copy;
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return err_set(err, EINVAL, "directory %s: its last component must be a name", path);
    cleanup_free char *parent = slash ? str_printf("%.*s", (int)MAX(slash - copy, 1), copy) : strdup(".");
    int r = parent ? path_mkdirs(parent, 0755, err) : err_set(err, ENOMEM, "out of memory");
    if (r < 0)
        return r;
    cleanup_free char *real = realpath(parent, NULL);
    if (!real)
        return err_errno(err, errno, "directory %s", parent);
    *ret = path_join(real, name);
    return *ret ? 0 : err_set(err, ENOMEM, "out of memory");
}

int criu_flags_paths(const struct criu_flags *f, bool create, char **ret_images, char **ret_work, struct err *err) {
    cleanup_free char *images = NULL;
    cleanup_free char *work = NULL;
    int r = absolute(f->image_path ? f->image_path : "checkpoint", create, &images, err);
    if (r == 0 && f->work_path)
        r = absolute(f->work_path, true, &work, err);
    if (r == 0 && !work && !(work = strdup("")))
        r = err_set(err, ENOMEM, "out of memory");
    if (r < 0)
        return r;
    *ret_images = TAKE_PTR(images);
    *ret_work = TAKE_PTR(work);
    return 0;
}

int criu_flags_print_stats(const char *dir, bool restore, struct err *err) {
    struct criu_stats st;
    cleanup_fd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "cannot open the work directory %s", dir);
    int r = criu_stats_read(fd, restore ? CRIU_STATS_RESTORE : CRIU_STATS_DUMP, &st, err);
    if (r < 0)
        return r;
    cleanup_json json_t *doc =
        restore
            ? json_pack("{s:I, s:I, s:I, s:I}", "forking_time", (json_int_t)st.restore.forking_usec, "restore_time",
                        (json_int_t)st.restore.restore_usec, "pages_compared", (json_int_t)st.restore.pages_compared,
                        "pages_restored", (json_int_t)st.restore.pages_restored)
            : json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "freezing_time", (json_int_t)st.dump.freezing_usec,
                        "frozen_time", (json_int_t)st.dump.frozen_usec, "memdump_time",
                        (json_int_t)st.dump.memdump_usec, "memwrite_time", (json_int_t)st.dump.memwrite_usec,
                        "pages_scanned", (json_int_t)st.dump.pages_scanned, "pages_skipped_parent",
                        (json_int_t)st.dump.pages_skipped_parent, "pages_written", (json_int_t)st.dump.pages_written,
                        "bytes_written", 4096 * (json_int_t)st.dump.pages_written);
    return cli_print_json(doc, 4, err);
}
