/* SPDX-License-Identifier: Apache-2.0 */
/* Specifications, states and archives when memory runs out, at each allocation. */
#include "alloc_fault.h"

#include <fcntl.h>

#include "base/fd.h"
#include "base/path.h"
#include "oci/archive_config.h"
#include "oci/hooks.h"
#include "oci/state.h"
#include "support.h"

static int load_spec(void *arg, struct err *err) {
    const struct tmpdir *t = arg;
    cleanup_json json_t *spec = NULL;
    cleanup_guest_spec struct oci_guest_spec g = {0};
    int r = oci_spec_load(t->path, &spec, err);
    if (r == 0)
        r = oci_spec_validate(spec, err);
    return r < 0 ? r : oci_spec_for_guest(spec, "c1", t->path, &g, err);
}

/* Of runc's default one. */
static void specs(void **state) {
    struct tmpdir *t = *state;
    cleanup_json json_t *spec = oci_spec_default();
    cleanup_free char *text = json_text(spec, JSON_COMPACT);
    tmpdir_write(t, "config.json", text);
    alloc_sweep(load_spec, t);
}

static int save_and_load(void *arg, struct err *err) {
    const struct tmpdir *t = arg;
    char id[] = "c1", bundle[] = "/b", root[] = "/b/rootfs", cgroup[] = "/a/b", scratch[] = "/x/.y";
    struct oci_container_state c = {.id = id,
                                    .bundle = bundle,
                                    .rootfs = root,
                                    .status = "running",
                                    .pid = 7,
                                    .cgroups_path = cgroup,
                                    .scratch = scratch};
    const struct oci_sandbox_state s = {.id = id, .daemon_pid = 1, .containers = &c, .n_containers = 1};
    cleanup_sandbox_state struct oci_sandbox_state back = {0};
    int r = oci_sandbox_state_save(t->path, &s, err);
    return r < 0 ? r : oci_sandbox_state_load(t->path, &back, err);
}

static void states(void **state) {
    alloc_sweep(save_and_load, *state);
}

static int parse_archive_config(void *arg, struct err *err) {
    const char *text = arg;
    cleanup_archive_config struct archive_config c = {0};
    int r = archive_config_parse(text, strlen(text), &c, err);
    cleanup_free char *back = r == 0 ? archive_config_text(&c) : NULL;
    return r < 0 ? r : back ? 0 : err_set(err, ENOMEM, "out of memory");
}

static void archive_configs(void **state) {
    (void)state;
    char text[] = "{\"id\":\"ab\",\"name\":\"r\",\"rootfsImageName\":\"i\",\"rootfsImageRef\":\"sha256:1\","
                  "\"runtime\":\"crun\",\"createdTime\":\"2026-01-02T03:04:05.123456789+02:00\"}";
    alloc_sweep(parse_archive_config, text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        BUNDLE_TEST(specs),
        BUNDLE_TEST(states),
        cmocka_unit_test(archive_configs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
