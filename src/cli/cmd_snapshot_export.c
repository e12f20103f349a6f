/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "cli/cmd_snapshot.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/snapshot_archive.h"

struct options {
    const char *compress;
    bool quiet;
};

static const struct option_row rows[] = {
    OPTION(OPTION_TEXT, struct options, compress, "compress", 0,
           "none, gzip or zstd (default: as the file's name ends; \"-\": none)"),
    OPTION(OPTION_FLAG, struct options, quiet, "quiet", 'q', "print nothing"),
};

struct job {
    struct snapshot snapshot;
    const char *path;
    enum archive_compression compression;
    bool to_stdout;
};

static int choose(const struct options *o, const char *path, struct job *j, struct err *err) {
    static const char *const names[] = {[ARCHIVE_PLAIN] = "none", [ARCHIVE_GZIP] = "gzip", [ARCHIVE_ZSTD] = "zstd"};
    j->path = path;
    j->to_stdout = strcmp(path, "-") == 0;
    if (j->to_stdout && isatty(STDOUT_FILENO))
        return err_set(err, EINVAL, "an archive is not written to a terminal");
    if (!o->compress)
        return j->to_stdout ? 0 : archive_compression_of(path, &j->compression, err);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (strcmp(o->compress, names[i]) == 0) {
            j->compression = (enum archive_compression)i;
            return 0;
        }
    return err_set(err, EINVAL, "--compress %s: must be none, gzip or zstd", o->compress);
}

static int export(void *userdata, struct err *err) {
    struct job *j = userdata;
    cleanup_archive_writer struct archive_writer *w = NULL;
    int r = archive_create_exact(j->to_stdout ? STDOUT_FILENO : -1, j->path, j->compression, &w, err);
    if (r == 0 && FAULT(ARCHIVE_WRITE))
        r = err_errno(err, errno, "cannot write %s", j->path);
    if (r == 0)
        r = snapshot_export(&j->snapshot, w, err);
    return r == 0 ? archive_finish(w, err) : r;
}

static void undo(void *userdata, pid_t pid) {
    const struct job *j = userdata;
    if (!j->to_stdout)
        archive_remove_unfinished(j->path, pid);
}

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)n_args;
    const struct options *o = values;
    struct job j = {.snapshot = SNAPSHOT_NONE};
    struct config config;
    int signal = 0;
    cleanup_free char *what = str_printf("exporting %s", args[0]);
    int r = choose(o, args[1], &j, err);
    if (r == 0)
        r = cli_load_config(cli, &config, err);
    if (r == 0)
        r = snapshot_open(SNAPSHOT_KIND_SNAPSHOT, config.snapshot_dir, args[0], &j.snapshot, err);
    signals_block();
    if (r == 0)
        r = progress_work(what ? what : "exporting", export, undo, &j, &signal, err);
    snapshot_close(&j.snapshot);
    if (r < 0)
        err_wrap(err, "cannot export snapshot %s", args[0]);
    if (signal) {
        cli_report(cli, err);
        return 128 + signal;
    }
    if (r < 0)
        return r;
    if (!o->quiet && !j.to_stdout)
        printf("%s\n", args[1]);
    return 0;
}

const struct cli_command command_snapshot_export = {
    .name = "snapshot export",
    .arguments = "<snapshot> <file>.tar[.zst|.gz] | -",
    .summary = "writes a snapshot into an archive, for another host",
    .description = "The archive holds all of it: roots that are overlays are written out whole. It has its name\n"
                   "only when it is complete; \"-\" is stdout. It holds the memory of everything that ran: keys and\n"
                   "passwords too. It is not encrypted.",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct options),
    .min_args = 2,
    .max_args = 2,
    .run = run,
};
