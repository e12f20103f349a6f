/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON lines of `events`, in the form runc gives them (types/events.go of runc): one object {type, id, data}. */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"
#include "proto/metrics.pb-c.h"
#include "proto/task.pb-c.h"

#define EVENTS_DEVICES_MAX 1024 /* each is four objects */

/* The statistics in a StatsResponse, which are the guest's. stats may be NULL. The caller frees them. -EPROTO: they are
 * of another type, malformed, or more than the bounds allow. */
int events_unpack(const Containerd__Task__V2__Any *stats, Io__Containerd__Cgroups__V2__Metrics **ret, struct err *err);

/* {"type":"stats","id":…,"data":{…}}. Owned by the caller; NULL when out of memory. */
json_t *events_stats_json(const char *id, const Io__Containerd__Cgroups__V2__Metrics *m);

/* {"type":"oom","id":…} */
json_t *events_oom_json(const char *id);

/* A Go duration: "5s", "1m30s", "500ms", "1.5h"; more than zero. Returns 0 or -EINVAL. */
int events_parse_interval(const char *text, uint64_t *ret_usec);
