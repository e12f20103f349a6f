/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests of snapshots: what is accepted is within bounds and survives being written and read again. */
#include <stdint.h>
#include <string.h>

#include "base/json.h"
#include "base/path.h"
#include "snapshot/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool good) {
    if (!good)
        abort();
}

static void check(const struct manifest *m) {
    require(id_validate("name", m->name, NULL) == 0 && id_validate("sandbox", m->sandbox_id, NULL) == 0);
    require(m->machine.cpus >= 1 && m->machine.cpus <= MANIFEST_CPUS_MAX && m->memory->size == m->machine.memory);
    require(m->n_containers <= MANIFEST_CONTAINERS_MAX && memory_image_data(m->memory) <= m->memory->size);
    require(memory_image_shared(m->memory) <= memory_image_data(m->memory));
    for (size_t i = 0; i < m->n_containers; i++) {
        const struct manifest_container *c = &m->containers[i];
        require(json_is_object(c->spec) && json_is_object(c->state) && c->root.lowers.n <= MANIFEST_LOWERS_MAX);
        require(id_validate("id", c->id, NULL) == 0 && id_validate("id", c->guest_id, NULL) == 0);
        for (size_t k = 0; k < c->root.lowers.n; k++)
            require(path_is_normal(c->root.lowers.v[k]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cleanup_manifest struct manifest m = {0}, again = {0};
    struct err err = ERR_INIT;
    if (manifest_parse((const char *)data, size, &m, &err) < 0)
        require(err.code == EBADMSG && strncmp(err.msg, "manifest.json: ", 15) == 0);
    manifest_clear(&m);
    cleanup_json json_t *root = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    if (!root || manifest_from_json(root, &m, &err) < 0)
        return 0;
    check(&m);
    cleanup_json json_t *text = manifest_json(&m);
    require(text && json_object_set_new(text, "sha256", json_string("")) == 0);
    require(manifest_from_json(text, &again, &err) == 0);
    json_object_del(text, "sha256");
    cleanup_json json_t *second = manifest_json(&again);
    require(json_equal(text, second));
    return 0;
}
