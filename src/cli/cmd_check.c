/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/attach.h"
#include "cli/host_check.h"
#include "cli/new_sandbox.h"
#include "cli/signals.h"
#include "cli/task.h"

struct options {
    bool json;
};

static const struct option_row rows[] = {
    OPTION(OPTION_FLAG, struct options, json, "json", 0, "print a JSON object"),
};

/* What is found out, host and guest. */
struct check {
    struct check_list list;
    char *criu_version; /* of the guest; owned; NULL: unknown */
    bool checkpoint_works;
};

static void take_guest_answer(struct check *c, const Stasis__Agent__V1__CheckResponse *reply) {
    for (size_t i = 0; i < reply->n_items; i++) {
        const Stasis__Agent__V1__CheckItem *item = reply->items[i];
        check_add(&c->list, item->status <= CHECK_FAIL ? (enum check_status)item->status : CHECK_FAIL, item->name, "%s",
                  item->detail);
    }
    c->criu_version = strdup(reply->criu_version);
    c->checkpoint_works = reply->checkpoint_works;
}

static void take_info(struct check *c, const Stasis__Sandbox__V1__InfoResponse *info) {
    if (strcmp(info->accel, "tcg") == 0)
        check_add(&c->list, CHECK_WARN, "accelerator",
                  "tcg: guests are emulated, which is slow and no security boundary (use a host whose /proc/cpuinfo "
                  "shows vmx or svm, with /dev/kvm)");
    else
        check_add(&c->list, CHECK_OK, "accelerator", "%s", info->accel);
    check_add(&c->list, CHECK_OK, "agent", "version %s on kernel %s", info->agent_version, info->kernel_version);
}

static int ask_daemon(struct check *c, struct session *s, uint64_t timeout, struct err *err) {
    Stasis__Agent__V1__CheckResponse *reply = NULL;
    Stasis__Sandbox__V1__InfoResponse *info = NULL;
    struct attach a = {.session = s}; /* only so that a signal stops the waiting */
    int r = attach_begin(&a, err);
    if (r == 0)
        r = task_check(s, timeout, &reply, err);
    if (r == 0)
        r = task_info(s, &info, err);
    if (r == 0) {
        take_info(c, info);
        take_guest_answer(c, reply);
    }
    if (info)
        protobuf_c_message_free_unpacked(&info->base, NULL);
    if (reply)
        protobuf_c_message_free_unpacked(&reply->base, NULL);
    attach_end(&a);
    return r;
}

/* A sandbox of its own, with no container in it. */
static int check_in_guest(const struct cli *cli, struct check *c, const struct config *config, struct err *err) {
    struct new_sandbox n = NEW_SANDBOX_NONE;
    char id[32];
    snprintf(id, sizeof(id), "check-%d", (int)getpid());
    signals_block();
    int r = sandbox_dir_make(cli->root, id, &n.dir, err);
    if (r < 0)
        return r;
    r = new_sandbox_start(&n, cli, "/", config->rpc_timeout, err);
    if (r == 0)
        r = ask_daemon(c, &n.session, config_start_limit(config), err);
    new_sandbox_remove(&n);
    new_sandbox_close(&n);
    return r;
}

static int print_json(const struct check *c, bool works, struct err *err) {
    cleanup_json json_t *items = json_array();
    for (size_t i = 0; i < c->list.n; i++) {
        const struct check_item *item = &c->list.items[i];
        json_array_append_new(items, json_pack("{s:s, s:s, s:s}", "name", item->name, "status",
                                               check_status_name(item->status), "detail", item->detail));
    }
    cleanup_json json_t *all =
        json_pack("{s:O, s:s*, s:b}", "items", items, "criu_version", c->criu_version, "checkpoint_works", works);
    return cli_print_json(all, 2, err);
}

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)n_args;
    (void)args;
    const struct options *o = values;
    struct check c = {0};
    struct config config;
    int r = cli_load_config(cli, &config, err);
    if (r < 0)
        return r;
    if (check_host(&c.list, &config)) {
        struct err problem = ERR_INIT;
        r = check_in_guest(cli, &c, &config, &problem);
        if (r < 0)
            check_add(&c.list, CHECK_FAIL, "sandbox", "%s", problem.msg);
    } else {
        check_add(&c.list, CHECK_FAIL, "sandbox", "not started, because of the above");
    }
    bool works = c.checkpoint_works && !check_has_failed(&c.list);
    r = 0;
    if (o->json)
        r = print_json(&c, works, err);
    else
        check_print(&c.list, stdout);
    if (r == 0 && !o->json)
        printf("checkpoints %s on this host\n", works ? "work" : "do not work");
    check_list_clear(&c.list);
    free(c.criu_version);
    return r < 0 ? r : works ? 0 : 1;
}

const struct cli_command command_check = {
    .name = "check",
    .arguments = "",
    .summary = "checks whether this host and the guest have what is needed",
    .description = "Prints one line per item: ok, warn or fail, its name, what was found and what to do. It\n"
                   "starts a virtual machine for the guest's part. The exit code is 0 only if checkpointing\n"
                   "will work.",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct options),
    .max_args = 0,
    .run = run,
};
