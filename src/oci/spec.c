/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/spec.h"

#include "base/json.h"
#include "base/path.h"

int oci_spec_load(const char *bundle, json_t **ret, struct err *err) {
    cleanup_free char *path = path_join(bundle, "config.json");
    if (!path)
        return err_set(err, ENOMEM, "out of memory");
    cleanup_json json_t *spec = NULL;
    int r = json_parse_file(path, &spec, err);
    if (r < 0)
        return r;
    r = oci_spec_validate(spec, err);
    if (r < 0)
        return err_wrap(err, "%s", path);
    *ret = TAKE_PTR(spec);
    return 0;
}

void oci_guest_spec_clear(struct oci_guest_spec *g) {
    json_decref(g->spec);
    free(g->rootfs);
    for (size_t i = 0; i < g->n_mounts; i++)
        free(g->mounts[i].source);
    free(g->mounts);
    strv_clear(&g->notes);
    *g = (struct oci_guest_spec){0};
}
