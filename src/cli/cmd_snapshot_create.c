/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/path.h"
#include "cli/cmd_snapshot.h"
#include "cli/lookup.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/size_text.h"
#include "cli/snapshot_call.h"

struct options {
    bool stop, force, no_sync, json, stats, quiet;
};

static const struct option_row rows[] = {
    OPTION(OPTION_FLAG, struct options, stop, "stop", 0, "end the sandbox; without it goes on"),
    OPTION(OPTION_FLAG, struct options, force, "force", 'f',
           "although deleted files of its root or volumes are open: they give errors in copies"),
    OPTION(OPTION_FLAG, struct options, no_sync, "no-sync", 0,
           "do not wait for the disk: after a crash of the host it may be damaged, which is found out"),
    OPTION(OPTION_FLAG, struct options, json, "json", 0, "print a JSON object"),
    OPTION(OPTION_FLAG, struct options, stats, "print-stats", 0, "as --json"),
    OPTION(OPTION_FLAG, struct options, quiet, "quiet", 'q', "print the name only"),
};

typedef Stasis__Sandbox__V1__SnapshotResponse answer;

static int print(const struct options *o, const char *id, const char *name, const answer *a, struct err *err) {
    char stopped[SIZE_TEXT_MAX], memory[SIZE_TEXT_MAX], shared[SIZE_TEXT_MAX], device[SIZE_TEXT_MAX],
        root[SIZE_TEXT_MAX];
    for (size_t i = 0; i < a->n_warnings; i++)
        log_warn("%s", a->warnings[i]);
    if (o->json || o->stats) {
        cleanup_json json_t *warnings = json_array();
        for (size_t i = 0; i < a->n_warnings; i++)
            json_array_append_new(warnings, json_string(a->warnings[i]));
        cleanup_json json_t *doc =
            json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:O}", "name", name, "sandbox", id, "stopped_time",
                      (json_int_t)a->stopped_usec, "memory_bytes", (json_int_t)a->memory_bytes, "shared_bytes",
                      (json_int_t)a->shared_bytes, "device_bytes", (json_int_t)a->device_bytes, "root_bytes",
                      (json_int_t)a->root_bytes, "warnings", warnings);
        return cli_print_json(doc, 4, err);
    }
    if (o->quiet)
        printf("%s\n", name);
    else
        printf("%s: %s stood still for %s; memory %s (%s of it the template's), devices %s, roots %s\n", name, id,
               time_text(a->stopped_usec, stopped), size_text(a->memory_bytes, memory),
               size_text(a->shared_bytes, shared), size_text(a->device_bytes, device), size_text(a->root_bytes, root));
    return 0;
}

/* A container's id, or a sandbox's: of a pod its sandbox container's, which has the same. */
static int find(const struct cli *cli, const char *id, struct lookup *l, struct err *err) {
    int r = lookup_container(cli, id, l, err);
    if (r == -ENOENT)
        err_set(err, ENOENT, "there is no sandbox and no container %s", id);
    return r;
}

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)n_args;
    const struct options *o = values;
    const char *id = args[0], *name = args[1];
    cleanup_lookup struct lookup l = LOOKUP_NONE;
    cleanup_session struct session s = {0};
    cleanup_free char *what = str_printf("saving %s", id);
    struct progress progress = {0};
    struct config config;
    answer *a = NULL;
    int r = o->stop && o->no_sync
                ? err_set(err, EINVAL, "--stop ends it only when it is on the disk: not with --no-sync")
                : id_validate("snapshot name", name, err);
    if (r == 0)
        r = cli_load_config(cli, &config, err);
    if (r == 0)
        r = find(cli, id, &l, err);
    signals_block();
    if (r == 0)
        r = lookup_connect(cli, &l, &s, err);
    if (r == 0)
        r = session_cancel_on_signal(&s, err);
    if (r == 0) {
        const struct snapshot_call c = {
            .store = config.snapshot_dir, .name = name, .stop = o->stop, .force = o->force, .no_sync = o->no_sync};
        progress_begin(&progress, s.event, what ? what : "saving");
        r = call_snapshot(&s, &c, config.checkpoint_timeout + config.rpc_timeout, &a, err);
        progress_end(&progress);
    }
    if (r == 0) {
        r = print(o, l.dir.id, name, a, err);
        protobuf_c_message_free_unpacked(&a->base, NULL);
    }
    if (r < 0)
        err_wrap(err, "cannot make snapshot %s", name);
    if (r < 0 && s.cancelled) {
        cli_report(cli, err);
        return 128 + s.cancelled;
    }
    return r;
}

const struct cli_command command_snapshot_create = {
    .name = "snapshot create",
    .arguments = "<sandbox-or-container-id> <snapshot>",
    .summary = "saves a running sandbox under a name",
    .description = "The containers stand still while their memory and roots are copied, and then go on. If\n"
                   "anything fails they go on too, and there is no snapshot.",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct options),
    .min_args = 2,
    .max_args = 2,
    .run = run,
};
