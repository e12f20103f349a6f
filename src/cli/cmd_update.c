/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/lookup.h"
#include "cli/resources.h"
#include "cli/task.h"

struct options {
    struct resource_options resources;
    const char *file;
    const char *rt_period, *rt_runtime, *l3_cache, *mem_bw; /* refused */
    const char *kernel_memory, *kernel_memory_tcp;          /* ignored, as runc does */
};

#define ROW(field, name, letter, help) OPTION(OPTION_TEXT, struct options, field, name, letter, help)
#define REFUSED_RT "refused: the guest's cgroup v2 has no realtime limits"
#define REFUSED_RDT "refused: the guest has no Intel RDT"

static const struct option_row rows[] = {
    ROW(file, "resources", 'r',
        "path to the file containing the resources to update (a LinuxResources object of the runtime specification; "
        "unchanged values can be omitted), or '-' to read from the standard input; all other options are ignored then"),
    ROW(resources.blkio_weight, "blkio-weight", 0, "Specifies per cgroup weight, range is from 10 to 1000"),
    ROW(resources.cpu_period, "cpu-period", 0, "CPU CFS period to be used for hardcapping (in usecs)"),
    ROW(resources.cpu_quota, "cpu-quota", 0,
        "CPU CFS hardcap limit (in usecs). Allowed cpu time in a given period; -1 for unlimited"),
    {.name = "cpu-share",
     .alias = "cpu-shares",
     .kind = OPTION_TEXT,
     .offset = offsetof(struct options, resources.cpu_share),
     .help = "CPU shares (relative weight vs. other containers)"},
    ROW(rt_period, "cpu-rt-period", 0, REFUSED_RT),
    ROW(rt_runtime, "cpu-rt-runtime", 0, REFUSED_RT),
    ROW(resources.cpuset_cpus, "cpuset-cpus", 0, "CPU(s) of the guest to use"),
    ROW(resources.cpuset_mems, "cpuset-mems", 0, "Memory node(s) of the guest to use"),
    ROW(kernel_memory, "kernel-memory", 0, "accepted and ignored: cgroup v2 has no such limit"),
    ROW(kernel_memory_tcp, "kernel-memory-tcp", 0, "accepted and ignored: cgroup v2 has no such limit"),
    ROW(resources.memory, "memory", 0, "Memory limit (in bytes); -1 for unlimited"),
    ROW(resources.memory_reservation, "memory-reservation", 0, "Memory reservation or soft_limit (in bytes)"),
    ROW(resources.memory_swap, "memory-swap", 0,
        "Total memory usage (memory + swap); set '-1' to enable unlimited swap"),
    ROW(resources.pids_limit, "pids-limit", 0, "Maximum number of pids allowed in the container; -1 for unlimited"),
    ROW(l3_cache, "l3-cache-schema", 0, REFUSED_RDT),
    ROW(mem_bw, "mem-bw-schema", 0, REFUSED_RDT),
};

static int refuse(const struct options *o, struct err *err) {
    if (o->rt_period || o->rt_runtime)
        return err_set(err, EOPNOTSUPP,
                       "--cpu-rt-period, --cpu-rt-runtime: the guest's cgroup v2 has no realtime "
                       "limits");
    if (o->l3_cache || o->mem_bw)
        return err_set(err, EOPNOTSUPP, "--l3-cache-schema, --mem-bw-schema: the guest has no Intel RDT");
    if (o->kernel_memory || o->kernel_memory_tcp)
        log_warn("--kernel-memory and --kernel-memory-tcp are ignored: cgroup v2 has no such limit");
    return 0;
}

static int read_file(const char *path, json_t **ret, struct err *err) {
    cleanup_free char *text = NULL;
    size_t len = 0;
    if (strcmp(path, "-") != 0)
        return json_parse_file(path, ret, err);
    int r = fd_read_all(STDIN_FILENO, JSON_TEXT_MAX, &text, &len, err);
    return r < 0 ? err_wrap(err, "standard input") : json_parse("standard input", text, len, ret, err);
}

static int run(struct cli *cli, const void *values, int n_args, char **args, struct err *err) {
    (void)n_args;
    const struct options *o = values;
    cleanup_lookup struct lookup l = LOOKUP_NONE;
    cleanup_session struct session s = {0};
    cleanup_json json_t *resources = NULL;
    int r = lookup_running(cli, args[0], &l, err);
    if (r == 0)
        r = refuse(o, err);
    if (r == 0)
        r = o->file ? read_file(o->file, &resources, err) : resources_build(&o->resources, &resources, err);
    if (r == 0)
        r = lookup_connect(cli, &l, &s, err);
    if (r < 0)
        return r;
    cleanup_free char *text = json_text(resources, JSON_COMPACT);
    return text ? task_update(&s, args[0], text, err) : err_set(err, ENOMEM, "out of memory");
}

const struct cli_command command_update = {
    .name = "update",
    .arguments = "<container-id>",
    .summary = "update container resource constraints",
    .description = "Sizes are bytes, or a number with k, m, g or t.",
    .options = {rows, ARRAY_SIZE(rows)},
    .values_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
