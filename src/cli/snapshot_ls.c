/* SPDX-License-Identifier: Apache-2.0 */
/* `snapshot ls` and `template ls`. */
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "cli/cmd_snapshot.h"
#include "cli/size_text.h"
#include "cli/table.h"

/* Takes one that could be read, or (s NULL) could not. */
typedef int (*take_fn)(void *userdata, const char *name, const struct snapshot *s, struct err *err);

static int containers_text(const struct manifest *m, char **ret) {
    cleanup_free char *text = strdup("");
    for (size_t i = 0; text && i < m->n_containers; i++) {
        char *longer = str_printf("%s%s%s", text, i ? "," : "", m->containers[i].id);
        free(text);
        text = longer;
    }
    *ret = TAKE_PTR(text);
    return *ret ? 0 : -ENOMEM;
}

/* Columns of a template: it has no containers. */
static int add_row(void *userdata, const char *name, const struct snapshot *s, struct err *err) {
    struct table *t = userdata;
    cleanup_free char *containers = NULL;
    char created[40] = "-", disk[SIZE_TEXT_MAX] = "-", memory[SIZE_TEXT_MAX] = "-";
    if (s) {
        format_rfc3339(s->manifest.created_wall_usec, created, sizeof(created));
        memcpy(created + strlen("2026-01-02T03:04:05"), "Z", 2); /* no fraction */
        size_text(snapshot_disk_usage(s->fd), disk);
        size_text(memory_image_data(s->manifest.memory), memory);
        if (containers_text(&s->manifest, &containers) < 0)
            return err_set(err, ENOMEM, "out of memory");
    }
    const char *const six[] = {name, s ? s->manifest.sandbox_id : "-", s ? containers : "-", created, disk, memory};
    const char *const four[] = {name, created, disk, memory};
    return table_add(t, t->columns == ARRAY_SIZE(six) ? six : four, err);
}

static int add_json(void *userdata, const char *name, const struct snapshot *s, struct err *err) {
    cleanup_json json_t *containers = json_array();
    if (!s)
        return 0; /* logged */
    for (size_t i = 0; i < s->manifest.n_containers; i++)
        json_array_append_new(containers, json_string(s->manifest.containers[i].id));
    char created[40];
    json_t *o = json_pack(
        "{s:s, s:s, s:O, s:s, s:I, s:I, s:I, s:b}", "name", name, "sandbox", s->manifest.sandbox_id, "containers",
        containers, "created", format_rfc3339(s->manifest.created_wall_usec, created, sizeof(created)), "size",
        (json_int_t)snapshot_disk_usage(s->fd), "memory", (json_int_t)memory_image_data(s->manifest.memory), "shared",
        (json_int_t)memory_image_shared(s->manifest.memory), "imported", s->imported);
    return json_array_append_new(userdata, o) < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

static int print_name(void *userdata, const char *name, const struct snapshot *s, struct err *err) {
    (void)userdata;
    (void)s;
    (void)err;
    printf("%s\n", name);
    return 0;
}

static int each(enum snapshot_kind kind, const char *dir, bool read, take_fn take, void *userdata, struct err *err) {
    struct store store = {.fd = -1};
    cleanup_strv struct strv names = {0};
    int r = store_open(dir, false, &store, err);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return r;
    r = store_list(&store, &names, err);
    store_close(&store);
    for (size_t i = 0; r == 0 && i < names.n; i++) {
        cleanup_snapshot struct snapshot s = SNAPSHOT_NONE;
        struct err problem = ERR_INIT;
        int opened = read ? snapshot_open(kind, dir, names.v[i], &s, &problem) : 0;
        if (opened == -ENOENT)
            continue; /* removed meanwhile */
        if (opened < 0)
            log_warn("%s", problem.msg);
        r = take(userdata, names.v[i], opened < 0 || !read ? NULL : &s, err);
    }
    return r;
}

static int ls_table(enum snapshot_kind kind, const char *dir, struct err *err) {
    static const char *const snapshot_head[] = {"NAME", "SANDBOX", "CONTAINERS", "CREATED", "SIZE", "MEMORY"};
    static const char *const template_head[] = {"NAME", "CREATED", "SIZE", "MEMORY"};
    bool template = kind == SNAPSHOT_KIND_TEMPLATE;
    cleanup_table struct table t = {
        .columns = template ? ARRAY_SIZE(template_head) : ARRAY_SIZE(snapshot_head), .min_width = 8, .gap = 2};
    int r = table_add(&t, template ? template_head : snapshot_head, err);
    if (r == 0)
        r = each(kind, dir, true, add_row, &t, err);
    if (r == 0)
        table_print(&t, stdout);
    return r;
}

int snapshot_ls(const struct cli *cli, enum snapshot_kind kind, const struct snapshot_ls_options *o, struct err *err) {
    struct config config;
    const char *format = o->json ? "json" : o->format ? o->format : "table";
    if (strcmp(format, "table") != 0 && strcmp(format, "json") != 0)
        return err_set(err, EINVAL, "--format %s: must be table or json", format);
    int r = cli_load_config(cli, &config, err);
    if (r < 0)
        return r;
    const char *dir = snapshot_kind_dir(kind, &config);
    if (o->quiet)
        return each(kind, dir, false, print_name, NULL, err);
    if (strcmp(format, "table") == 0)
        return ls_table(kind, dir, err);
    cleanup_json json_t *all = json_array();
    r = each(kind, dir, true, add_json, all, err);
    return r < 0 ? r : cli_print_json(all, 2, err);
}
