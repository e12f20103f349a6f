/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"
#include "cli/events_json.h"
#include "cli/lookup.h"
#include "cli/task.h"

#define INTERVAL_DEFAULT (5 * USEC_PER_SEC)

struct options {
    const char *interval;
    bool stats;
};

static const struct option_row rows[] = {
    OPTION(OPTION_TEXT, struct options, interval, "interval", 0, "set the stats collection interval (default: 5s)"),
    OPTION(OPTION_FLAG, struct options, stats, "stats", 0, "display the container's stats then exit"),
};

static int print(json_t *event_taken, struct err *err) {
    cleanup_json json_t *event = event_taken;
    int r = cli_print_json(event, 0, err);
    if (r == 0 && fflush(stdout) != 0)
        r = err_errno(err, errno, "cannot write to stdout");
    return r;
}

static int get_metrics(struct session *s, const char *id, Io__Containerd__Cgroups__V2__Metrics **ret, struct err *err) {
    Containerd__Task__V2__StatsResponse *reply = NULL;
    int r = task_stats(s, id, &reply, err);
    if (r < 0)
        return r;
    r = events_unpack(reply->stats, ret, err);
    protobuf_c_message_free_unpacked(&reply->base, NULL);
    return r;
}

#define OOMS_UNKNOWN UINT64_MAX

/* Prints what happened since the last time. *ooms: kills seen so far, or OOMS_UNKNOWN: the first call tells of none. */
static int poll_once(struct session *s, const char *id, uint64_t *ooms, struct err *err) {
    Io__Containerd__Cgroups__V2__Metrics *m = NULL;
    int r = get_metrics(s, id, &m, err);
    if (r < 0)
        return r;
    uint64_t kills = m->memory_events ? m->memory_events->oom_kill : 0;
    if (*ooms != OOMS_UNKNOWN && kills > *ooms)
        r = print(events_oom_json(id), err);
    *ooms = kills;
    if (r == 0)
        r = print(events_stats_json(id, m), err);
    io__containerd__cgroups__v2__metrics__free_unpacked(m, NULL);
    return r;
}

static void on_exit_status(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    (void)reply;
    if (!err)
        *(bool *)userdata = true;
}

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)n_args;
    const struct options *o = values;
    const char *id = args[0];
    uint64_t interval = INTERVAL_DEFAULT, ooms = OOMS_UNKNOWN;
    bool exited = false;
    cleanup_lookup struct lookup l = LOOKUP_NONE;
    struct session s = {0};
    if (o->interval && events_parse_interval(o->interval, &interval) < 0)
        return err_set(err, EINVAL, "invalid value \"%s\" for flag -interval: must be like 5s or 500ms", o->interval);
    int r = lookup_running(cli, id, &l, err);
    if (r == 0)
        r = lookup_connect(cli, &l, &s, err);
    if (r == 0 && !o->stats)
        r = task_wait_async(&s, id, "", on_exit_status, &exited, err);
    while (r == 0) {
        r = poll_once(&s, id, &ooms, err);
        if (r < 0 || o->stats)
            break;
        r = session_run_until(&s, &exited, interval, err);
        if (r == 0)
            break; /* the container has ended, and with it the events */
        if (r == -ETIMEDOUT)
            r = 0;
    }
    session_close(&s);
    return exited ? 0 : r;
}

const struct cli_command command_events = {
    .name = "events",
    .arguments = "<container-id>",
    .summary = "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
    .description = "The events command displays information about the container. By default the\n"
                   "information is displayed once every 5 seconds, until the container ends.",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
