/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "cli/cmd_snapshot.h"
#include "cli/progress.h"
#include "cli/snapshot_archive.h"

struct options {
    const char *name, *max_size;
    uint64_t max_entries;
    bool allow_devices;
};

static const struct option_row rows[] = {
    OPTION(OPTION_TEXT, struct options, name, "name", 0, "the snapshot's name here (default: the one it had)"),
    OPTION(OPTION_TEXT, struct options, max_size, "max-size", 0,
           "refuse an archive with more data in it; the memory counts whole (default: 256G)"),
    OPTION(OPTION_UINT, struct options, max_entries, "max-entries", 0,
           "refuse an archive with more entries (default: 4194304)"),
    OPTION(OPTION_FLAG, struct options, allow_devices, "allow-devices", 0, "make device nodes that are in its roots"),
};

struct job {
    struct snapshot_import import;
    const struct config *config;
    const char *file; /* "-": stdin */
};

static int read_options(const struct options *o, struct snapshot_import *ret, struct err *err) {
    *ret = (struct snapshot_import){.allow_devices = o->allow_devices, .rename = o->name};
    if (o->max_size && (parse_size(o->max_size, &ret->bytes_max) < 0 || ret->bytes_max == 0))
        return err_set(err, EINVAL, "--max-size %s: must be a size, such as 64G", o->max_size);
    if (o->max_entries > UINT32_MAX)
        return err_set(err, EINVAL, "--max-entries: more than %u", UINT32_MAX);
    ret->entries_max = (uint32_t)o->max_entries;
    return o->name ? id_validate("snapshot name", o->name, err) : 0;
}

static int open_file(const char *file, struct err *err) {
    struct stat st;
    if (strcmp(file, "-") == 0) {
        int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
        return fd < 0 ? err_errno(err, errno, "cannot read stdin") : fd;
    }
    /* Not blocking: a FIFO of that name must not hold us. */
    cleanup_fd int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(err, errno, "cannot open %s", file);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "%s is not a regular file (\"-\" reads stdin)", file);
    return TAKE_FD(fd);
}

/* Before much is unpacked; that nobody else took the name meanwhile, the commit sees. */
static int check_name(void *userdata, const char *name, struct err *err) {
    const struct store *store = userdata;
    struct stat st;
    if (fstatat(store->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return err_set(err, EEXIST, "there is a snapshot %s already: remove it first, or choose another --name", name);
    return 0;
}

static int unpack(const struct job *j, struct store *store, int fd, struct err *err) {
    cleanup_free char *tmp = NULL, *name = NULL;
    cleanup_fd int dirfd = -1;
    char provisional[32];
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    snprintf(provisional, sizeof(provisional), "import-%d", (int)getpid());
    int r = store_begin(store, provisional, &dirfd, &tmp, err);
    if (r < 0)
        return r;
    struct snapshot_import options = j->import;
    options.check_name = check_name;
    options.userdata = store;
    r = snapshot_import(fd, strcmp(j->file, "-") == 0 ? "stdin" : j->file, dirfd, &options,
                        cpus > 0 ? (unsigned)cpus : 1, &name, err);
    if (r == 0)
        r = store_commit(store, tmp, name, true, err);
    if (r < 0) {
        store_abort(store, tmp);
        return r;
    }
    printf("%s\n", name);
    return 0;
}

static int import(void *userdata, struct err *err) {
    const struct job *j = userdata;
    struct store store = {.fd = -1};
    cleanup_fd int fd = open_file(j->file, err);
    if (fd < 0)
        return fd;
    int r = store_open(j->config->snapshot_dir, true, &store, err);
    if (r == 0 && j->import.rename)
        r = check_name(&store, j->import.rename, err);
    if (r == 0)
        r = unpack(j, &store, fd, err);
    store_close(&store);
    return r;
}

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)n_args;
    struct config config;
    struct job j = {.config = &config, .file = args[0]};
    cleanup_free char *what = str_printf("importing %s", args[0]);
    int r = read_options(values, &j.import, err);
    if (r == 0)
        r = cli_load_config(cli, &config, err);
    if (r == 0)
        r = progress_while(what ? what : "importing", import, &j, err);
    return r < 0 ? err_wrap(err, "cannot import %s", args[0]) : 0;
}

const struct cli_command command_snapshot_import = {
    .name = "snapshot import",
    .arguments = "<file> | -",
    .summary = "takes a snapshot over from an archive",
    .description = "It is visible only when all of it has the digests that it says. It keeps the mark that it\n"
                   "came from elsewhere: its hooks are not run, and directories of this host are mounted only if\n"
                   "\"restore --allow-mount\" names them. \"-\" is stdin.",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
