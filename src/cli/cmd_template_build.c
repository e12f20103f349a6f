/* SPDX-License-Identifier: Apache-2.0 */
#include <unistd.h>

#include "base/json.h"
#include "cli/attach.h"
#include "cli/cmd_snapshot.h"
#include "cli/new_sandbox.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/size_text.h"
#include "cli/snapshot_call.h"

struct options {
    bool rebuild, json, quiet;
};

static const struct option_row rows[] = {
    OPTION(OPTION_FLAG, struct options, rebuild, "rebuild", 0, "also when it is there already"),
    OPTION(OPTION_FLAG, struct options, json, "json", 0, "print a JSON object"),
    OPTION(OPTION_FLAG, struct options, quiet, "quiet", 'q', "print the name only"),
};

typedef Stasis__Sandbox__V1__BuildTemplateResponse answer;

static int print(const struct options *o, const answer *a, struct err *err) {
    char memory[SIZE_TEXT_MAX];
    if (o->json) {
        cleanup_json json_t *doc = json_pack("{s:s, s:b, s:I}", "name", a->name, "built", a->built, "memory_bytes",
                                             (json_int_t)a->memory_bytes);
        return cli_print_json(doc, 4, err);
    }
    if (o->quiet)
        printf("%s\n", a->name);
    else
        printf("%s: %s, memory %s\n", a->name, a->built ? "built" : "is there already",
               size_text(a->memory_bytes, memory));
    return 0;
}

static int build(const struct options *o, const struct config *config, struct session *s, answer **ret,
                 struct err *err) {
    struct progress progress = {0};
    struct attach interruptible = {.session = s}; /* only so that a signal stops the waiting */
    int r = attach_begin(&interruptible, err);
    progress_begin(&progress, s->event, "building the template");
    if (r == 0)
        r = call_build_template(s, config->template_dir, o->rebuild, config_start_limit(config), ret, err);
    progress_end(&progress);
    attach_end(&interruptible);
    return r;
}

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)n_args;
    (void)args;
    const struct options *o = values;
    struct new_sandbox n = NEW_SANDBOX_NONE;
    struct config config;
    answer *a = NULL;
    char id[32];
    snprintf(id, sizeof(id), "template-%d", (int)getpid());
    int r = cli_load_config(cli, &config, err);
    if (r < 0)
        return r;
    signals_block();
    /* A sandbox of its own, with no container in it. */
    r = sandbox_dir_make(cli->root, id, &n.dir, err);
    if (r < 0)
        return r;
    r = new_sandbox_start(&n, cli, "/", config.rpc_timeout, err);
    if (r == 0)
        r = build(o, &config, &n.session, &a, err);
    new_sandbox_remove(&n);
    new_sandbox_close(&n);
    if (r == 0) {
        r = print(o, a, err);
        protobuf_c_message_free_unpacked(&a->base, NULL);
    }
    return r < 0 ? err_wrap(err, "cannot build the template") : 0;
}

const struct cli_command command_template_build = {
    .name = "template build",
    .arguments = "",
    .summary = "makes the template that fits the configuration",
    .description = "Starts a guest as the configuration says (memory, CPUs, kernel), and saves it. Without\n"
                   "this command the first sandbox does so.",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct options),
    .max_args = 0,
    .run = run,
};
