/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/resources.h"

#include <string.h>

#include "base/json.h"
#include "base/util.h"

enum kind {
    KIND_SIZE,   /* bytes, or -1 */
    KIND_NUMBER, /* 0 or more */
    KIND_SIGNED, /* a number, or -1 */
    KIND_TEXT,
};

struct row {
    size_t offset;
    const char *option, *object, *key;
    enum kind kind;
    int64_t max;
};

#define ROW(field_, option_, object_, key_, kind_, max_)                                                               \
    {                                                                                                                  \
        .offset = offsetof(struct resource_options, field_), .option = (option_), .object = (object_), .key = (key_),  \
        .kind = (kind_), .max = (max_)                                                                                 \
    }

static const struct row rows[] = {
    ROW(memory, "memory", "memory", "limit", KIND_SIZE, INT64_MAX),
    ROW(memory_reservation, "memory-reservation", "memory", "reservation", KIND_SIZE, INT64_MAX),
    ROW(memory_swap, "memory-swap", "memory", "swap", KIND_SIZE, INT64_MAX),
    ROW(cpu_period, "cpu-period", "cpu", "period", KIND_NUMBER, INT64_MAX),
    ROW(cpu_quota, "cpu-quota", "cpu", "quota", KIND_SIGNED, INT64_MAX),
    ROW(cpu_share, "cpu-share", "cpu", "shares", KIND_NUMBER, INT64_MAX),
    ROW(cpuset_cpus, "cpuset-cpus", "cpu", "cpus", KIND_TEXT, 0),
    ROW(cpuset_mems, "cpuset-mems", "cpu", "mems", KIND_TEXT, 0),
    ROW(pids_limit, "pids-limit", "pids", "limit", KIND_SIGNED, INT64_MAX),
    ROW(blkio_weight, "blkio-weight", "blockIO", "weight", KIND_NUMBER, 1000),
};

static json_t *value_of(const struct row *row, const char *text) {
    uint64_t v = 0;
    if (row->kind == KIND_TEXT)
        return json_string(text);
    if (row->kind != KIND_NUMBER && strcmp(text, "-1") == 0)
        return json_integer(-1);
    int r = row->kind == KIND_SIZE ? parse_size(text, &v) : parse_u64(text, (uint64_t)row->max, &v);
    return r < 0 || v > (uint64_t)row->max ? NULL : json_integer((json_int_t)v);
}

int resources_build(const struct resource_options *o, json_t **ret, struct err *err) {
    cleanup_json json_t *resources = json_object();
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct row *row = &rows[i];
        const char *text = *(const char *const *)((const char *)o + row->offset);
        if (!text)
            continue;
        json_t *value = value_of(row, text);
        if (!value)
            return err_set(err, EINVAL, "invalid value for %s: %s", row->option, text);
        json_t *object = json_object_get(resources, row->object);
        if (!object) {
            object = json_object();
            if (json_object_set_new(resources, row->object, object) < 0) {
                json_decref(value);
                return err_set(err, ENOMEM, "out of memory");
            }
        }
        if (json_object_set_new(object, row->key, value) < 0)
            return err_set(err, ENOMEM, "out of memory");
    }
    if (json_object_size(resources) == 0)
        return err_set(err, EINVAL, "nothing to update: no resource was given");
    *ret = TAKE_PTR(resources);
    return 0;
}
