/* SPDX-License-Identifier: Apache-2.0 */
/* `snapshot inspect` and `template inspect`. */
#include <string.h>

#include "base/json.h"
#include "cli/cmd_snapshot.h"
#include "cli/size_text.h"

static void line(const char *key, const char *value) {
    printf("%-12s%s\n", key, value && *value ? value : "-");
}

static void print_args(const json_t *spec) {
    const json_t *args = json_object_get(json_object_get(spec, "process"), "args");
    printf("    %-12s", "command");
    for (size_t i = 0; i < json_array_size(args); i++) {
        const char *s = json_string_value(json_array_get(args, i));
        /* Not trusted: nothing that a terminal would take for an order. */
        for (; s && *s; s++)
            putchar((unsigned char)*s < ' ' || *s == 127 ? '?' : *s);
        putchar(' ');
    }
    printf("\n");
}

static void print_container(const struct manifest_container *c) {
    char size[SIZE_TEXT_MAX];
    printf("  %s\n", c->id);
    print_args(c->spec);
    printf("    %-12s%llu files, %s%s\n", "root", (unsigned long long)c->root.totals.entries,
           size_text(c->root.totals.bytes, size), c->root.lowers.n ? ", on top of" : "");
    for (size_t i = 0; i < c->root.lowers.n; i++)
        printf("    %-12s%s\n", "", c->root.lowers.v[i]);
}

static void print_machine(const struct manifest_machine *m) {
    char size[SIZE_TEXT_MAX];
    printf("%-12s%s, %s, CPU %s, %u CPUs, %s of memory\n", "machine", m->type, m->accel, m->cpu, m->cpus,
           size_text(m->memory, size));
    line("VMM root", m->vmm);
    line("guest", m->guest);
    if (m->kernel_params && *m->kernel_params)
        line("kernel", m->kernel_params);
}

static void print_text(const struct snapshot *s, const char *name) {
    const struct manifest *m = &s->manifest;
    char text[40], size[SIZE_TEXT_MAX], other[SIZE_TEXT_MAX];
    line("name", name);
    if (!m->is_template)
        line("sandbox", m->sandbox_id);
    line("created", format_rfc3339(m->created_wall_usec, text, sizeof(text)));
    line("stasis", m->stasis_version);
    if (s->imported)
        line("origin", "imported");
    print_machine(&m->machine);
    line("stood still", time_text(m->stopped_usec, size));
    printf("%-12s%s of %s have data\n", "memory", size_text(memory_image_data(m->memory), size),
           size_text(m->machine.memory, other));
    if (memory_image_shared(m->memory))
        printf("%-12s%s of it, with the template\n", "shared", size_text(memory_image_shared(m->memory), size));
    line("devices", size_text(m->device_size, size));
    line("on disk", size_text(snapshot_disk_usage(s->fd), size));
    if (m->n_containers)
        printf("containers\n");
    for (size_t i = 0; i < m->n_containers; i++)
        print_container(&m->containers[i]);
}

int snapshot_inspect(const struct cli *cli, enum snapshot_kind kind, const struct snapshot_inspect_options *o,
                     const char *name, struct err *err) {
    struct config config;
    cleanup_snapshot struct snapshot s = SNAPSHOT_NONE;
    const char *format = o->json ? "json" : o->format ? o->format : "text";
    if (strcmp(format, "text") != 0 && strcmp(format, "json") != 0)
        return err_set(err, EINVAL, "--format %s: must be text or json", format);
    int r = cli_load_config(cli, &config, err);
    if (r == 0)
        r = snapshot_open(kind, snapshot_kind_dir(kind, &config), name, &s, err);
    if (r < 0)
        return r;
    if (strcmp(format, "text") == 0) {
        print_text(&s, name);
        return 0;
    }
    cleanup_json json_t *doc = manifest_json(&s.manifest);
    if (!doc || json_object_set_new(doc, "imported", json_boolean(s.imported)) < 0 ||
        json_object_set_new(doc, "sharedMemory", json_integer((json_int_t)memory_image_shared(s.manifest.memory))) <
            0 ||
        json_object_set_new(doc, "diskUsage", json_integer((json_int_t)snapshot_disk_usage(s.fd))) < 0)
        return err_set(err, ENOMEM, "out of memory");
    return cli_print_json(doc, 2, err);
}
