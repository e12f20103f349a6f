/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests and the store when memory runs out, at each allocation. */
#include "alloc_fault.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "manifests.h"
#include "snapshot/store.h"
#include "tmpdir.h"

static int read_it(void *arg, struct err *err) {
    const struct tmpdir *t = arg;
    cleanup_manifest struct manifest m = {0};
    return manifest_read(t->fd, &m, err);
}

static void reading_a_manifest(void **state) {
    struct tmpdir *t = *state;
    cleanup_manifest struct manifest m = sample_manifest();
    struct err err = ERR_INIT;
    if (manifest_write(t->fd, &m, &err) < 0)
        fail_msg("%s", err.msg);
    alloc_sweep(read_it, t);
}

struct writing {
    const struct tmpdir *t;
    struct manifest m;
};

static int write_it(void *arg, struct err *err) {
    const struct writing *w = arg;
    (void)unlinkat(w->t->fd, MANIFEST_FILE, 0);
    return manifest_write(w->t->fd, &w->m, err);
}

static void writing_a_manifest(void **state) {
    struct writing w = {.t = *state, .m = sample_manifest()};
    alloc_sweep(write_it, &w);
    manifest_clear(&w.m);
}

static int make_one(void *arg, struct err *err) {
    const struct tmpdir *t = arg;
    struct store s = {.fd = -1};
    cleanup_fd int dir = -1;
    cleanup_free char *tmp = NULL;
    int r = store_open(t->path, true, &s, err);
    if (r == 0)
        r = store_begin(&s, "one", &dir, &tmp, err);
    if (r == 0)
        r = store_commit(&s, tmp, "one", false, err);
    if (r < 0 && tmp)
        store_abort(&s, tmp);
    dir = fd_close(dir);
    if (r == 0)
        r = store_remove(&s, "one", err);
    /* When it is the removal that has no memory, the next round must be able to make it anew. */
    if (r < 0)
        (void)unlinkat(t->fd, "one", AT_REMOVEDIR);
    store_close(&s);
    return r;
}

static void the_store(void **state) {
    struct tmpdir *t = *state;
    assert_int_equal(chmod(t->path, 0700), 0);
    alloc_sweep(make_one, t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reading_a_manifest, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(writing_a_manifest, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test_setup_teardown(the_store, tmpdir_setup, tmpdir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
