/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The size of the VM that a container or a pod asks for, in annotations of its spec. They come from whoever may write a
 * spec, and can say no more than a size within the host's limits.
 *
 *   io.stasis.vm.memory, io.stasis.vm.cpus        from a person; they win
 *   io.kubernetes.cri.sandbox-memory, -cpu-quota, -cpu-period, -cpu-shares
 *                                                 from the CRI plugin, on a pod's sandbox: the sum of the limits of its
 *                                                 containers. 0 and less: no limit. Shares are no size, and only
 * checked
 *
 * Any other annotation below io.stasis. is refused: it would be ignored, and its author think otherwise.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"

#define OCI_SIZING_MEMORY_MIN (UINT64_C(128) << 20)
#define OCI_SIZING_MEMORY_STEP (UINT64_C(2) << 20)
#define OCI_SIZING_MEMORY_MAX (UINT64_C(1) << 40)
#define OCI_SIZING_OVERHEAD (UINT64_C(256) << 20) /* for the guest's kernel and agent, beside a pod's limits */
#define OCI_SIZING_CPUS_MAX 255

struct oci_sizing {
    uint64_t memory;     /* bytes. In: the configuration's; out: what the VM gets */
    uint32_t cpus;       /* the same */
    uint64_t memory_max; /* bytes; [vm] memory_max, with the host's memory in the place of 0 */
    uint32_t cpus_max;   /* [vm] cpus_max, with the host's CPUs in the place of 0 */
};

/*
 * Sizes the VM of a container or a pod.
 *
 * For a member of a pod (oci/pod.h) the caller gives the size of the pod's VM, which runs already: the CRI plugin
 * copies the annotations of a pod to its members, so the same size again is accepted, any other refused.
 *
 * Errors: -EINVAL, naming the annotation, its value, and the limit and its setting; io is unchanged.
 */
int oci_sizing_apply(const json_t *spec, struct oci_sizing *io, struct err *err);
