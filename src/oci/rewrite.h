/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files that rewrite the specification for the guest; not for use outside src/oci. */
#pragma once

#include <jansson.h>

#include "oci/schema.h"
#include "oci/spec.h"

#define OCI_ID_VALUE_MAX INT32_MAX /* user and group ids of processes: what fits a signed int everywhere */

struct rewrite {
    const json_t *spec; /* the user's */
    const char *id, *bundle;
    const struct oci_pod_host *pod; /* NULL: no member of one */
    struct oci_guest_spec *out;     /* notes and mounts are added to it */
    json_t *guest;                  /* the specification being built */
};

/* Tables, for oci_spec_validate(). */
extern const struct field oci_process_fields[];
extern const struct field oci_linux_fields[];
extern const struct field oci_resources_fields[];

/* Each adds its part to rw->guest. */
int rewrite_mounts(struct rewrite *rw, struct err *err);
int rewrite_linux(struct rewrite *rw, struct err *err);

/* True if the spec's linux.namespaces has one of this type. */
bool spec_has_namespace(const json_t *spec, const char *type);

/* The names, for features.c; NULL-terminated. */
extern const char *const oci_capability_names[];
extern const char *const oci_namespace_names[];
/* The i-th mount option that is honoured, NULL after the last. */
const char *oci_mount_option_name(size_t i);

/* The guest's path of a character device that is the same on every Linux and that the guest has; else NULL. */
const char *oci_guest_device(unsigned dev_major, unsigned dev_minor);

bool str_in_list(const char *s, const char *const *list);
