/* SPDX-License-Identifier: Apache-2.0 */
/* A manifest with something of everything. */
#pragma once

#include <string.h>

#include "snapshot/manifest.h"

#define SAMPLE_MEMORY (2 * MEMORY_SEGMENT + 4 * MEMORY_PAGE)

static inline void sample_container(struct manifest_container *c, const char *id, const char *guest_id) {
    c->id = strdup(id);
    c->guest_id = strdup(guest_id);
    c->spec = json_pack("{s:s, s:f, s:I}", "ociVersion", "1.0.2", "half", 0.1, "rlimit", (json_int_t)-1);
    c->state = json_pack("{s:b}", "terminal", 1);
    c->root.totals = (struct tree_totals){.entries = 3, .bytes = 12345, .sha256 = {9, 8, 7}};
}

static inline struct manifest sample_manifest(void) {
    struct manifest m = {
        .name = strdup("snap"),
        .sandbox_id = strdup("box"),
        .stasis_version = strdup("0.1.0"),
        .created_wall_usec = 1700000000000000,
        .stopped_usec = 1234,
        .machine = {.vmm = strdup("abc"),
                    .guest = strdup("def"),
                    .type = strdup("q35"),
                    .accel = strdup("tcg"),
                    .cpu = strdup("host:0123"),
                    .kernel_params = strdup("quiet \"x\" \xc3\xa4"),
                    .agent_debug = true,
                    .memory = SAMPLE_MEMORY,
                    .cpus = 2},
        .device_size = 77,
        .device_sha256 = {1, 2, 3},
        .containers = calloc(2, sizeof(struct manifest_container)),
        .n_containers = 2,
    };
    if (memory_image_new(SAMPLE_MEMORY, &m.memory, NULL) < 0)
        abort();
    m.memory->segments[0] = (struct memory_segment){.data = MEMORY_SEGMENT, .digest = {0xff, 0x10}};
    m.memory->segments[2] = (struct memory_segment){.data = 2 * MEMORY_PAGE, .digest = {5}};
    m.memory->base[2 * MEMORY_SEGMENT_CHUNKS] = 2; /* its second page */
    sample_container(&m.containers[0], "c1", "g1");
    sample_container(&m.containers[1], "c2", "g2");
    strv_add(&m.containers[1].root.lowers, "/var/lib/a");
    strv_add(&m.containers[1].root.lowers, "/var/lib/b");
    return m;
}
