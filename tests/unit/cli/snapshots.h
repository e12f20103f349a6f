/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots as a daemon would leave them, small, for the tests of what reads them. */
#pragma once

#include <fcntl.h>
#include <nettle/sha2.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "cli/snapshot_open.h"
#include "support.h"

#define SNAPSHOT_MEMORY ((size_t)32 << 20) /* mostly holes */
#define SNAPSHOT_DEVICE "device state"

/* What of one is not as usual. The spec is a container's config.json; the root gets what fill() makes in it. */
struct snapshot_recipe {
    const char *sandbox;       /* NULL: "web" */
    const char *containers[4]; /* ids; none: one, like the sandbox */
    json_t *spec;              /* borrowed; NULL: of a process that does nothing */
    json_t *state;             /* borrowed; NULL: empty */
    const char *lower;         /* NULL: the roots are whole copies */
    void (*fill)(int root);    /* NULL: one file */
    void (*spoil)(struct manifest *m);
    bool is_template, imported;
};

static inline void fill_file(int at, const char *name, const char *text) {
    cleanup_fd int fd = openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

static inline void fill_memory(int dir, struct manifest *m) {
    cleanup_fd int memory = memfd_create("memory", MFD_CLOEXEC);
    cleanup_fd int file = openat(dir, MANIFEST_MEMORY, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct err err = ERR_INIT;
    assert_int_equal(ftruncate(memory, SNAPSHOT_MEMORY), 0);
    for (size_t at = 0; at < SNAPSHOT_MEMORY; at += (size_t)3 << 20)
        assert_int_equal(pwrite(memory, "memory", 6, (off_t)at + 100), 6);
    assert_int_equal(memory_image_new(SNAPSHOT_MEMORY, &m->memory, &err), 0);
    if (memory_image_save(memory, file, -1, 1, m->memory, &err) < 0)
        fail_msg("%s", err.msg);
}

static inline void fill_container(int dir, const struct snapshot_recipe *r, struct manifest_container *c, size_t i) {
    char name[32];
    snprintf(name, sizeof(name), MANIFEST_ROOTS "/%zu", i);
    assert_int_equal(mkdirat(dir, name, 0755), 0);
    cleanup_fd int root = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->fill)
        r->fill(root);
    else
        fill_file(root, "file", "in the root\n");
    if (r->lower)
        strv_add(&c->root.lowers, r->lower);
    assert_int_equal(tree_digest(root, &c->root.totals, NULL), 0);
}

static inline json_t *idle_spec(void) {
    return json_pack("{s:s, s:{s:{s:i, s:i}, s:[s, s], s:s}, s:{s:s}}", "ociVersion", "1.0.2", "process", "user", "uid",
                     0, "gid", 0, "args", "/bin/sleep", "1000", "cwd", "/", "root", "path", "/nowhere");
}

static inline void snapshot_make(const char *store_dir, const char *name, const struct snapshot_recipe *r) {
    struct store store = {.fd = -1};
    struct err err = ERR_INIT;
    cleanup_fd int dir = -1;
    cleanup_free char *tmp = NULL;
    const char *sandbox = r->sandbox ? r->sandbox : "web";
    const char *const only[] = {sandbox, NULL};
    const char *const *ids = r->containers[0] ? r->containers : only;
    struct manifest m = {.is_template = r->is_template,
                         .name = strdup(name),
                         .sandbox_id = strdup(sandbox),
                         .stasis_version = strdup(STASIS_VERSION),
                         .created_wall_usec = UINT64_C(1700000000000000),
                         .stopped_usec = 84000,
                         .device_size = strlen(SNAPSHOT_DEVICE)};
    m.machine = (struct manifest_machine){.vmm = strdup("0123456789abcdef"),
                                          .guest = strdup("fedcba9876543210"),
                                          .type = strdup("q35"),
                                          .accel = strdup("tcg"),
                                          .cpu = strdup("max"),
                                          .kernel_params = strdup(""),
                                          .memory = SNAPSHOT_MEMORY,
                                          .cpus = 2};
    if (store_open(store_dir, true, &store, &err) < 0 || store_begin(&store, name, &dir, &tmp, &err) < 0)
        fail_msg("%s", err.msg);
    fill_memory(dir, &m);
    fill_file(dir, MANIFEST_DEVICE, SNAPSHOT_DEVICE);
    struct sha256_ctx sha;
    sha256_init(&sha);
    sha256_update(&sha, strlen(SNAPSHOT_DEVICE), (const uint8_t *)SNAPSHOT_DEVICE);
    sha256_digest(&sha, sizeof(m.device_sha256), m.device_sha256);
    assert_int_equal(mkdirat(dir, MANIFEST_ROOTS, 0700), 0);
    m.containers = calloc(4, sizeof(*m.containers));
    for (; !r->is_template && ids[m.n_containers]; m.n_containers++) {
        struct manifest_container *c = &m.containers[m.n_containers];
        *c = (struct manifest_container){.id = strdup(ids[m.n_containers]),
                                         .guest_id = strdup(ids[m.n_containers]),
                                         .spec = r->spec ? json_incref(r->spec) : idle_spec(),
                                         .state = r->state ? json_incref(r->state) : json_object()};
        fill_container(dir, r, c, m.n_containers);
    }
    if (r->spoil)
        r->spoil(&m);
    if (manifest_write(dir, &m, &err) < 0)
        fail_msg("%s", err.msg);
    if (r->imported)
        fill_file(dir, SNAPSHOT_IMPORTED, "");
    if (store_commit(&store, tmp, name, true, &err) < 0)
        fail_msg("%s", err.msg);
    manifest_clear(&m);
    store_close(&store);
}
