/* SPDX-License-Identifier: Apache-2.0 */
/* A Kubernetes pod as the CRI plugin of containerd describes it: in annotations of the spec. */
#pragma once

#include <jansson.h>

#include "base/err.h"

#define OCI_POD_ANNOTATIONS "io.kubernetes.cri."

enum oci_pod_role {
    OCI_POD_NONE,    /* no pod: a sandbox of its own */
    OCI_POD_SANDBOX, /* the first container of a pod, whose sandbox the others run in */
    OCI_POD_MEMBER,  /* runs in the sandbox of the pod */
};

struct oci_pod {
    enum oci_pod_role role;
    const char *sandbox_id; /* borrowed from the spec, a valid id; NULL: none was given (never for a member) */
};

/* Which part the container has in a pod, from io.kubernetes.cri.container-type and …sandbox-id. Errors: -EINVAL (an
 * unknown type, a missing or invalid id), naming the annotation. */
int oci_pod_role(const json_t *spec, struct oci_pod *ret, struct err *err);
