/* SPDX-License-Identifier: Apache-2.0 */
/* What shapes a machine is in its description and in the template's name; nothing else is. */
#include "sandbox/machine.h"
#include "support.h"

#include <sys/stat.h>

#include "base/path.h"

struct fixture {
    struct tmpdir *tmp;
    struct config config;
};

static void make_dir(struct fixture *f, const char *name) {
    cleanup_free char *path = tmpdir_path(f->tmp, name);
    assert_int_equal(path_mkdirs(path, 0755, NULL), 0);
}

static void use(struct fixture *f, const char *vmm, const char *guest) {
    cleanup_free char *v = tmpdir_path(f->tmp, vmm), *g = tmpdir_path(f->tmp, guest);
    snprintf(f->config.vmm_root, sizeof(f->config.vmm_root), "%s", v);
    snprintf(f->config.guest_dir, sizeof(f->config.guest_dir), "%s", g);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    void *tmp = NULL;
    if (tmpdir_setup(&tmp) < 0)
        return -1;
    f->tmp = tmp;
    config_init(&f->config);
    f->config.accel = ACCEL_TCG;
    f->config.memory = 256 << 20;
    f->config.cpus = 2;
    make_dir(f, "vmm/1111/root");
    make_dir(f, "vmm/2222/root");
    make_dir(f, "guest/aaaa");
    make_dir(f, "guest/bbbb");
    use(f, "vmm/1111/root", "guest/aaaa");
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    void *tmp = f->tmp;
    free(f);
    return tmpdir_teardown(&tmp);
}

static struct machine here(const struct fixture *f, char name[ID_MAX + 1]) {
    struct machine m = {0};
    struct err err = ERR_INIT;
    if (machine_here(&f->config, &m, &err) < 0)
        fail_msg("%s", err.msg);
    machine_template_name(&m, name);
    assert_int_equal(id_validate("template name", name, &err), 0);
    return m;
}

static void described(void **state) {
    struct fixture *f = *state;
    char name[ID_MAX + 1];
    struct vm_spec spec;
    cleanup_machine struct machine m = here(f, name);
    assert_string_equal(m.made.vmm, "1111"); /* the directory whose name is a digest, not the "root" in it */
    assert_string_equal(m.made.guest, "aaaa");
    assert_string_equal(m.made.accel, "tcg");
    assert_string_equal(m.made.cpu, "max");
    assert_int_equal(strncmp(m.made.type, "q35:", 4), 0);
    assert_int_equal(strncmp(name, "tcg-256M-2cpu-", 14), 0);
    machine_vm_spec(&m, &spec);
    assert_string_equal(spec.vmm_root, f->config.vmm_root);
    assert_string_equal(spec.guest_dir, f->config.guest_dir);
    assert_int_equal(spec.memory, f->config.memory);
    assert_int_equal(spec.cpus, 2);
    machine_clear(&m);
    machine_clear(&m);
}

/* Each of these is another template, and none of them fits a machine saved before. */
static void all_that_shapes_it_counts(void **state) {
    struct fixture *f = *state;
    char names[8][ID_MAX + 1];
    const struct config base = f->config;
    struct machine m[8] = {0};
    size_t n = 0;
    m[n] = here(f, names[n]);
    n++;
    f->config.memory *= 2;
    m[n] = here(f, names[n]);
    n++;
    f->config = base;
    f->config.cpus = 1;
    m[n] = here(f, names[n]);
    n++;
    f->config = base;
    snprintf(f->config.kernel_params, sizeof(f->config.kernel_params), "quieter");
    m[n] = here(f, names[n]);
    n++;
    f->config = base;
    f->config.log_level = LOG_LEVEL_DEBUG; /* the agent's, on the kernel's command line */
    m[n] = here(f, names[n]);
    n++;
    f->config = base;
    use(f, "vmm/2222/root", "guest/aaaa");
    m[n] = here(f, names[n]);
    n++;
    use(f, "vmm/1111/root", "guest/bbbb");
    m[n] = here(f, names[n]);
    n++;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++) {
            struct err err = ERR_INIT;
            assert_string_not_equal(names[i], names[k]);
            assert_int_equal(manifest_check_machine(&m[k].made, &m[i].made, &err), -EBADMSG);
        }
    /* And what does not is no reason. */
    f->config = base;
    snprintf(f->config.snapshot_dir, sizeof(f->config.snapshot_dir), "/elsewhere");
    f->config.boot_timeout++;
    m[n] = here(f, names[n]);
    assert_string_equal(names[n], names[0]);
    for (size_t i = 0; i <= n; i++)
        machine_clear(&m[i]);
}

/* A saved machine has its own sizes, whatever the configuration says now. */
static void like_a_saved_one(void **state) {
    struct fixture *f = *state;
    char name[ID_MAX + 1];
    struct err err = ERR_INIT;
    cleanup_machine struct machine saved = here(f, name), m = {0};
    f->config.memory *= 4;
    f->config.cpus = 7;
    snprintf(f->config.kernel_params, sizeof(f->config.kernel_params), "other");
    assert_int_equal(machine_like(&f->config, &saved.made, &m, &err), 0);
    assert_int_equal(m.made.memory, saved.made.memory);
    assert_int_equal(m.made.cpus, 2);
    assert_string_equal(m.made.kernel_params, saved.made.kernel_params);
}

static void a_saved_one_that_cannot_run_here(void **state) {
    struct fixture *f = *state;
    char name[ID_MAX + 1];
    struct err err = ERR_INIT;
    cleanup_machine struct machine saved = here(f, name), m = {0};
    use(f, "vmm/2222/root", "guest/aaaa");
    assert_int_equal(machine_like(&f->config, &saved.made, &m, &err), -EBADMSG);
    ASSERT_SAYS(&err, "1111");
    ASSERT_SAYS(&err, "2222");
    use(f, "vmm/1111/root", "guest/bbbb");
    err = (struct err)ERR_INIT;
    assert_int_equal(machine_like(&f->config, &saved.made, &m, &err), -EBADMSG);
    ASSERT_SAYS(&err, "aaaa");
    ASSERT_SAYS(&err, "bbbb");
    use(f, "vmm/1111/root", "guest/aaaa");
    free(saved.made.type);
    saved.made.type = strdup("q35:0000000000000000");
    err = (struct err)ERR_INIT;
    assert_int_equal(machine_like(&f->config, &saved.made, &m, &err), -EBADMSG);
    ASSERT_SAYS(&err, "q35:0000000000000000");
    assert_null(m.vmm_root);
}

static void nothing_is_installed(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    cleanup_machine struct machine m = {0};
    use(f, "vmm/none/root", "guest/aaaa");
    assert_int_equal(machine_here(&f->config, &m, &err), -ENOENT);
    ASSERT_SAYS(&err, "no VMM root");
    use(f, "vmm/1111/root", "guest/none");
    err = (struct err)ERR_INIT;
    assert_int_equal(machine_here(&f->config, &m, &err), -ENOENT);
    ASSERT_SAYS(&err, "no guest");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(described),
        TEST(all_that_shapes_it_counts),
        TEST(like_a_saved_one),
        TEST(a_saved_one_that_cannot_run_here),
        TEST(nothing_is_installed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
