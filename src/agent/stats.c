/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/stats.h"

#include <stdlib.h>
#include <string.h>

#include "agent/cgroup.h"
#include "base/fd.h"
#include "base/util.h"
#include "proto/metrics.pb-c.h"

typedef Io__Containerd__Cgroups__V2__Metrics Metrics;
typedef Io__Containerd__Cgroups__V2__IOEntry IOEntry;

static uint64_t parse(const char *s) {
    uint64_t v = 0;
    if (strcmp(s, "max") == 0)
        return UINT64_MAX;
    (void)parse_u64(s, UINT64_MAX, &v); /* what is no number counts as 0 */
    return v;
}

/* A file of one number. */
static void read_number(int fd, const char *file, uint64_t *ret) {
    cleanup_free char *text = NULL;
    if (file_read_at(fd, file, CGROUP_FILE_MAX, &text, NULL, NULL) < 0)
        return;
    text[strcspn(text, "\n")] = '\0';
    *ret = parse(text);
}

/* Adds value to the field of msg with the kernel's name for it, if the message has one. The kernel split some numbers
 * in two ("workingset_refault_anon", "…_file"), whose sum is the field. */
static void add_field(ProtobufCMessage *msg, char *key, uint64_t value) {
    const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field_by_name(msg->descriptor, key);
    char *end = strrchr(key, '_');
    if (!f && strncmp(key, "workingset_", 11) == 0 && end && (strcmp(end, "_anon") == 0 || strcmp(end, "_file") == 0)) {
        *end = '\0';
        f = protobuf_c_message_descriptor_get_field_by_name(msg->descriptor, key);
    }
    if (f && f->type == PROTOBUF_C_TYPE_UINT64 && f->label != PROTOBUF_C_LABEL_REPEATED)
        *(uint64_t *)((char *)msg + f->offset) += value;
}

/* A file of lines "key value". */
static void read_keys(int fd, const char *file, ProtobufCMessage *msg) {
    cleanup_free char *text = NULL;
    if (file_read_at(fd, file, CGROUP_FILE_MAX, &text, NULL, NULL) < 0)
        return;
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *value = strchr(line, ' ');
        if (!value)
            continue;
        *value++ = '\0';
        add_field(msg, line, parse(value));
    }
}

/* "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6" */
static void parse_device(char *line, IOEntry *e) {
    char *save = NULL, *word = strtok_r(line, " ", &save);
    char *minor = word ? strchr(word, ':') : NULL;
    if (!minor)
        return;
    *minor++ = '\0';
    e->major = parse(word);
    e->minor = parse(minor);
    while ((word = strtok_r(NULL, " ", &save))) {
        char *value = strchr(word, '=');
        if (!value)
            continue;
        *value++ = '\0';
        add_field(&e->base, word, parse(value));
    }
}

static size_t read_devices(int fd, IOEntry entries[STATS_DEVICES_MAX]) {
    cleanup_free char *text = NULL;
    if (file_read_at(fd, "io.stat", CGROUP_FILE_MAX, &text, NULL, NULL) < 0)
        return 0;
    size_t n = 0;
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line && n < STATS_DEVICES_MAX;
         line = strtok_r(NULL, "\n", &save)) {
        entries[n] = (IOEntry)IO__CONTAINERD__CGROUPS__V2__IOENTRY__INIT;
        parse_device(line, &entries[n++]);
    }
    return n;
}

int stats_read(int cgroup_fd, uint8_t **ret, size_t *ret_len, struct err *err) {
    Io__Containerd__Cgroups__V2__PidsStat pids = IO__CONTAINERD__CGROUPS__V2__PIDS_STAT__INIT;
    Io__Containerd__Cgroups__V2__CPUStat cpu = IO__CONTAINERD__CGROUPS__V2__CPUSTAT__INIT;
    Io__Containerd__Cgroups__V2__MemoryStat memory = IO__CONTAINERD__CGROUPS__V2__MEMORY_STAT__INIT;
    Io__Containerd__Cgroups__V2__IOStat io = IO__CONTAINERD__CGROUPS__V2__IOSTAT__INIT;
    Io__Containerd__Cgroups__V2__MemoryEvents events = IO__CONTAINERD__CGROUPS__V2__MEMORY_EVENTS__INIT;
    Metrics metrics = IO__CONTAINERD__CGROUPS__V2__METRICS__INIT;
    IOEntry entries[STATS_DEVICES_MAX], *list[STATS_DEVICES_MAX];

    read_number(cgroup_fd, "pids.current", &pids.current);
    read_number(cgroup_fd, "pids.max", &pids.limit);
    read_keys(cgroup_fd, "cpu.stat", &cpu.base);
    read_keys(cgroup_fd, "memory.stat", &memory.base);
    read_number(cgroup_fd, "memory.current", &memory.usage);
    read_number(cgroup_fd, "memory.max", &memory.usage_limit);
    read_number(cgroup_fd, "memory.swap.current", &memory.swap_usage);
    read_number(cgroup_fd, "memory.swap.max", &memory.swap_limit);
    read_keys(cgroup_fd, "memory.events", &events.base);
    io.n_usage = read_devices(cgroup_fd, entries);
    io.usage = list;
    for (size_t i = 0; i < io.n_usage; i++)
        list[i] = &entries[i];
    metrics.pids = &pids;
    metrics.cpu = &cpu;
    metrics.memory = &memory;
    metrics.io = &io;
    metrics.memory_events = &events;

    size_t len = protobuf_c_message_get_packed_size(&metrics.base);
    uint8_t *buf = malloc(len + 1);
    if (!buf)
        return err_set(err, ENOMEM, "out of memory");
    *ret_len = protobuf_c_message_pack(&metrics.base, buf);
    *ret = buf;
    return 0;
}
