/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/sizing.h"

#include <inttypes.h>
#include <string.h>

#include "base/json.h"
#include "base/util.h"
#include "oci/pod.h"

#define OWN "io.stasis."
#define OWN_MEMORY OWN "vm.memory"
#define OWN_CPUS OWN "vm.cpus"
#define CRI_MEMORY OCI_POD_ANNOTATIONS "sandbox-memory"
#define CRI_CPU_QUOTA OCI_POD_ANNOTATIONS "sandbox-cpu-quota"
#define CRI_CPU_PERIOD OCI_POD_ANNOTATIONS "sandbox-cpu-period"
#define CRI_CPU_SHARES OCI_POD_ANNOTATIONS "sandbox-cpu-shares"

static int check_names(const json_t *annotations, struct err *err) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)annotations, key, v) {
        if (strncmp(key, OWN, strlen(OWN)) == 0 && strcmp(key, OWN_MEMORY) != 0 && strcmp(key, OWN_CPUS) != 0)
            return err_set(err, EINVAL, "annotations.%.128s: is not known; there are %s and %s", key, OWN_MEMORY,
                           OWN_CPUS);
    }
    return 0;
}

/* A decimal number as the CRI plugin writes it, below zero too. Missing: 0. */
static int get_number(const json_t *annotations, const char *key, int64_t *ret, struct err *err) {
    const char *text = NULL;
    uint64_t v;
    *ret = 0;
    int r = json_get_str(annotations, "annotations", key, &text, err);
    if (r <= 0)
        return r;
    bool negative = text[0] == '-';
    if (parse_u64(text + negative, INT64_MAX, &v) < 0)
        return err_set(err, EINVAL, "annotations.%s: must be a decimal number, not \"%.64s\"", key, text);
    *ret = negative ? -(int64_t)v : (int64_t)v;
    return 0;
}

/* `asked` is the annotation as it was written. */
static int set_memory(struct oci_sizing *s, const char *key, const char *asked, uint64_t v, struct err *err) {
    uint64_t max = MIN(s->memory_max, OCI_SIZING_MEMORY_MAX);
    if (v > max)
        return err_set(err, EINVAL,
                       "annotations.%s = \"%.64s\": makes a VM of %" PRIu64 "M, and the limit is %" PRIu64
                       "M ([vm] memory_max)",
                       key, asked, v >> 20, max >> 20);
    s->memory = v;
    return 0;
}

static int set_cpus(struct oci_sizing *s, const char *key, const char *asked, uint64_t v, struct err *err) {
    uint32_t max = MIN(s->cpus_max, OCI_SIZING_CPUS_MAX);
    if (v > max)
        return err_set(err, EINVAL,
                       "annotations.%s = \"%.64s\": makes a VM of %" PRIu64 " CPUs, and the limit is %" PRIu32
                       " ([vm] cpus_max)",
                       key, asked, v, max);
    s->cpus = (uint32_t)v;
    return 0;
}

static int apply_cri(const json_t *annotations, struct oci_sizing *s, struct err *err) {
    int64_t memory, quota, period, shares;
    int r = get_number(annotations, CRI_MEMORY, &memory, err);
    if (r == 0)
        r = get_number(annotations, CRI_CPU_QUOTA, &quota, err);
    if (r == 0)
        r = get_number(annotations, CRI_CPU_PERIOD, &period, err);
    if (r == 0)
        r = get_number(annotations, CRI_CPU_SHARES, &shares, err);
    if (r < 0)
        return r;
    if (memory > 0 && !json_is_string(json_object_get(annotations, OWN_MEMORY))) {
        uint64_t v = (uint64_t)memory + OCI_SIZING_OVERHEAD + OCI_SIZING_MEMORY_STEP - 1;
        v -= v % OCI_SIZING_MEMORY_STEP;
        r = set_memory(s, CRI_MEMORY, json_string_value(json_object_get(annotations, CRI_MEMORY)),
                       MAX(v, OCI_SIZING_MEMORY_MIN), err);
    }
    if (r == 0 && quota > 0 && period > 0 && !json_is_string(json_object_get(annotations, OWN_CPUS)))
        r = set_cpus(s, CRI_CPU_QUOTA, json_string_value(json_object_get(annotations, CRI_CPU_QUOTA)),
                     ((uint64_t)quota - 1) / (uint64_t)period + 1, err);
    return r;
}

static int apply_own(const json_t *annotations, struct oci_sizing *s, struct err *err) {
    const char *text = NULL;
    uint64_t v;
    int r = json_get_str(annotations, "annotations", OWN_MEMORY, &text, err);
    if (r > 0) {
        if (parse_size(text, &v) < 0 || v < OCI_SIZING_MEMORY_MIN || v % OCI_SIZING_MEMORY_STEP)
            return err_set(err, EINVAL, "annotations.%s = \"%.64s\": must be a size of at least 128M, a multiple of 2M",
                           OWN_MEMORY, text);
        r = set_memory(s, OWN_MEMORY, text, v, err);
    }
    if (r >= 0 && (r = json_get_str(annotations, "annotations", OWN_CPUS, &text, err)) > 0) {
        if (parse_u64(text, OCI_SIZING_CPUS_MAX, &v) < 0 || v == 0)
            return err_set(err, EINVAL, "annotations.%s = \"%.64s\": must be a number from 1 to %d", OWN_CPUS, text,
                           OCI_SIZING_CPUS_MAX);
        r = set_cpus(s, OWN_CPUS, text, v, err);
    }
    return r;
}

static int check_member(const struct oci_sizing *vm, const struct oci_sizing *asked, struct err *err) {
    if (asked->memory != vm->memory)
        return err_set(err, EINVAL,
                       "annotations.%s: the VM of the pod is running already, with %" PRIu64 "M; put it on the pod",
                       OWN_MEMORY, vm->memory >> 20);
    if (asked->cpus != vm->cpus)
        return err_set(err, EINVAL,
                       "annotations.%s: the VM of the pod is running already, with %" PRIu32 " CPUs; put it on the pod",
                       OWN_CPUS, vm->cpus);
    return 0;
}

int oci_sizing_apply(const json_t *spec, struct oci_sizing *io, struct err *err) {
    struct oci_sizing s = *io;
    struct oci_pod pod;
    json_t *annotations = NULL;
    int r = oci_pod_role(spec, &pod, err);
    if (r < 0 || (r = json_get_obj(spec, "", "annotations", &annotations, err)) <= 0)
        return r;
    if ((r = check_names(annotations, err)) < 0)
        return r;
    if (pod.role == OCI_POD_SANDBOX && (r = apply_cri(annotations, &s, err)) < 0)
        return r;
    /* What the pod got when it began is not measured again, should the host's limits have changed. */
    if (pod.role == OCI_POD_MEMBER) {
        s.memory_max = OCI_SIZING_MEMORY_MAX;
        s.cpus_max = OCI_SIZING_CPUS_MAX;
    }
    if ((r = apply_own(annotations, &s, err)) < 0)
        return r;
    if (pod.role == OCI_POD_MEMBER && (r = check_member(io, &s, err)) < 0)
        return r;
    io->memory = s.memory;
    io->cpus = s.cpus;
    return 0;
}
