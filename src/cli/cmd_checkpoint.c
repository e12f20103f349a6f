/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/path.h"
#include "cli/checkpoint_archive.h"
#include "cli/criu_flags.h"
#include "cli/delete.h"
#include "cli/inspect.h"
#include "cli/lookup.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/task.h"
#include "oci/archive_create.h"

#define KILL_TIMEOUT (90 * USEC_PER_SEC)

#define EXIT_USEC (30 * USEC_PER_SEC) /* from the kill to the end */

struct options {
    struct criu_flags criu;
    const char *parent_path, *export, *rootfs_image;
    bool leave_running, pre_dump, wait_exec, json;
};

static const struct option_row rows[] = {
    CRIU_ROWS(struct options),
    OPTION(OPTION_TEXT, struct options, parent_path, "parent-path", 0,
           "the dump before, \"../NAME\", beside the image directory"),
    OPTION(OPTION_FLAG, struct options, leave_running, "leave-running", 0,
           "leave the process running after checkpointing"),
    OPTION(OPTION_FLAG, struct options, pre_dump, "pre-dump", 0,
           "dump the container's memory only, leave it running after this"),
    CRIU_ROW(OPTION_FLAG, struct options, tcp_skip_in_flight, "tcp-skip-in-flight", "skip in-flight tcp connections"),
    CRIU_ROW(OPTION_FLAG, struct options, link_remap, "link-remap",
             "refused: what it makes would not outlive the dump"),
    CRIU_ROW(OPTION_TEXT, struct options, network_lock, "network-lock", "iptables|nftables|skip"),
    CRIU_ROW(OPTION_TEXT, struct options, page_server, "page-server", "refused: the guest reaches no page server"),
    OPTION(OPTION_TEXT, struct options, export, "export", 'e',
           "write an archive (.tar, .tar.gz or .tar.zst) that Podman, CRI-O and checkpointctl read"),
    OPTION(OPTION_TEXT, struct options, rootfs_image, "rootfs-image", 0,
           "with --export: the image of the container's root, for engines that restore the archive"),
    OPTION(OPTION_FLAG, struct options, wait_exec, "wait-exec", 0,
           "wait until the processes that were exec'd into the container have ended"),
    OPTION(OPTION_FLAG, struct options, json, "json", 0, "inspect: print JSON"),
};

/* One checkpoint on its way. */
struct job {
    const struct options *o;
    struct config config;
    struct lookup l;
    struct session s;
    const char *id;
    char *images, *work;                /* absolute */
    struct checkpoint_archive *archive; /* NULL: no --export */
    bool was_paused;
};

static int check(const struct options *o, struct err *err) {
    if (o->export && (o->pre_dump || o->parent_path || o->criu.image_path))
        return err_set(err, EINVAL, "--export cannot be used with --pre-dump, --parent-path or --image-path");
    if (o->rootfs_image && (!o->export || !*o->rootfs_image))
        return err_set(err, EINVAL, "--rootfs-image: needs a name, and --export");
    if (o->criu.manage_cgroups_mode && !*o->criu.manage_cgroups_mode)
        return err_set(err, EINVAL, "--manage-cgroups-mode: must be soft, full, strict or ignore");
    return 0;
}

static int prepare(struct job *j, const struct cli *cli, struct err *err) {
    int r = cli_load_config(cli, &j->config, err);
    if (r == 0)
        r = lookup_running(cli, j->id, &j->l, err);
    if (r < 0)
        return r;
    j->was_paused = strcmp(j->l.container->status, "paused") == 0;
    if (!j->was_paused && strcmp(j->l.container->status, "running") != 0)
        return err_set(err, EBUSY, "cannot checkpoint container %s: it is %s", j->id, j->l.container->status);
    if (j->o->export) {
        r = checkpoint_archive_begin(j->o->export, &j->archive, err);
        if (r < 0)
            return r;
    }
    struct criu_flags flags = j->o->criu;
    if (j->archive)
        flags.image_path = checkpoint_archive_images(j->archive);
    r = criu_flags_paths(&flags, true, &j->images, &j->work, err);
    if (r == 0 && !*j->work) {
        /* Where runc keeps them: with the container's state. */
        cleanup_free char *dir = sandbox_dir_path(&j->l.dir);
        free(j->work);
        j->work = dir ? str_printf("%s/criu.work/%s", dir, j->id) : NULL;
        if (!j->work)
            return err_set(err, ENOMEM, "out of memory");
    }
    signals_block();
    if (r == 0)
        r = lookup_connect(cli, &j->l, &j->s, err);
    return r < 0 ? r : session_cancel_on_signal(&j->s, err);
}

/* A little more than the daemon may take, which says what has come of it: to freeze, dump, commit and resume or kill.
 */
static uint64_t all_steps(const struct config *c, bool stays) {
    return 2 * c->checkpoint_timeout + 2 * c->rpc_timeout + (stays ? 0 : KILL_TIMEOUT);
}

static int dump(struct job *j, bool leave_running, struct err *err) {
    Stasis__Agent__V1__CriuOptions criu;
    Stasis__Sandbox__V1__CheckpointOptions o = STASIS__SANDBOX__V1__CHECKPOINT_OPTIONS__INIT;
    struct progress progress = {0};
    cleanup_free char *what = str_printf("checkpointing %s", j->id);
    criu_flags_message(&j->o->criu, &criu);
    o.work_path = j->work;
    o.parent_path = (char *)(uintptr_t)(j->o->parent_path ? j->o->parent_path : "");
    o.leave_running = leave_running;
    o.pre_dump = j->o->pre_dump;
    o.wait_execs = j->o->wait_exec;
    o.criu = &criu;
    progress_begin(&progress, j->s.event, what ? what : "checkpointing");
    int r =
        task_checkpoint(&j->s, j->id, j->images, &o,
                        j->o->wait_exec ? SESSION_FOREVER : all_steps(&j->config, o.leave_running || o.pre_dump), err);
    progress_end(&progress);
    return r < 0 ? err_wrap_once(err, "cannot checkpoint container", j->id) : 0;
}

static int write_archive(void *userdata, struct err *err) {
    const struct job *j = userdata;
    if (FAULT(ARCHIVE_WRITE))
        return err_errno(err, errno, "cannot write %s", j->o->export);
    return checkpoint_archive_finish(j->archive, j->l.container, j->o->rootfs_image, j->work, err);
}

static void undo_archive(void *userdata, pid_t pid) {
    const struct job *j = userdata;
    archive_remove_unfinished(j->o->export, pid);
}

/* Should this process be killed, the daemon thaws what it has paused and removes the images. */
static void hold(struct job *j) {
    cleanup_free char *scratch = str_printf("%.*s", (int)(strrchr(j->images, '/') - j->images), j->images);
    task_hold_async(&j->s, j->was_paused ? "" : j->id, scratch ? scratch : "");
}

/* The container stays as it is, frozen, until the archive is on the disk; then it goes, or goes on. */
static int dump_to_archive(struct job *j, struct err *err) {
    struct err e = ERR_INIT;
    hold(j);
    int r = j->was_paused ? 0 : task_pause(&j->s, j->id, err);
    if (r < 0)
        return r;
    cleanup_free char *what = str_printf("writing %s", j->o->export);
    r = checkpoint_archive_check(j->archive, j->l.container, j->o->rootfs_image, err);
    if (r == 0)
        r = dump(j, true, err);
    if (r == 0 && j->s.cancelled)
        r = err_set(err, EINTR, "interrupted by SIG%s", sigabbrev_np(j->s.cancelled));
    if (r == 0)
        r = progress_work(what ? what : "writing the archive", write_archive, undo_archive, j, &j->s.cancelled, err);
    bool goes_on = r < 0 || j->o->leave_running;
    if (goes_on && !j->was_paused && task_resume(&j->s, j->id, &e) < 0)
        r = r < 0 ? err_append(err, "; and it could not be resumed: %s", e.msg) : err_copy(err, &e);
    if (!goes_on)
        r = task_kill(&j->s, j->id, "", SIGKILL, true, err);
    if (!goes_on && r == 0)
        r = task_wait(&j->s, j->id, "", EXIT_USEC, NULL, err);
    return r;
}

/* As runc's: with its checkpoint the container is gone, so that its id is free for a restore. */
static void remove_container(struct job *j) {
    struct err problem = ERR_INIT;
    if (delete_ended(&j->l, &j->s, j->id, &problem) < 0)
        log_warn("container %s has its checkpoint, but cannot be deleted: %s", j->id, problem.msg);
}

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    const struct options *o = values;
    if (n_args == 2 && strcmp(args[0], "inspect") == 0)
        return inspect_checkpoint(args[1], o->json, err);
    if (n_args != 1)
        return err_set(err, EINVAL, "takes one container id, or \"inspect\" and a file or directory");
    struct job j = {.o = o, .l = LOOKUP_NONE, .id = args[0]};
    int r = check(o, err);
    if (r == 0)
        r = prepare(&j, cli, err);
    if (r == 0)
        r = j.archive ? dump_to_archive(&j, err) : dump(&j, o->leave_running || o->pre_dump, err);
    bool ended = r == 0 && !o->leave_running && !o->pre_dump;
    if (r == 0 && o->criu.print_stats)
        r = criu_flags_print_stats(j.work, false, err);
    if (r < 0 && j.s.cancelled) {
        cli_report(cli, err);
        r = 128 + j.s.cancelled;
    }
    checkpoint_archive_free(j.archive); /* before the connection ends, and with it the daemon's hold */
    if (ended)
        remove_container(&j);
    session_close(&j.s);
    lookup_clear(&j.l);
    free(j.images);
    free(j.work);
    return r;
}

const struct cli_command command_checkpoint = {
    .name = "checkpoint",
    .arguments = "<container-id> | inspect <file-or-directory>",
    .summary = "checkpoint a running container",
    .description = "The checkpoint command saves the state of the container's processes: in a directory\n"
                   "(--image-path), or in an archive (--export). The container ends and is deleted, unless\n"
                   "--leave-running is given; until its checkpoint is on the disk it can go on, and does if\n"
                   "anything fails.\n"
                   "\"checkpoint inspect\" shows what a checkpoint holds.",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 2,
    .run = run,
};
