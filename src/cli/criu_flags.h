/* SPDX-License-Identifier: Apache-2.0 */
/* What `checkpoint` and `restore` share: runc's flags for CRIU, and where a checkpoint's logs go. */
#pragma once

#include "base/util.h"
#include "cli/cli.h"
#include "proto/agent.pb-c.h"

struct criu_flags {
    const char *image_path, *work_path;
    bool tcp_established, tcp_skip_in_flight, tcp_close, ext_unix_sk, shell_job, file_locks, auto_dedup, lazy_pages,
        link_remap, print_stats;
    const char *manage_cgroups_mode, *network_lock, *lsm_profile, *lsm_mount_context, *page_server;
    struct strv empty_ns;
};

/* Rows of both tables, for a struct whose member `criu` it is. */
#define CRIU_ROW(kind, type, field, name, help) OPTION(kind, type, criu.field, name, 0, help)
#define CRIU_ROWS(type)                                                                                                \
    CRIU_ROW(OPTION_TEXT, type, image_path, "image-path",                                                              \
             "directory of the checkpoint's images (default: ./checkpoint)"),                                          \
        CRIU_ROW(OPTION_TEXT, type, work_path, "work-path", "directory for CRIU's logs and statistics"),               \
        CRIU_ROW(OPTION_FLAG, type, tcp_established, "tcp-established", "allow open tcp connections"),                 \
        CRIU_ROW(OPTION_FLAG, type, tcp_close, "tcp-close", "close tcp connections in the restored processes"),        \
        CRIU_ROW(OPTION_FLAG, type, ext_unix_sk, "ext-unix-sk", "allow external unix sockets"),                        \
        CRIU_ROW(OPTION_FLAG, type, shell_job, "shell-job", "allow shell jobs"),                                       \
        CRIU_ROW(OPTION_FLAG, type, file_locks, "file-locks", "handle file locks"),                                    \
        CRIU_ROW(OPTION_FLAG, type, auto_dedup, "auto-dedup", "refused: older images are read-only for the guest"),    \
        CRIU_ROW(OPTION_FLAG, type, lazy_pages, "lazy-pages", "refused: the guest reaches no page server"),            \
        CRIU_ROW(OPTION_TEXT, type, manage_cgroups_mode, "manage-cgroups-mode",                                        \
                 "cgroups mode: soft|full|strict|ignore (default: soft)"),                                             \
        CRIU_ROW(OPTION_LIST, type, empty_ns, "empty-ns", "create a namespace, but don't restore its properties"),     \
        CRIU_ROW(OPTION_TEXT, type, lsm_profile, "lsm-profile", "refused: the guest has no security modules"),         \
        CRIU_ROW(OPTION_FLAG, type, print_stats, "print-stats", "print CRIU's statistics as JSON")

/* Fills a message with pointers into the flags. */
void criu_flags_message(const struct criu_flags *f, Stasis__Agent__V1__CriuOptions *ret);

/* The image and work directories: absolute, the image directory's parent with links resolved; it need not exist itself
 * when `create`. Malloc'd. */
int criu_flags_paths(const struct criu_flags *f, bool create, char **ret_images, char **ret_work, struct err *err);

/* Prints DIR/stats-dump or (restore) DIR/stats-restore as JSON. */
int criu_flags_print_stats(const char *dir, bool restore, struct err *err);
