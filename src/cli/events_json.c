/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/events_json.h"

#include <string.h>

#include "base/util.h"
#include "ttrpc/wire.h"

#define TYPE_METRICS "io.containerd.cgroups.v2.Metrics"
#define INTERVAL_MAX_SEC (365.0 * 24 * 3600)

int events_unpack(const Containerd__Task__V2__Any *stats, Io__Containerd__Cgroups__V2__Metrics **ret, struct err *err) {
    if (!stats || strcmp(stats->type_url, TYPE_METRICS) != 0)
        return err_set(err, EPROTO, "the daemon's answer holds no " TYPE_METRICS);
    cleanup_message ProtobufCMessage *m =
        wire_unpack(&io__containerd__cgroups__v2__metrics__descriptor, stats->value.data, stats->value.len);
    if (!m)
        return err_set(err, EPROTO, "the guest's " TYPE_METRICS " of %zu bytes cannot be used", stats->value.len);
    const Io__Containerd__Cgroups__V2__IOStat *io = ((const Io__Containerd__Cgroups__V2__Metrics *)(const void *)m)->io;
    if (io && io->n_usage > EVENTS_DEVICES_MAX)
        return err_set(err, EPROTO, "the guest's " TYPE_METRICS " name %zu devices, more than %d", io->n_usage,
                       EVENTS_DEVICES_MAX);
    *ret = (void *)TAKE_PTR(m);
    return 0;
}

/* JSON has no unsigned 64-bit numbers here; a limit that is "none" is shown as the largest one. */
static json_t *number(uint64_t v) {
    return json_integer((json_int_t)MIN(v, (uint64_t)INT64_MAX));
}

static void set(json_t *o, const char *key, json_t *v) {
    (void)json_object_set_new(o, key, v);
}

/* Like Go's omitempty. */
static void set_nonzero(json_t *o, const char *key, uint64_t v) {
    if (v)
        set(o, key, number(v));
}

static json_t *cpu_json(const Io__Containerd__Cgroups__V2__CPUStat *c) {
    static const Io__Containerd__Cgroups__V2__CPUStat none = IO__CONTAINERD__CGROUPS__V2__CPUSTAT__INIT;
    c = c ? c : &none;
    json_t *cpu = json_object(), *usage = json_object(), *throttling = json_object();
    /* Nanoseconds, in runc's format. */
    set_nonzero(usage, "total", c->usage_usec * 1000);
    set(usage, "kernel", number(c->system_usec * 1000));
    set(usage, "user", number(c->user_usec * 1000));
    set_nonzero(throttling, "periods", c->nr_periods);
    set_nonzero(throttling, "throttledPeriods", c->nr_throttled);
    set_nonzero(throttling, "throttledTime", c->throttled_usec * 1000);
    set(cpu, "usage", usage);
    set(cpu, "throttling", throttling);
    return cpu;
}

static json_t *memory_entry(uint64_t usage, uint64_t limit, uint64_t failures) {
    json_t *e = json_object();
    set(e, "limit", number(limit));
    set_nonzero(e, "usage", usage);
    set(e, "failcnt", number(failures));
    return e;
}

static json_t *memory_raw(const Io__Containerd__Cgroups__V2__MemoryStat *m) {
    const struct {
        const char *key;
        uint64_t v;
    } rows[] = {
        {"active_anon", m->active_anon},
        {"active_file", m->active_file},
        {"anon", m->anon},
        {"anon_thp", m->anon_thp},
        {"file", m->file},
        {"file_dirty", m->file_dirty},
        {"file_mapped", m->file_mapped},
        {"file_writeback", m->file_writeback},
        {"inactive_anon", m->inactive_anon},
        {"inactive_file", m->inactive_file},
        {"kernel_stack", m->kernel_stack},
        {"pgactivate", m->pgactivate},
        {"pgdeactivate", m->pgdeactivate},
        {"pgfault", m->pgfault},
        {"pglazyfree", m->pglazyfree},
        {"pglazyfreed", m->pglazyfreed},
        {"pgmajfault", m->pgmajfault},
        {"pgrefill", m->pgrefill},
        {"pgscan", m->pgscan},
        {"pgsteal", m->pgsteal},
        {"shmem", m->shmem},
        {"slab", m->slab},
        {"slab_reclaimable", m->slab_reclaimable},
        {"slab_unreclaimable", m->slab_unreclaimable},
        {"sock", m->sock},
        {"thp_collapse_alloc", m->thp_collapse_alloc},
        {"thp_fault_alloc", m->thp_fault_alloc},
        {"unevictable", m->unevictable},
        {"workingset_activate", m->workingset_activate},
        {"workingset_nodereclaim", m->workingset_nodereclaim},
        {"workingset_refault", m->workingset_refault},
    };
    json_t *raw = json_object();
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        set(raw, rows[i].key, number(rows[i].v));
    return raw;
}

static json_t *memory_json(const Io__Containerd__Cgroups__V2__MemoryStat *m,
                           const Io__Containerd__Cgroups__V2__MemoryEvents *e) {
    static const Io__Containerd__Cgroups__V2__MemoryStat none = IO__CONTAINERD__CGROUPS__V2__MEMORY_STAT__INIT;
    m = m ? m : &none;
    json_t *memory = json_object();
    set_nonzero(memory, "cache", m->file);
    set(memory, "usage", memory_entry(m->usage, m->usage_limit, e ? e->max : 0));
    /* cgroup v2 counts swap alone, runc's format memory and swap together. */
    bool unlimited = m->swap_limit > UINT64_MAX - m->usage_limit;
    set(memory, "swap",
        memory_entry(m->usage + m->swap_usage, unlimited ? UINT64_MAX : m->usage_limit + m->swap_limit, 0));
    set(memory, "kernel", memory_entry(0, 0, 0));
    set(memory, "kernelTCP", memory_entry(0, 0, 0));
    set(memory, "raw", memory_raw(m));
    return memory;
}

static void add_io(json_t *list, const Io__Containerd__Cgroups__V2__IOEntry *e, const char *op, uint64_t value) {
    json_t *o = json_object();
    set(o, "major", number(e->major));
    set_nonzero(o, "minor", e->minor);
    set(o, "op", json_string(op));
    set_nonzero(o, "value", value);
    (void)json_array_append_new(list, o);
}

static json_t *io_json(const Io__Containerd__Cgroups__V2__IOStat *io) {
    json_t *blkio = json_object(), *bytes = json_array(), *operations = json_array();
    for (size_t i = 0; io && i < io->n_usage; i++) {
        add_io(bytes, io->usage[i], "Read", io->usage[i]->rbytes);
        add_io(bytes, io->usage[i], "Write", io->usage[i]->wbytes);
        add_io(operations, io->usage[i], "Read", io->usage[i]->rios);
        add_io(operations, io->usage[i], "Write", io->usage[i]->wios);
    }
    if (json_array_size(bytes)) {
        set(blkio, "ioServiceBytesRecursive", bytes);
        set(blkio, "ioServicedRecursive", operations);
    } else {
        json_decref(bytes);
        json_decref(operations);
    }
    return blkio;
}

json_t *events_stats_json(const char *id, const Io__Containerd__Cgroups__V2__Metrics *m) {
    json_t *event = json_object(), *data = json_object(), *pids = json_object();
    set(event, "type", json_string("stats"));
    set(event, "id", json_string(id));
    set(event, "data", data);
    set(data, "cpu", cpu_json(m->cpu));
    set(data, "cpuset", json_object());
    set(data, "memory", memory_json(m->memory, m->memory_events));
    if (m->pids) {
        set_nonzero(pids, "current", m->pids->current);
        set_nonzero(pids, "limit", m->pids->limit);
    }
    set(data, "pids", pids);
    set(data, "blkio", io_json(m->io));
    set(data, "hugetlb", json_object());
    set(data, "intel_rdt", json_object());
    set(data, "network_interfaces", json_null());
    return event;
}

json_t *events_oom_json(const char *id) {
    return json_pack("{s:s, s:s}", "type", "oom", "id", id);
}

int events_parse_interval(const char *text, uint64_t *ret_usec) {
    static const struct {
        const char *unit;
        double usec;
    } units[] = {{"ns", 1e-3}, {"us", 1}, {"ms", 1e3}, {"s", 1e6}, {"m", 60e6}, {"h", 3600e6}};
    double total = 0;
    if (!*text)
        return -EINVAL;
    while (*text) {
        char *end;
        if (*text < '0' || *text > '9')
            return -EINVAL;
        double v = strtod(text, &end), factor = 0;
        size_t n = strspn(end, "numsh");
        for (size_t i = 0; i < ARRAY_SIZE(units); i++)
            if (n == strlen(units[i].unit) && strncmp(end, units[i].unit, n) == 0)
                factor = units[i].usec;
        if (factor == 0)
            return -EINVAL;
        total += v * factor;
        text = end + n;
    }
    if (!(total >= 1 && total <= INTERVAL_MAX_SEC * 1e6))
        return -EINVAL;
    *ret_usec = (uint64_t)total;
    return 0;
}
