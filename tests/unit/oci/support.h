/* SPDX-License-Identifier: Apache-2.0 */
/* Makes specifications by small changes to the default one, and rewrites them in a bundle of their own. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "oci/spec.h"
#include "tmpdir.h"

/* One change: `at` is a path like "mounts.1.type" ("+" is a new last element of a list), `json` the new value, NULL to
 * remove it. A '#' in `json` is replaced by the bundle's directory. */
struct change {
    const char *at, *json;
};

static inline json_t *child(json_t *v, const char *key) {
    if (json_is_array(v))
        return *key == '+' ? NULL : json_array_get(v, strtoul(key, NULL, 10));
    return json_object_get(v, key);
}

static inline void change_spec(json_t *spec, const struct change *c, const char *dir) {
    cleanup_free char *path = strdup(c->at);
    json_t *at = spec;
    char *key = path;
    for (char *dot; (dot = strchr(key, '.')); key = dot + 1) {
        *dot = '\0';
        json_t *next = child(at, key);
        if (!next) {
            next = dot[1] == '+' ? json_array() : json_object();
            json_object_set_new(at, key, next);
        }
        at = next;
    }
    if (!c->json) {
        assert_int_equal(json_is_array(at) ? json_array_remove(at, strtoul(key, NULL, 10)) : json_object_del(at, key),
                         0);
        return;
    }
    char text[4096];
    size_t n = 0;
    for (const char *p = c->json; *p; p++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%.*s", *p == '#' ? 64 : 1, *p == '#' ? dir : p);
    json_error_t je;
    json_t *v = json_loads(text, JSON_DECODE_ANY, &je);
    if (!v)
        fail_msg("%s: %s", text, je.text);
    int r;
    if (json_is_array(at))
        r = *key == '+' ? json_array_append_new(at, v) : json_array_set_new(at, strtoul(key, NULL, 10), v);
    else
        r = json_object_set_new(at, key, v);
    assert_int_equal(r, 0);
}

/* A bundle: rootfs/, file, dir/, dir/sub/, fifo, sock. */
static inline int bundle_setup(void **state) {
    if (tmpdir_setup(state) < 0)
        return -1;
    struct tmpdir *t = *state;
    tmpdir_write(t, "file", "x");
    return mkdirat(t->fd, "rootfs", 0755) | mkdirat(t->fd, "dir", 0755) | mkdirat(t->fd, "dir/sub", 0755) |
           mknodat(t->fd, "fifo", S_IFIFO | 0600, 0) | mknodat(t->fd, "sock", S_IFSOCK | 0600, 0);
}

#define bundle_teardown tmpdir_teardown
#define BUNDLE_TEST(f) cmocka_unit_test_setup_teardown(f, bundle_setup, bundle_teardown)

#define CHANGES_MAX 6

/* The default specification with changes; owned by the caller. */
static inline json_t *changed_spec(const struct change *changes, const char *dir) {
    json_t *spec = oci_spec_default();
    for (size_t i = 0; i < CHANGES_MAX && changes[i].at; i++)
        change_spec(spec, &changes[i], dir);
    return spec;
}

/* A change, and what oci_spec_for_guest() makes of it. */
struct refusal {
    struct change changes[CHANGES_MAX];
    int r;
    const char *message; /* '#': the bundle */
};

static inline void check_refusals(const struct tmpdir *t, const struct refusal *cases, size_t n) {
    for (size_t i = 0; i < n; i++) {
        cleanup_json json_t *spec = changed_spec(cases[i].changes, t->path);
        cleanup_json json_t *before = json_deep_copy(spec);
        struct oci_guest_spec g = {0};
        struct err e = ERR_INIT;
        int r = oci_spec_for_guest(spec, "ctr1", t->path, &g, &e);
        if (r != cases[i].r)
            fail_msg("%s = %s: result %d (%s)", cases[i].changes[0].at, cases[i].changes[0].json, r, e.msg);
        char message[1024] = "";
        for (const char *p = cases[i].message; *p; p++)
            snprintf(message + strlen(message), sizeof(message) - strlen(message), "%.*s", *p == '#' ? 64 : 1,
                     *p == '#' ? t->path : p);
        assert_string_equal(e.msg, message);
        assert_int_equal(e.code, -r);
        assert_null(g.spec);
        assert_int_equal(g.notes.n, 0);
        assert_true(json_equal(spec, before));
    }
}

/* A change, and what comes out at one place of the guest's specification; NULL: nothing is there. */
struct rule {
    struct change changes[CHANGES_MAX];
    const char *at, *json;
    const char *note; /* the only one; NULL: none */
};

static inline void check_rules(const struct tmpdir *t, const struct rule *cases, size_t n) {
    for (size_t i = 0; i < n; i++) {
        cleanup_json json_t *spec = changed_spec(cases[i].changes, t->path);
        cleanup_json json_t *before = json_deep_copy(spec);
        cleanup_guest_spec struct oci_guest_spec g = {0};
        struct err e = ERR_INIT;
        if (oci_spec_for_guest(spec, "ctr1", t->path, &g, &e) < 0)
            fail_msg("%s = %s: %s", cases[i].changes[0].at, cases[i].changes[0].json, e.msg);
        assert_true(json_equal(spec, before));

        cleanup_free char *path = strdup(cases[i].at);
        json_t *at = g.spec;
        char *save = NULL;
        for (char *key = strtok_r(path, ".", &save); key && at; key = strtok_r(NULL, ".", &save))
            at = child(at, key);
        cleanup_free char *text = at ? json_dumps(at, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS) : NULL;
        if (!cases[i].json != !text || (text && strcmp(text, cases[i].json) != 0))
            fail_msg("%s = %s: %s is %s instead of %s", cases[i].changes[0].at, cases[i].changes[0].json, cases[i].at,
                     text, cases[i].json);
        if (cases[i].note && g.notes.n == 0)
            fail_msg("%s: no note", cases[i].changes[0].at);
        if (cases[i].note)
            assert_string_equal(g.notes.v[0], cases[i].note);
        if (g.notes.n != (cases[i].note ? 1 : 0))
            fail_msg("%s: %zu notes, the last: %s", cases[i].changes[0].at, g.notes.n, g.notes.v[g.notes.n - 1]);
    }
}
